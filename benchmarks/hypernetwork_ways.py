"""The networks that `benchmarks.hypernetwork` times, and the ways to predict their weights."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fastweights import HyperNetwork

FEATURES = 64


def mlp() -> nn.Sequential:
    """64-64-64-1."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = norm(out), norm(out)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """relu(x + f(x))."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Three blocks of 16, 32, 64 channels, on 3 x 32 x 32 images."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        *(Block(16, 16, 1, norm), Block(16, 32, 2, norm), Block(32, 64, 2, norm)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    ).eval()


def products(contexts: int, samples: int, backward: bool) -> Callable[[], None]:
    """Only the multiplications of weights and of layers, each into memory that is there already.

    With backward, also those for the gradients of context and head, and of all layers but of x itself.
    """
    sizes = [(parameter.shape[0], parameter[0].numel()) for parameter in mlp().parameters() if parameter.ndim == 2]
    count = sum(parameter.numel() for parameter in mlp().parameters())
    shapes = [(1, contexts, FEATURES, count)]  # batch, rows, inner, columns
    shapes += [(contexts, samples, i, j) for j, i in sizes]
    if backward:
        shapes += [(contexts, j, samples, i) for j, i in sizes] + [(contexts, samples, j, i) for j, i in sizes[1:]]
        shapes += [(1, count, contexts, FEATURES), (1, contexts, count, FEATURES)]
    operands = [(torch.randn(b, r, k), torch.randn(b, k, c), torch.empty(b, r, c)) for b, r, k, c in shapes]

    def call() -> None:
        for left, right, out in operands:
            torch.bmm(left, right, out=out)

    return call


class Ours(nn.Module):
    """One line."""

    def __init__(self) -> None:
        super().__init__()
        self.network = HyperNetwork(mlp(), nn.Identity(), features=FEATURES)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        return self.network(x, context, grouped=True)


class OneHead(nn.Module):
    """What one writes without a library: a linear layer for all weights, split by name."""

    def __init__(self) -> None:
        super().__init__()
        self.primary = mlp()
        self.shapes = {name: value.shape for name, value in self.primary.named_parameters()}
        self.head = nn.Linear(FEATURES, sum(shape.numel() for shape in self.shapes.values()))

    def weights(self, context: Tensor) -> dict[str, Tensor]:
        """(B, *shape) by name."""
        parts = self.head(context).split([shape.numel() for shape in self.shapes.values()], -1)
        return {n: part.unflatten(-1, shape) for (n, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def parameters(self, recurse: bool = True) -> Any:
        """The head's: the primary holds sizes only."""
        return self.head.parameters(recurse)


class ByHand(OneHead):
    """Batched products of this one network, written out."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        w1, b1, w2, b2, w3, b3 = self.weights(context).values()
        x = F.relu(torch.baddbmm(b1[:, None], x, w1.mT))
        x = F.relu(torch.baddbmm(b2[:, None], x, w2.mT))
        return torch.baddbmm(b3[:, None], x, w3.mT)


class ByVmap(OneHead):
    """torch.func.vmap over functional_call."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        return torch.vmap(lambda w, x: functional_call(self.primary, w, (x,)))(self.weights(context), x)


class Hyperlight(nn.Module):
    """hyperlight: weights of all contexts at once, `unbind` instead of indexing, one call a context."""

    def __init__(self) -> None:
        super().__init__()
        import hyperlight

        primary = mlp()
        self.primary = hyperlight.hypernetize(primary, modules=hyperlight.find_modules_of_type(primary, [nn.Linear]))
        self.hyper = hyperlight.HyperNet(
            input_shapes={"h": (FEATURES,)},
            output_shapes=self.primary.external_shapes(),
            hidden_sizes=[],
            encoding=None,
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        weights = {name: value.unbind() for name, value in self.hyper(h=context).items()}
        rows = []
        for number, part in enumerate(x.unbind()):
            with self.primary.using_externals({name: value[number] for name, value in weights.items()}):
                rows.append(self.primary(part))
        return torch.stack(rows)


class Hypnettorch(nn.Module):
    """hypnettorch: a list of weights for each context, one call a context."""

    def __init__(self) -> None:
        super().__init__()
        from hypnettorch.hnets import HMLP
        from hypnettorch.mnets import MLP

        self.primary = MLP(n_in=64, n_out=1, hidden_layers=(64, 64), no_weights=True, verbose=False)
        shapes = self.primary.param_shapes
        self.hyper = HMLP(shapes, uncond_in_size=FEATURES, cond_in_size=0, num_cond_embs=0, layers=(), verbose=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        weights = self.hyper.forward(uncond_input=context, ret_format="sequential")
        return torch.stack([self.primary.forward(p, weights=w) for p, w in zip(x.unbind(), weights, strict=True)])


class HyperNN(nn.Module):
    """hyper-nn: weights of one context a call, from a head that one writes oneself."""

    def __init__(self) -> None:
        super().__init__()
        from hypernn.torch import TorchHyperNetwork

        class Network(TorchHyperNetwork):
            def __init__(self) -> None:
                super().__init__(mlp())
                self.head = nn.Linear(FEATURES, self.num_target_parameters)

            def generate_params(self, context: Tensor) -> tuple[Tensor, dict[str, Any]]:
                return self.head(context), {}

        self.network = Network()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        pairs = zip(x.unbind(), context.unbind(), strict=True)
        return torch.stack([self.network(part, generate_params_kwargs={"context": one}) for part, one in pairs])


def ways() -> dict[str, nn.Module]:
    """Every way whose packages are installed; the first three share their weights."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"HyperNetwork": Ours(), "by hand": ByHand(), "vmap": ByVmap()}
    structures = list(found["HyperNetwork"].network.head.structures)  # type: ignore[union-attr, arg-type]
    for name in ("by hand", "vmap"):
        head = found[name].head
        with torch.no_grad():
            head.weight.copy_(torch.cat([s.templates.flatten(1).T for s in structures]))  # type: ignore[union-attr, operator]
            head.bias.copy_(torch.cat([s.base.flatten() for s in structures]))  # type: ignore[union-attr, operator]
    libraries = {"hyperlight": Hyperlight, "hypnettorch": Hypnettorch, "hypernn": HyperNN}
    for name, build in libraries.items():
        if find_spec(name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = build()
    return found
