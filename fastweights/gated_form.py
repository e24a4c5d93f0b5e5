"""A structure as gates between fixed layers, exactly or at a stated error: Theorem 3.1 and what is cheaper.

`target(code_map(code)) = source(code)` up to `bound`, for every code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights import decompositions
from fastweights.decompositions import Terms
from fastweights.structures import Direct, Gated, Mixture, Structure, register

Method = Literal["unfolding", "cp"]


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
    """A structure that computes the same weight: `structure(code_map(code))`, up to `bound`; `method` says how.

    bound: certified, it holds for every code. measured: the root mean square error of the weights of the codes that
    were given, relative to these weights; it says nothing of others. None where no codes were given.
    """

    structure: Gated
    code_map: CodeMap
    bound: Bound
    method: str
    measured: float | None = None


@dataclass(frozen=True)
class ConvertedLayer:
    """One line of a report."""

    name: str
    before: int
    after: int
    method: str
    bound: Bound
    measured: float | None = None
    was: str = "predicted weights"

    @property
    def error(self) -> str:
        """Exact, or the bound for every code and what was measured."""
        bound = f"certified: |error| <= {self.bound.constant:.1e} + {self.bound.slope:.1e} |code|"
        measured = "" if self.measured is None else f"; measured on the inputs: {self.measured:.1e} of the weight"
        return ("exact" if self.bound == Bound(0.0, 0.0) else bound) + measured

    def __str__(self) -> str:
        saving = "saves nothing" if self.after >= self.before else f"{self.before / self.after:.1f}x fewer"
        return f"{self.name}: {self.before} {self.was} -> {self.after} gates, {saving} ({self.method}; {self.error})"


@singledispatch
def to_gated(
    structure: Structure,
    *,
    gates: int | None = None,
    rank: int | None = None,
    method: Method = "unfolding",
    codes: Float[Tensor, "*n k"] | None = None,
) -> Conversion:
    """A structure as a gated double layer.

    Args:
        structure: `Direct` (Theorem 3.1; with Patches axes Corollary 3.2), `Mixture` (the cheapest unfolding) or
            `Gated` between two fixed layers, which is a mixture of the templates u_k v_k^T where it is truncated.
        gates: for `Direct`, a number of gates >= i j; the gates above i j are zero. Default i j.
        rank: keep only this many gates; the bound then holds the truncation. Default exact. For `Direct` below i j only
            with `codes`: no fixed gates come near every weight.
        method: of a truncation: "unfolding", the strongest terms of an exact one, or "cp", all factors by alternating
            least squares (extra `cp`), which leaves less where a weight has several rows.
        codes: real codes; a truncation then keeps what their weights need, by their second moment, and `measured` says
            what is lost on them. The bound, certified for every code, is larger.

    Returns:
        The gated structure, the map from the old code to its gates, and the bound.

    Raises:
        TypeError: no construction is known for this structure, or none to fewer gates (gates without fixed layers on
            both sides).
        ValueError: too few gates; a rank below 1.
        ImportError: method "cp" without tensorly.

    Source: Müller 2024, Theorem 3.1 and its proof, Eq. 11-13. For mixtures the 3-tensor of templates is written as a
    canonical polyadic decomposition, which needs at most min(i j, m i, m j) gates for m templates, the base counted.

    >>> conversion = to_gated(Direct(3, 2))
    >>> code = torch.arange(6.0)
    >>> torch.equal(conversion.structure.materialize(conversion.code_map(code)), code.view(2, 3))
    True
    >>> to_gated(Mixture(torch.randn(16, 1, 200), torch.randn(1, 200))).structure.code_features
    17
    """
    if not isinstance(structure, Structure):
        raise TypeError(
            f"to_gated: {type(structure).__name__} is no structure; convert.layer converts a PredictedWeight, "
            "convert.model every one inside a network"
        )
    raise TypeError(
        f"to_gated: no conversion of {type(structure).__name__} is known; its weight is not linear in its code "
        "(softmax) or has no fixed size. Direct, Mixture and Gated structures convert; at fixed sizes "
        "fastweights.equivalences.at_fixed_size converts an Outer layer"
    )


@to_gated.register
def _(
    structure: Direct,
    *,
    gates: int | None = None,
    rank: int | None = None,
    method: Method = "unfolding",
    codes: Tensor | None = None,
) -> Conversion:
    i, j = structure.in_features, structure.out_features
    if codes is not None and rank is not None and rank < i * j:
        identity = torch.eye(i * j, dtype=codes.dtype, device=codes.device)
        return to_gated(Mixture(identity.unflatten(1, (j, i))), rank=rank, method=method, codes=codes)
    gates = (i * j if rank is None else min(rank, i * j)) if gates is None else gates
    if gates < i * j:
        raise ValueError(
            f"to_gated: {gates} gates cannot hold every weight of {j} x {i} numbers and no bound holds for all codes; "
            f"give gates >= {i * j} (Theorem 3.1), or codes= to keep what real ones need"
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
def _(
    structure: Gated,
    *,
    gates: int | None = None,
    rank: int | None = None,
    method: Method = "unfolding",
    codes: Tensor | None = None,
) -> Conversion:
    held = structure.code_features
    if gates is not None and gates < held:
        raise ValueError(f"to_gated: the structure has {held} gates already; give rank= to truncate it")
    if rank is None or rank >= held:
        return Conversion(structure, CodeMap(), Bound(0.0, 0.0), "gated already")
    if rank < 1:
        raise ValueError(f"to_gated: rank is {rank}, expected at least 1")
    if structure.u is None or structure.v is None:
        raise TypeError(
            f"to_gated: no conversion to {rank} gates is known: the structure has {held} without a fixed layer on both "
            "sides, one for each number that it reads or writes, and some of these would be lost"
        )
    templates = torch.einsum("jk,ki->kji", structure.u, structure.v).detach()
    keep = nn.Parameter if next(structure.parameters(), None) is not None else torch.Tensor.contiguous
    return to_gated(Mixture(keep(templates)), rank=rank, method=method, codes=codes)


@to_gated.register
def _(
    structure: Mixture,
    *,
    gates: int | None = None,
    rank: int | None = None,
    method: Method = "unfolding",
    codes: Tensor | None = None,
) -> Conversion:
    if gates is not None:
        raise ValueError(f"to_gated: gates={gates} is for Direct; give rank= to truncate a Mixture")
    if rank is not None and rank < 1:
        raise ValueError(f"to_gated: rank is {rank}, expected at least 1")
    if method not in get_args(Method):
        raise ValueError(f"to_gated: method is {method!r}, expected 'unfolding' or 'cp'")
    if method == "cp" and rank is None:
        raise ValueError("to_gated: method='cp' approximates at a given number of gates; give rank=")
    templates = structure.templates.detach().double()
    base = torch.zeros_like(templates[:1]) if structure.base is None else structure.base.detach().double()[None]
    tensor = torch.cat([templates, base])  # (m, j, i), the base last: its coefficient is one
    if not tensor.isfinite().all():
        raise ValueError("to_gated: the templates or the base are not finite")
    root = None if codes is None else _root_of_second_moment(codes, tensor)
    terms = _decomposed(tensor, rank, method, root).to(structure.templates.dtype)
    residual = terms.to(tensor.dtype).residual(tensor)
    slope = torch.linalg.matrix_norm(residual[:-1].flatten(1), ord=2).item()
    # What was trained stays trainable.
    keep = nn.Parameter if next(structure.parameters(), None) is not None else torch.Tensor.contiguous
    code_map = CodeMap(keep(terms.coefficients[:, :-1]), keep(terms.coefficients[:, -1]))
    target = Gated(keep(terms.u.T.contiguous()), keep(terms.v))
    measured = None if root is None else (_weighted(root, residual).norm() / _weighted(root, tensor).norm()).item()
    return Conversion(target, code_map, Bound(residual[-1].norm().item(), slope), terms.method, measured)


def _decomposed(tensor: Float[Tensor, "m j i"], rank: int | None, method: Method, root: Tensor | None) -> Terms:
    if rank is None:
        return decompositions.exact(tensor)
    find = decompositions.by_least_squares if method == "cp" else decompositions.truncated
    if root is None:
        return find(tensor, rank)
    terms = find(_weighted(root, tensor), rank)
    return replace(terms, coefficients=torch.linalg.solve(root, terms.coefficients.T).T)


def _weighted(root: Float[Tensor, "m m"], tensor: Float[Tensor, "m j i"]) -> Float[Tensor, "m j i"]:
    """Its norm is the root mean square norm of the weights that the codes make."""
    return torch.tensordot(root, tensor, dims=1)


def _root_of_second_moment(codes: Float[Tensor, "*n k"], tensor: Float[Tensor, "m j i"]) -> Float[Tensor, "m m"]:
    """Symmetric square root of the mean of `[code ; 1] [code ; 1]^T`; directions that no code has weigh little."""
    if codes.shape[-1] != len(tensor) - 1 or codes.numel() == 0:
        raise ValueError(f"to_gated: codes have shape {tuple(codes.shape)}, expected (n, {len(tensor) - 1}), n >= 1")
    if not codes.isfinite().all():
        raise ValueError("to_gated: the codes are not finite")
    flat = F.pad(codes.detach().flatten(0, -2).to(tensor), (0, 1), value=1.0)
    values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    return (vectors * values.clamp(min=1e-14 * values[-1].item()).sqrt()) @ vectors.T
