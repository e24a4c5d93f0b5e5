"""Whole-network weight prediction: a predictor emits weights of any module, for one context or a batch of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fastweights import network_calls as calls
from fastweights import network_products as products
from fastweights import network_routes as routes
from fastweights.head_modules import Given, Head, Joined
from fastweights.heads import Chunked, HeadSetting, Linear, LowRank
from fastweights.network_names import matching, put
from fastweights.network_products import PredictedTensor
from fastweights.network_routes import Route

ONE_LINEAR_HEAD = Linear()


class HyperNetwork(nn.Module):
    """A network whose weights another network predicts: `h(x, I) = g(x; f(I))`, for any module g.

    The predictor turns a context I into features, the head turns features into the chosen weights of g, the primary.
    A call gives what a loop over contexts would: for every context g with its weights, on its samples only. So the
    statistics of a BatchNorm in training are those of one context's samples, and its running statistics take one step
    a context, in order.

    Checkpoint whole calls only: inside the primary a second pass would find the primary's own weights.

    Shapes: the predictor emits (k) for one context or (B, k) for a batch; x is a tensor or a tuple of them.
        one context: g is called with x as it is.
        a context a sample: x (B, ...), and g sees one sample at a time, (1, ...).
        a context a group, `grouped=True`: x (B, N, ...), and g sees (N, ...).

    Args:
        primary: g. It is copied; its values are where the predicted weights start (see `fastweights.heads`).
        predictor: f, any module. With head=None it emits all predicted numbers itself, in the order of `shapes`.
        predict: one or several patterns (fnmatch) for names of parameters; all others stay ordinary parameters.
        head: a setting of `fastweights.heads`, or None.
        delta: add the prediction to a learned base, the primary's own parameters; heads start with a change of zero.
        features: k; default `out_features` of the predictor's last layer that has one.
        route: "auto" chooses by counting; "materialise" and "reassociate" (chains of known layers only), "vmap" and
            "loop" force one.
        memory_limit: most bytes that a head may hold, and that the weights of all contexts of a call may take where
            they are formed; 1 GiB.

    Raises:
        TypeError: a head that is no setting; x, or a result of the primary, that is no tensor.
        ValueError: a pattern or a size that does not fit, a head or weights above the memory limit; the message names
            both, and what fits.

    Source: Galanti and Wolf 2020, Sec. 2; delta: Ortiz 2023; heads: Ha 2016, Sitzmann 2020, Müller 2024.

    >>> primary = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> hyper = HyperNetwork(primary, nn.Linear(7, 57), head=None)
    >>> hyper(torch.randn(4, 5), torch.randn(4, 7)).shape
    torch.Size([4, 1])
    >>> hyper(torch.randn(4, 32, 5), torch.randn(4, 7), grouped=True).shape
    torch.Size([4, 32, 1])
    >>> hyper(torch.randn(32, 5), torch.randn(7)).shape
    torch.Size([32, 1])
    """

    def __init__(
        self,
        primary: nn.Module,
        predictor: nn.Module,
        predict: str | Sequence[str] = "*",
        *,
        head: HeadSetting | None = ONE_LINEAR_HEAD,
        delta: bool = False,
        features: int | None = None,
        route: Route = "auto",
        memory_limit: int = 2**30,
    ):
        super().__init__()
        if route not in get_args(Route):
            raise ValueError(f"HyperNetwork: route={route!r}, expected one of {', '.join(get_args(Route))}")
        if head is not None and not isinstance(head, HeadSetting):
            raise TypeError(f"HyperNetwork: head={head!r}, expected a setting such as heads.Linear(), or None")
        self.primary = copy.deepcopy(primary)
        self.predictor, self.delta, self.route, self.memory_limit = predictor, delta, route, memory_limit
        self.aliases = matching(self.primary, (predict,) if isinstance(predict, str) else tuple(predict))
        values = [self.primary.get_parameter(names[0]) for names in self.aliases]
        self.shapes = {names[0]: tuple(value.shape) for names, value in zip(self.aliases, values, strict=True)}
        self.features = self._numbers() if head is None else features or last_size(predictor)
        built = Given(list(self.shapes.values())) if head is None else self._build(head, values, memory_limit)
        self.head: Head = built.to(device=values[0].device, dtype=values[0].dtype)
        if not delta:
            for names in self.aliases:
                put(self.primary, names, None)
            calls.refresh_recurrent(self.primary)

    def forward(self, x: Any, context: Any, *, grouped: bool = False) -> Any:
        """g(x; f(context)); x a tensor or a tuple of tensors, the result as g gives it."""
        return self._run(x, context, grouped, None)

    def weights(self, context: Any) -> dict[str, Tensor]:
        """The predicted tensors by name, (*shape) for one context or (B, *shape) for a batch."""
        return self._formed(self._code(context))

    def bake(self, context: Any) -> nn.Module:
        """The primary as a plain module with the weights of one context, to export or to train on.

        >>> hyper = HyperNetwork(nn.Linear(5, 2), nn.Linear(7, 3))
        >>> x, context = torch.randn(4, 5), torch.randn(7)
        >>> torch.allclose(hyper.bake(context)(x), hyper(x, context), atol=1e-6)
        True
        """
        code = self._code(context)
        if code.ndim != 1:
            raise ValueError(
                f"bake: the predictor gave {tuple(code.shape)}, expected one context (k); bake them in turn"
            )
        baked = copy.deepcopy(self.primary)
        for names, tensor in zip(self.aliases, self._formed(code).values(), strict=True):
            put(baked, names, nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format)))
        calls.refresh_recurrent(baked)
        return baked

    def call_with(self, weights: dict[str, Tensor], x: Any, *, grouped: bool = False) -> Any:
        """g with a batch of given weights (B, *shape), as `weights` returns them, by vmap or a loop."""
        inputs = calls.as_inputs(x)
        if {name: tuple(weight.shape[1:]) for name, weight in weights.items()} != self.shapes:
            found = {name: tuple(weight.shape) for name, weight in weights.items()}
            raise ValueError(f"call_with: weights of shapes {found}, expected (B, *shape) of {self.shapes}")
        calls.check_batch(next(iter(weights.values())).shape[0], inputs, grouped)
        y = self._plain(weights, inputs if grouped else tuple(x.unsqueeze(1) for x in inputs), {})
        return y if grouped else calls.one_sample(y)

    def routes(self, x: Any, context: Any, *, grouped: bool = False) -> dict[str, str]:
        """The route that a call takes, by name of the predicted weight; `{"*": route}` where it is one for all.

        "chain" is a chain of known layers in which no weight is predicted, only biases or gains.

        >>> hyper = HyperNetwork(nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(7, 16))
        >>> hyper.routes(torch.randn(128, 64), torch.randn(128, 7))
        {'0.weight': 'reassociate'}
        >>> hyper.routes(torch.randn(32, 256, 64), torch.randn(32, 7), grouped=True)
        {'0.weight': 'materialise'}
        """
        taken: dict[str, str] = {}
        with torch.no_grad():
            self._run(x, context, grouped, taken)
        return taken

    def extra_repr(self) -> str:
        return (
            f"{len(self.shapes)} predicted tensors, {self._numbers()} numbers, delta={self.delta}, route={self.route}"
        )

    def _run(self, x: Any, context: Any, grouped: bool, taken: dict[str, str] | None) -> Any:
        inputs = calls.as_inputs(x)
        code = self._code(context)
        single = code.ndim == 1
        if not single:
            calls.check_batch(code.shape[0], inputs, grouped)
        # In front of what the primary takes, every input gets an axis of groups, one for each context.
        groups = inputs if grouped and not single else tuple(x.unsqueeze(0 if single else 1) for x in inputs)
        y = self._groups(code.unsqueeze(0) if single else code, groups, {} if taken is None else taken)
        if single:
            return tree_map_only(Tensor, lambda leaf: leaf.squeeze(0), y)
        return y if grouped else calls.one_sample(y)

    def _groups(self, code: Tensor, inputs: tuple[Any, ...], taken: dict[str, str]) -> Any:
        modules = routes.chain(self.primary, inputs) if self.route in ("auto", "materialise", "reassociate") else None
        if modules is not None:
            order: Any = None if self.route == "auto" else self.route
            tensors: Any = self._formed(code) if self._forms_all(code, inputs[0]) else self._tensors(code)
            named = {name: t for names, t in zip(self.aliases, tensors.values(), strict=True) for name in names}
            run = routes.Chain(modules, named, order, lambda formed: self._check_memory(code, formed))
            y = run(inputs[0])
            taken.update(run.orders)
            if not run.orders:
                taken["*"] = "chain"
            return y
        if self.route in ("materialise", "reassociate"):
            raise ValueError(
                f"route={self.route!r}: {type(self.primary).__name__} is no chain of known layers on batches of "
                "samples; pass route='auto'"
            )
        return self._plain(self._formed(code), inputs, taken)

    def _plain(self, weights: dict[str, Tensor], inputs: tuple[Any, ...], taken: dict[str, str]) -> Any:
        one = next(iter(weights.values())).shape[0] == 1
        loop = self.route == "loop" or (self.route != "vmap" and (one or calls.needs_loop(self.primary)))
        taken["*"] = "loop" if loop else "vmap"
        # A module in two places is given its weights once, or functional_call would not find back to what was there.
        modules = dict(self.primary.named_modules())
        places = ((name, names[0]) for names in self.aliases for name in names)
        named = {name: weights[first] for name, first in places if name.rpartition(".")[0] in modules}
        return (calls.by_loop if loop else calls.by_vmap)(self.primary, named, inputs)

    def _code(self, context: Any) -> Float[Tensor, "*b k"]:
        code = self.predictor(context)
        if not isinstance(code, Tensor) or code.ndim not in (1, 2) or code.shape[-1] != self.features:
            found = tuple(code.shape) if isinstance(code, Tensor) else type(code).__name__
            what = "numbers, one for each predicted weight" if isinstance(self.head, Given) else "features"
            raise ValueError(
                f"HyperNetwork: the predictor gave {found}, expected ({self.features}) or (B, {self.features}): "
                f"{self.features} {what}"
            )
        return code

    def _tensors(self, code: Tensor) -> dict[str, PredictedTensor]:
        codes = self.head.codes(code)
        parts = zip(self.shapes.items(), self.head.structures, codes, strict=True)
        return {
            name: PredictedTensor(structure, part, self.primary.get_parameter(name) if self.delta else None, shape)
            for (name, shape), structure, part in parts
        }

    def _forms_all(self, code: Tensor, x: Tensor) -> bool:
        """Whether a chain forms all weights, and so at once."""
        if not isinstance(self.head, Joined) or self.route == "reassociate":
            return False
        counted = products.forms_all(self.shapes.values(), self.features, *x.shape[:2])
        return self.route == "materialise" or counted

    def _formed(self, code: Tensor) -> dict[str, Tensor]:
        """The predicted tensors by name, (*b, *shape)."""
        if code.ndim == 2:
            self._check_memory(code, code.shape[0] * self._numbers())
        if not isinstance(self.head, Joined):
            return {name: tensor.dense() for name, tensor in self._tensors(code).items()}
        values = [self.primary.get_parameter(name) for name in self.shapes] if self.delta else None
        return dict(zip(self.shapes, self.head.formed(code, values), strict=True))

    def _numbers(self) -> int:
        """Predicted numbers of one context."""
        return sum(map(math.prod, self.shapes.values()))

    def _check_memory(self, code: Tensor, numbers: int) -> None:
        """Whether so many predicted numbers may be formed for all contexts; those of one context always may."""
        contexts, size = code.shape[0], code.element_size()  # len would tie a compiled call to one
        if contexts == 1 or numbers * size <= self.memory_limit:
            return
        fitting = max(self.memory_limit // (self._numbers() * size), 1)
        raise ValueError(
            f"HyperNetwork: forming the weights of {contexts} contexts takes {_mebibytes(numbers * size)} or more, "
            f"above memory_limit={_mebibytes(self.memory_limit)}; pass at most {fitting} contexts a call, predict "
            "fewer weights, or take a head whose weights need not be formed, LowRank or GatedWeights with "
            "route='reassociate' (chains of linear layers and convolutions)"
        )

    def _build(self, head: HeadSetting, values: list[nn.Parameter], memory_limit: int) -> Head:
        shapes, size = list(self.shapes.values()), values[0].element_size()
        needed = head.numbers(shapes, self.features, self.delta) * size
        if needed > memory_limit:
            others = (LowRank(rank=4), Chunked())
            instead = [
                f"{other} with {_mebibytes(other.numbers(shapes, self.features, True) * size)}" for other in others
            ]
            raise ValueError(
                f"HyperNetwork: {head} from {self.features} features to {sum(map(math.prod, shapes)):,} weights holds "
                f"{_mebibytes(needed)}, above memory_limit={_mebibytes(memory_limit)}; take {' or '.join(instead)} "
                "(delta=True), or predict fewer weights"
            )
        return head.build(values, self.features, self.delta)


def last_size(predictor: nn.Module, caller: str = "HyperNetwork", argument: str = "features") -> int:
    """`out_features` of the last layer that has one; the error names what to pass instead."""
    for module in reversed(list(predictor.modules())):
        if isinstance(module, nn.Linear):
            return module.out_features
        if isinstance(module, nn.Embedding):
            return module.embedding_dim
    raise ValueError(
        f"{caller}: the number of features that {type(predictor).__name__} emits is unknown; pass {argument}="
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
