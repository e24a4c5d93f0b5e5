r"""The theorems as functions: a weight-predicting layer as gates between fixed layers, exactly or at a stated error.

`to_gated` converts a structure, `layer` a `PredictedWeight`, `model` every one inside a trained network, `kernel_head`
the last convolution of anyone's kernel prediction network. A target
structure computes `target(code_map(code)) = source(code)` up to `bound`, for every code.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Axes
from fastweights.codes import Code, pointwise
from fastweights.cost import Cost, measure
from fastweights.kernel_heads import kernel_head as kernel_head
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct, Gated, Mixture, Structure, register


@dataclass(frozen=True)
class Bound:
    """Largest Frobenius error of the converted weight, but for the rounding of the products that use it.

    `|W - W'| <= constant + slope |code|`, for every code.
    """

    constant: float
    slope: float

    def __call__(self, code: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
        return self.constant + self.slope * code.norm(dim=-1)


class CodeMap(nn.Module):
    """A pointwise affine map of a code: `code' = A code + a`, or zeros appended when A is None.

    Args:
        weight: A (k', k), or None.
        bias: a (k'), or None.
        extra: numbers of zero appended, with weight None.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor | None = None, bias: Tensor | None = None, extra: int = 0):
        super().__init__()
        register(self, "weight", weight)
        register(self, "bias", bias)
        self.extra = extra

    def forward(self, code: Tensor, axis: int = -1) -> Tensor:
        if self.weight is None or self.bias is None:
            return F.pad(code, (0, 0) * (-axis - 1) + (0, self.extra)) if self.extra else code
        # A low-precision code does not round the map.
        dtype = torch.promote_types(code.dtype, self.weight.dtype)
        with torch.autocast(code.device.type, enabled=False):
            last = F.linear(code.movedim(axis, -1).to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return last.movedim(-1, axis)


@dataclass(frozen=True)
class Conversion:
    """A structure that computes the same weight: `structure(code_map(code))`, up to `bound`; `method` says how."""

    structure: Gated
    code_map: CodeMap
    bound: Bound
    method: str


@singledispatch
def to_gated(structure: Structure, *, gates: int | None = None, rank: int | None = None) -> Conversion:
    """A structure as a gated double layer.

    Args:
        structure: `Direct` (Theorem 3.1; with Patches axes Corollary 3.2) or `Mixture` (the cheapest unfolding).
        gates: for `Direct`, a number of gates >= i j; the gates above i j are zero. Default i j.
        rank: for `Mixture`, keep only this many gates; the bound then holds the truncation. Default exact.

    Returns:
        The gated structure, the map from the old code to its gates, and the bound.

    Raises:
        TypeError: no construction is known for this structure.
        ValueError: too few gates.

    Source: Müller 2024, Theorem 3.1 and its proof, Eq. 11-13. For mixtures the 3-tensor of templates is written as a
    canonical polyadic decomposition, which needs at most min(i j, m i, m j) gates for m templates, the base counted.

    >>> conversion = to_gated(Direct(3, 2))
    >>> code = torch.arange(6.0)
    >>> torch.equal(conversion.structure.materialize(conversion.code_map(code)), code.view(2, 3))
    True
    >>> to_gated(Mixture(torch.randn(16, 1, 200), torch.randn(1, 200))).structure.code_features
    17
    """
    raise TypeError(
        f"to_gated: no conversion of {type(structure).__name__} is known; its weight is not linear in its code "
        "(softmax) or has no fixed size. Direct, Mixture and Gated structures convert; at fixed sizes "
        "fastweights.equivalences.at_fixed_size converts an Outer layer"
    )


@to_gated.register
def _(structure: Direct, *, gates: int | None = None, rank: int | None = None) -> Conversion:
    i, j = structure.in_features, structure.out_features
    gates = (i * j if rank is None else rank) if gates is None else gates
    if gates < i * j:
        raise ValueError(
            f"to_gated: {gates} gates cannot hold every weight of {j} x {i} numbers and no bound holds for all codes; "
            f"give gates >= {i * j} (Theorem 3.1)"
        )
    k = torch.arange(gates)
    held = k < i * j
    v = ((k % i)[:, None] == torch.arange(i)) & held[:, None]  # Eq. 11
    u = (torch.div(k, i, rounding_mode="floor") == torch.arange(j)[:, None]) & held  # Eq. 12
    dtype = torch.get_default_dtype()
    return Conversion(
        Gated(u.to(dtype), v.to(dtype)), CodeMap(extra=gates - i * j), Bound(0.0, 0.0), "Theorem 3.1: one gate a weight"
    )


@to_gated.register
def _(structure: Gated, *, gates: int | None = None, rank: int | None = None) -> Conversion:
    if (gates or rank or structure.code_features) < structure.code_features:
        raise ValueError(f"to_gated: the structure has {structure.code_features} gates already and is not truncated")
    return Conversion(structure, CodeMap(), Bound(0.0, 0.0), "gated already")


@to_gated.register
def _(structure: Mixture, *, gates: int | None = None, rank: int | None = None) -> Conversion:
    if gates is not None:
        raise ValueError(f"to_gated: gates={gates} is for Direct; give rank= to truncate a Mixture")
    if rank is not None and rank < 1:
        raise ValueError(f"to_gated: rank is {rank}, expected at least 1")
    templates = structure.templates.detach().double()
    base = torch.zeros_like(templates[:1]) if structure.base is None else structure.base.detach().double()[None]
    tensor = torch.cat([templates, base])  # (m, j, i), the base last: its coefficient is one
    candidates = [unfold(tensor) for unfold in (_separate_templates, _mixed_templates)]
    candidates = [_strongest(terms, rank) for terms in candidates]
    candidates.append(_compressed_index(tensor, rank))
    # Exact: fewest gates. Truncated: smallest error at the same number.
    terms = min(candidates, key=lambda terms: len(terms.u) if rank is None else terms.residual(tensor).norm().item())
    terms = terms.to(structure.templates.dtype)
    residual = terms.to(tensor.dtype).residual(tensor)
    slope = torch.linalg.matrix_norm(residual[:-1].flatten(1), ord=2).item()
    # What was trained stays trainable.
    keep = nn.Parameter if next(structure.parameters(), None) is not None else torch.Tensor.contiguous
    code_map = CodeMap(keep(terms.coefficients[:, :-1]), keep(terms.coefficients[:, -1]))
    target = Gated(keep(terms.u.T.contiguous()), keep(terms.v))
    return Conversion(target, code_map, Bound(residual[-1].norm().item(), slope), terms.method)


@dataclass(frozen=True)
class _Terms:
    """A canonical polyadic decomposition: tensor[c] = sum_g coefficients[g, c] u[g] v[g]^T."""

    coefficients: Float[Tensor, "g m"]
    u: Float[Tensor, "g j"]
    v: Float[Tensor, "g i"]
    method: str

    def residual(self, tensor: Float[Tensor, "m j i"]) -> Float[Tensor, "m j i"]:
        return tensor - torch.einsum("gm,gj,gi->mji", self.coefficients, self.u, self.v)

    def to(self, dtype: torch.dtype) -> _Terms:
        return _Terms(self.coefficients.to(dtype), self.u.to(dtype), self.v.to(dtype), self.method)

    def keep(self, which: Tensor) -> _Terms:
        return _Terms(self.coefficients[which], self.u[which], self.v[which], self.method)


def _separate_templates(tensor: Float[Tensor, "m j i"]) -> _Terms:
    """Singular vectors of each template: sum of the ranks of the templates."""
    m, j, i = tensor.shape
    u, s, vh = torch.linalg.svd(tensor, full_matrices=False)
    which = (
        torch.eye(m, dtype=tensor.dtype, device=tensor.device).repeat_interleave(s.shape[1], 0) * s.flatten()[:, None]
    )
    terms = _Terms(which, u.mT.reshape(-1, j), vh.reshape(-1, i), "singular vectors of each template")
    kept = (s > _floor(s, tensor)).flatten()
    kept[:1] |= ~kept.any()  # templates of zeros keep one gate
    return terms.keep(kept)


def _mixed_templates(tensor: Float[Tensor, "m j i"]) -> _Terms:
    """The same after an orthogonal change of templates, which drops dependent ones (one output: Eckart-Young)."""
    left, s, right = torch.linalg.svd(tensor.flatten(1), full_matrices=False)
    count = max(1, int((s > _floor(s, tensor)).sum()))
    inner = _separate_templates(right[:count].unflatten(1, tensor.shape[1:]))
    mix = inner.coefficients @ (s[:count, None] * left[:, :count].T)
    return _Terms(mix, inner.u, inner.v, "singular vectors of orthogonal templates")


def _compressed_index(tensor: Float[Tensor, "m j i"], rank: int | None) -> _Terms:
    """Theorem 3.1 between orthonormal bases of the rows and columns that occur: r_j r_i gates."""
    m, j, i = tensor.shape
    columns, s_j, _ = torch.linalg.svd(tensor.movedim(1, 0).flatten(1), full_matrices=False)
    rows, s_i, _ = torch.linalg.svd(tensor.movedim(2, 0).flatten(1), full_matrices=False)
    p, q = (max(1, int((s > _floor(s, tensor)).sum())) for s in (s_j, s_i))
    if rank is not None and p * q > rank:
        energy = torch.einsum("mji,ja,ib->mab", tensor, columns, rows).square().sum(0).cumsum(0).cumsum(1)
        sizes = [(a, min(q, rank // a)) for a in range(1, min(p, rank) + 1)]
        p, q = max(sizes, key=lambda size: energy[size[0] - 1, size[1] - 1].item())
    columns, rows = columns[:, :p], rows[:, :q]
    core = torch.einsum("mji,ja,ib->abm", tensor, columns, rows)
    u, v = columns.T.repeat_interleave(q, 0), rows.T.repeat(p, 1)
    return _Terms(core.reshape(p * q, m), u, v, "Theorem 3.1 between bases of rows and columns")


def _strongest(terms: _Terms, rank: int | None) -> _Terms:
    if rank is None or len(terms.u) <= rank:
        return terms
    return terms.keep(terms.coefficients.norm(dim=1).argsort(descending=True)[:rank])


def _floor(singular: Tensor, tensor: Tensor) -> float:
    return max(tensor.shape) * torch.finfo(tensor.dtype).eps * float(singular.max())


class MappedPredictor(nn.Module):
    """A predictor followed by a code map; a predicted bias (the last `keep` numbers) is left alone."""

    def __init__(self, predictor: nn.Module, code_map: CodeMap, axes: Axes, keep: int = 0):
        super().__init__()
        self.predictor, self.code_map, self.axes, self.keep = predictor, code_map, axes, keep

    def forward(self, context: Any) -> Code:
        def mapped(code: Tensor) -> Tensor:
            axis = self.axes.code_axis(code)
            numbers, bias = code.split([code.shape[axis] - self.keep, self.keep], axis)
            return torch.cat([self.code_map(numbers, axis), bias], axis) if self.keep else self.code_map(code, axis)

        return pointwise(mapped, self.predictor(context))


def layer(source: PredictedWeight, *, rank: int | None = None) -> PredictedWeight:
    """A `PredictedWeight` with gates in place of its weight; same call, same output up to the conversion's bound.

    The predictor is the source's own, not a copy; what was trained stays trainable, without parametrisations such as a
    projection on zero sums, which fine-tuning may then leave.

    Raises TypeError where no conversion is known, ValueError for a rank that no bound covers (see `to_gated`).

    >>> from fastweights import zoo
    >>> source = zoo.HyperLinear(5, 3)
    >>> x = torch.randn(4, 5)
    >>> torch.allclose(layer(source)(x), source(x), atol=1e-6)
    True
    """
    return _convert_layer(source, rank)[0]


def _convert_layer(source: PredictedWeight, rank: int | None) -> tuple[PredictedWeight, Conversion]:
    conversion = to_gated(source.structure, rank=rank)
    predictor = MappedPredictor(source.predictor, conversion.code_map, source.axes, source.bias_features)
    target = PredictedWeight(conversion.structure, source.axes, predictor, affine=source.bias_features > 0)
    parameter = next(source.parameters(), None)
    return (target if parameter is None else target.to(parameter.device)), conversion


@dataclass(frozen=True)
class ConvertedLayer:
    """One line of a report."""

    name: str
    before: int
    after: int
    method: str
    bound: Bound

    def __str__(self) -> str:
        saving = "saves nothing" if self.after >= self.before else f"{self.before / self.after:.1f}x fewer"
        bound = f"|error| <= {self.bound.constant:.1e} + {self.bound.slope:.1e} |code|"
        error = "exact" if self.bound == Bound(0.0, 0.0) else bound
        return f"{self.name}: {self.before} predicted weights -> {self.after} gates, {saving} ({self.method}; {error})"


@dataclass(frozen=True)
class Report:
    """What a conversion did: a line a layer; with example inputs also the cost before and after, and the difference."""

    layers: tuple[ConvertedLayer, ...]
    before: Cost | None = None
    after: Cost | None = None
    difference: float | None = None

    def __str__(self) -> str:
        lines = [str(line) for line in self.layers] or ["no layer to convert"]
        if self.before is not None:
            lines += [f"before: {self.before}", f"after:  {self.after}", f"largest difference: {self.difference:.1e}"]
        return "\n".join(lines)


def model(module: nn.Module, *, rank: int | None = None, inputs: tuple[Tensor, ...] = ()) -> tuple[nn.Module, Report]:
    """A copy of a network with gates in place of every predicted weight, and a report; fine-tuning is plain training.

    Layers that no theorem covers (softmax attention) are left as they are.

    Args:
        module: any network with `PredictedWeight` layers inside; it is left as it is.
        rank: truncate mixtures to this many gates.
        inputs: example inputs; with them the report measures cost and difference, in eval mode, for one output tensor.

    >>> from fastweights import zoo
    >>> _, report = model(nn.Sequential(zoo.HyperLinear(5, 3), nn.ReLU()))
    >>> print(report)
    0: 15 predicted weights -> 15 gates, saves nothing (Theorem 3.1: one gate a weight; exact)
    """
    converted = copy.deepcopy(module)
    lines: list[ConvertedLayer] = []
    done: dict[int, PredictedWeight] = {}
    # Inner layers first, so that a layer inside another's predictor is found where its name says.
    for name, source in reversed(list(converted.named_modules(remove_duplicate=False))):
        if not isinstance(source, PredictedWeight) or not isinstance(source.structure, Direct | Mixture):
            continue
        if id(source) in done:  # used twice
            converted.set_submodule(name, done[id(source)])
            continue
        target, conversion = _convert_layer(source, rank if isinstance(source.structure, Mixture) else None)
        done[id(source)] = target
        gated = conversion.structure
        numbers = gated.in_features * gated.out_features
        name_shown = name or type(source).__name__
        lines.append(ConvertedLayer(name_shown, numbers, gated.code_features, conversion.method, conversion.bound))
        if name:
            converted.set_submodule(name, target)
        else:
            converted = target
    lines.reverse()
    if not inputs:
        return converted, Report(tuple(lines))
    before, after = (copy.deepcopy(network).eval() for network in (module, converted))
    with torch.no_grad():
        difference = (after(*inputs) - before(*inputs)).abs().max().item()
    return converted, Report(tuple(lines), measure(before, *inputs), measure(after, *inputs), difference)
