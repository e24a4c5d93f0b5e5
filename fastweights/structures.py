"""How a code becomes a weight: the four structures behind every predicted weight.

A structure knows one closed form `W(code)` and one product `W(code) x`. Both are written independently of each
other, so that each is a test of the other. Letters: i in, j out, k code, r rank, `*b` leading (batch) axes.

Leading axes of code and x broadcast: a code of leading shape (B, 1) is shared by the N rows of an x of leading
shape (B, N), and then its dense weight is formed once instead of N times.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

PairCode = tuple[Tensor, Tensor]


class Structure(nn.Module, abc.ABC):
    """Abstract: a map from a code to a weight matrix of shape (j, i). The classes below are final."""

    in_features: int | None
    out_features: int | None
    code_features: int | None

    @abc.abstractmethod
    def materialize(self, code):
        """Dense weight `W(code)` of shape (*b, j, i), in closed form."""

    @abc.abstractmethod
    def forward(self, code, x: Tensor) -> Tensor:
        """Product `W(code) x` of shape (*b, j); leading axes of code and x broadcast."""

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, code={self.code_features}"


class Direct(Structure):
    """The code is the weight: `W = code`, row-major in (j, i).

    Source: Eq. 1 of Müller 2024 (Ha 2016, Schmidhuber 1992).

    >>> direct = Direct(3, 2)
    >>> code = torch.arange(6.0)
    >>> direct.materialize(code)
    tensor([[0., 1., 2.],
            [3., 4., 5.]])
    >>> direct(code, torch.ones(3))
    tensor([ 3., 12.])
    """

    in_features: int
    out_features: int
    code_features: int

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"Direct: a weight of {out_features} x {in_features} numbers, expected at least 1 x 1")
        self.in_features, self.out_features = in_features, out_features
        self.code_features = in_features * out_features

    def materialize(self, code: Float[Tensor, "*b k"]) -> Float[Tensor, "*b j i"]:
        _check_code(self, code)
        return code.unflatten(-1, (self.out_features, self.in_features))

    def forward(self, code: Float[Tensor, "*b k"], x: Float[Tensor, "*p i"]) -> Float[Tensor, "*q j"]:
        _check_code(self, code)
        _check_x(self, x)
        return weight_times_x(code.unflatten(-1, (self.out_features, self.in_features)), x)


class Mixture(Structure):
    """A weighted sum of fixed templates: `W = base + sum_k code_k T_k`.

    A linear head on a predictor, CondConv (Eq. 27) and the multiplicative-interaction layer are mixtures; with
    templates that touch only a bias it is the embedding method.

    Args:
        templates: (k, j, i). An `nn.Parameter` is trained, a plain tensor is a fixed buffer.
        base: (j, i), or None for zero.

    >>> mixture = Mixture(torch.eye(2)[:, None, :], base=torch.ones(1, 2))
    >>> mixture.materialize(torch.tensor([2.0, 3.0]))
    tensor([[3., 4.]])
    """

    in_features: int
    out_features: int
    code_features: int
    templates: Tensor
    base: Tensor | None

    def __init__(self, templates: Tensor, base: Tensor | None = None):
        super().__init__()
        if templates.ndim != 3:
            raise ValueError(f"Mixture: templates have shape {tuple(templates.shape)}, expected (k, j, i)")
        if min(templates.shape) < 1:
            raise ValueError(f"Mixture: templates have shape {tuple(templates.shape)}, expected sizes of at least 1")
        if base is not None and base.shape != templates.shape[1:]:
            raise ValueError(
                f"Mixture: base has shape {tuple(base.shape)}, expected {tuple(templates.shape[1:])} (j, i) as the "
                "templates have"
            )
        self.code_features, self.out_features, self.in_features = templates.shape
        register(self, "templates", templates)
        register(self, "base", base)

    def materialize(self, code: Float[Tensor, "*b k"]) -> Float[Tensor, "*b j i"]:
        _check_code(self, code)
        code, templates = _promote(code, self.templates)
        weight = torch.tensordot(code, templates, dims=1)
        return weight if self.base is None else weight + self.base.to(weight.dtype)

    def forward(self, code: Float[Tensor, "*b k"], x: Float[Tensor, "*p i"]) -> Float[Tensor, "*q j"]:
        _check_code(self, code)
        _check_x(self, x)
        k, positions = self.code_features, _positions(code, x)
        # Per entry of W: forming it costs k a code, then one a position; templates first cost k a position.
        if _count(code) * k + positions < positions * k:
            return weight_times_x(self.materialize(code), x)
        code, wide = _promote(code, x)
        y = torch.einsum("kji,...i->...kj", self.templates.to(wide.dtype), wide)
        y = torch.einsum("...k,...kj->...j", code, y)
        if self.base is not None:
            y = y + wide @ self.base.to(wide.dtype).mT
        return y.to(x.dtype)


class Gated(Structure):
    """The gated double layer: `W = U diag(code) V`, a gate between two fixed layers (Eq. 5).

    Args:
        u: (j, k), or None for the identity (then j = k).
        v: (k, i), or None for the identity (then i = k).
        gates: number of gates k, needed only when u and v are both None.
            An `nn.Parameter` is trained, a plain tensor is a fixed buffer.

    >>> gated = Gated(u=torch.ones(1, 2), v=torch.eye(2))
    >>> gated.materialize(torch.tensor([5.0, 7.0]))
    tensor([[5., 7.]])
    >>> gated(torch.tensor([5.0, 7.0]), torch.tensor([1.0, 10.0]))
    tensor([75.])
    """

    in_features: int
    out_features: int
    code_features: int
    u: Tensor | None
    v: Tensor | None

    def __init__(self, u: Tensor | None, v: Tensor | None, gates: int | None = None):
        super().__init__()
        if any(side is not None and side.ndim != 2 for side in (u, v)):
            raise ValueError(f"Gated: u {_shape(u)}, v {_shape(v)}: expected matrices, u (j, k) and v (k, i)")
        found = (None if u is None else u.shape[1], None if v is None else v.shape[0], gates)
        sizes = {size for size in found if size is not None}
        if len(sizes) != 1:
            shapes = f"u {_shape(u)}, v {_shape(v)}, gates {gates}"
            raise ValueError(f"Gated: {shapes} do not agree on one number of gates; u is (j, k), v is (k, i)")
        if min([*sizes, *(size for side in (u, v) if side is not None for size in side.shape)]) < 1:
            raise ValueError(f"Gated: u {_shape(u)}, v {_shape(v)}, gates {gates}: expected at least 1 of everything")
        (self.code_features,) = sizes
        self.out_features = self.code_features if u is None else u.shape[0]
        self.in_features = self.code_features if v is None else v.shape[1]
        register(self, "u", u)
        register(self, "v", v)

    def materialize(self, code: Float[Tensor, "*b k"]) -> Float[Tensor, "*b j i"]:
        _check_code(self, code)
        weight = torch.diag_embed(code) if self.v is None else code.unsqueeze(-1) * self.v
        return weight if self.u is None else torch.matmul(*_promote(self.u, weight))

    def forward(self, code: Float[Tensor, "*b k"], x: Float[Tensor, "*p i"]) -> Float[Tensor, "*q j"]:
        _check_code(self, code)
        _check_x(self, x)
        i, j, k, positions = self.in_features, self.out_features, self.code_features, _positions(code, x)
        gated = positions * k * ((self.v is not None) * i + 1 + (self.u is not None) * j)
        if (self.u is not None or self.v is not None) and _count(code) * j * k * i + positions * j * i < gated:
            return weight_times_x(self.materialize(code), x)
        code, wide = _promote(code, x)
        hidden = wide if self.v is None else wide @ self.v.to(wide.dtype).mT
        hidden = hidden * code
        return (hidden if self.u is None else hidden @ self.u.to(hidden.dtype).mT).to(x.dtype)


class Outer(Structure):
    """A function of an outer product: `W = f(P Q^T)`, code = (P, Q) flat in (j, r) and (i, r).

    With f = `softmax` it is dot-product attention (Eq. 18-20), with f = identity a linear attention or basis
    prediction (P per pixel, Q per image). j and i are read off the code, so a sequence may have any length.

    Args:
        rank: r, the length of the vectors whose products fill the matrix.
        f: maps (*b, j, i) to the same shape; None is the identity and then the matrix is never formed.

    >>> outer = Outer(rank=1)
    >>> P, Q = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
    >>> outer.materialize((P, Q))
    tensor([[10., 20., 30.],
            [20., 40., 60.]])
    """

    def __init__(self, rank: int, f: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        if rank < 1:
            raise ValueError(f"Outer: rank is {rank}, expected at least 1")
        self.in_features = self.out_features = self.code_features = None
        self.rank, self.f = rank, f

    def materialize(self, code: PairCode) -> Float[Tensor, "*b j i"]:
        p, q = self._factors(code)
        weight = torch.einsum("...jr,...ir->...ji", p, q)
        return weight if self.f is None else self.f(weight)

    def forward(self, code: PairCode, x: Float[Tensor, "*p i"]) -> Float[Tensor, "*q j"]:
        p, q = (_promote(factor, x)[0] for factor in self._factors(code))
        if self.f is None:
            return weight_times_x(p, weight_times_x(q.mT, x))
        return weight_times_x(self.f(p @ q.mT), x)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, f={'identity' if self.f is None else getattr(self.f, '__name__', self.f)}"

    def _factors(self, code: PairCode) -> PairCode:
        if not isinstance(code, tuple) or len(code) != 2:
            raise TypeError(f"Outer takes a pair of codes (P, Q), got {type(code).__name__}")
        for name, factor in zip("PQ", code, strict=True):
            if factor.shape[-1] % self.rank:
                raise ValueError(
                    f"Outer(rank={self.rank}): {name} has {factor.shape[-1]} numbers, expected a multiple of the rank"
                )
        p, q = code
        return p.unflatten(-1, (-1, self.rank)), q.unflatten(-1, (-1, self.rank))


def softmax(scores: Float[Tensor, "*b j i"]) -> Float[Tensor, "*b j i"]:
    """The f of attention: every output a weighted mean over i. `Outer` with this very function has a fast way."""
    return scores.softmax(-1)


def weight_times_x(weight: Float[Tensor, "*b j i"], x: Float[Tensor, "*p i"]) -> Float[Tensor, "*q j"]:
    """`y = W x` with broadcast leading axes; positions that share a weight become one matrix product.

    Low-precision weights with a wider x (or the reverse) are multiplied in the wider type, returned in x's.
    """
    weight, wide = _promote(weight, x)
    lead = max(weight.ndim - 2, wide.ndim - 1)
    weight = weight.reshape((1,) * (lead - weight.ndim + 2) + tuple(weight.shape))
    wide = wide.reshape((1,) * (lead - wide.ndim + 1) + tuple(wide.shape))
    shared = 0
    while shared < lead and weight.shape[lead - 1 - shared] == 1:
        shared += 1
    if shared == 0:
        return torch.einsum("...ji,...i->...j", weight, wide).to(x.dtype)
    keep = lead - shared
    rows = wide.reshape(*wide.shape[:keep], math.prod(wide.shape[keep:-1]), wide.shape[-1])
    y = rows @ weight.reshape(*weight.shape[:keep], *weight.shape[-2:]).mT
    return y.reshape(*y.shape[:keep], *wide.shape[keep:-1], y.shape[-1]).to(x.dtype)


def _promote(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def register(module: nn.Module, name: str, value: Tensor | None) -> None:
    """A parameter stays one, a plain tensor becomes a buffer."""
    if isinstance(value, nn.Parameter) or value is None:
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _shape(value: Tensor | None) -> str:
    return "None" if value is None else str(tuple(value.shape))


def _count(code: Tensor) -> int:
    return math.prod(code.shape[:-1])


def _positions(code: Tensor, x: Tensor) -> int:
    return math.prod(torch.broadcast_shapes(code.shape[:-1], x.shape[:-1]))


def _check_code(structure: Structure, code: Tensor) -> None:
    if not isinstance(code, Tensor):
        raise TypeError(f"{type(structure).__name__} takes a code of one tensor, got {type(code).__name__}")
    if code.shape[-1] != structure.code_features:
        raise ValueError(
            f"{type(structure).__name__}({structure.extra_repr()}): the code has shape {tuple(code.shape)}, expected "
            f"{structure.code_features} numbers on its last axis"
        )


def _check_x(structure: Structure, x: Tensor) -> None:
    if x.shape[-1] != structure.in_features:
        raise ValueError(
            f"{type(structure).__name__}({structure.extra_repr()}): x has shape {tuple(x.shape)}, expected "
            f"{structure.in_features} numbers on its last axis"
        )
