"""Layers bilinear in x and context as their terms, bias, linear part and pairs: read off, and written into new ones.

What `convert_fm` does its algebra on. Terms are in float64, a new layer on the device and in the dtype of its source.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.structures import Mixture
from fastweights.zoo import FactorizationMachine, LinearHypernetwork, MultiplicativeInteraction

_Module = TypeVar("_Module", bound=nn.Module)


def machine_terms(source: FactorizationMachine) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """bias (j), weight (j, i), v (j, i, r), signs (j, r), squares (j, i), in float64."""
    bias, weight, v = (part.detach().double() for part in (source.bias, source.weight, source.v))
    signs = torch.ones_like(v[:, 0]) if source.signs is None else source.signs.double()
    squares = torch.zeros_like(weight) if source.squares is None else source.squares.detach().double()
    return bias, weight, v, signs, squares


def half_pairs(source: FactorizationMachine) -> Float[Tensor, "j i k"]:
    """u of Eq. 8 for every x: half of each pair on either side of the diagonal, which holds the squares."""
    _, _, v, signs, squares = machine_terms(source)
    u = 0.5 * torch.einsum("jir,jkr,jr->jik", v, v, signs)
    return torch.diagonal_scatter(u, squares, dim1=1, dim2=2)


def hypernetwork_pairs(source: LinearHypernetwork) -> Float[Tensor, "j i k"]:
    """u of Eq. 8, of its factors in float64: their product in low precision would have full rank."""
    return copy.deepcopy(source).double().interactions.detach()


def interaction_terms(source: MultiplicativeInteraction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W (k, j, i), U transposed (j, k), V (j, i), b (j), in float64."""
    assert source.structure.base is not None
    predicted = source.predictor.bias
    parts = (source.structure.templates, predicted.weight, source.structure.base, predicted.bias)
    w, u, v, b = (part.detach().double() for part in parts)
    return w, u, v, b


def full_rank_hypernetwork(
    source: nn.Module, bias: Tensor, linear: Tensor, u: Float[Tensor, "j i k"]
) -> LinearHypernetwork:
    """Eq. 8 with bias (j), w (j, i) and u (j, i, k)."""
    target = like(source, LinearHypernetwork(linear.shape[1], linear.shape[0]))
    assert isinstance(target.structure, Mixture)
    assert target.structure.base is not None
    values: dict[Tensor, Tensor] = {
        target.structure.templates: u.permute(2, 0, 1),
        target.structure.base: linear,
        target.predictor.bias: bias,
    }
    return filled(target, values)


def interaction(
    source: nn.Module, w: Float[Tensor, "j i k"], u: Tensor, v: Tensor, b: Tensor
) -> MultiplicativeInteraction:
    """`x^T W z + U z + V x + b` with W (j, i, k), U (j, k), V (j, i), b (j)."""
    n_j, n_i, n_k = w.shape
    target = like(source, MultiplicativeInteraction(n_i, n_j, n_k))
    assert target.structure.base is not None
    predicted = target.predictor.bias
    values: dict[Tensor, Tensor] = {
        target.structure.templates: w.permute(2, 0, 1),
        target.structure.base: v,
        predicted.weight: u,
        predicted.bias: b,
    }
    return filled(target, values)


def machine(
    source: nn.Module, bias: Tensor, linear: Tensor, pairs: Tensor, *, signed: bool, squares: Tensor | None = None
) -> FactorizationMachine:
    """A machine whose weights of pairs are the off-diagonal of `pairs` (j, i, i), symmetric."""
    precision = torch.finfo(next(source.parameters()).dtype).eps
    factors = [_factors(matrix, signed, precision) for matrix in pairs]
    rank = max(1, *(len(signs) for _, signs in factors))
    v = torch.stack([nn.functional.pad(v, (0, rank - len(signs))) for v, signs in factors])
    signs = torch.stack([nn.functional.pad(signs, (0, rank - len(signs)), value=1.0) for _, signs in factors])
    target = FactorizationMachine(
        linear.shape[1],
        linear.shape[0],
        rank,
        signs=signs if signed else None,
        self_interactions=squares is not None,
    )
    target = like(source, target)
    values: dict[Tensor, Tensor] = {target.bias: bias, target.weight: linear, target.v: v}
    if squares is not None:
        assert isinstance(target.squares, nn.Parameter)
        values[target.squares] = squares
    return filled(target, values)


def _factors(
    pairs: Float[Tensor, "i k"], signed: bool, precision: float
) -> tuple[Float[Tensor, "i r"], Float[Tensor, " r"]]:
    """V and signs with the fewest columns of two choices for the diagonal, which is free: the own one, or constant.

    The constant is minus the smallest eigenvalue: the rest is positive semidefinite and loses a rank. Eigenvalues below
    the source's precision count as zero.
    """
    hollow = pairs - pairs.diagonal().diag()
    shifted = hollow - torch.linalg.eigvalsh(hollow)[0] * torch.eye(len(hollow), dtype=pairs.dtype, device=pairs.device)
    choices = [torch.linalg.eigh(matrix) for matrix in (pairs, shifted)]
    found = []
    for values, vectors in choices:
        floor = len(pairs) * precision * values.abs().max()
        kept = values.abs() > floor
        if signed or (values[kept] > 0).all():
            found.append((vectors[:, kept] * values[kept].abs().sqrt(), values[kept].sign()))
    return min(found, key=lambda choice: len(choice[1]))


def like(source: nn.Module, target: _Module) -> _Module:
    """The target on the device and in the dtype of the source."""
    parameter = next(source.parameters())
    return target.to(device=parameter.device, dtype=parameter.dtype)


def filled(target: _Module, values: dict[Tensor, Tensor]) -> _Module:
    """The target with these values in its parameters."""
    with torch.no_grad():
        for parameter, value in values.items():
            assert parameter.shape == value.shape
            parameter.copy_(value)
    return target
