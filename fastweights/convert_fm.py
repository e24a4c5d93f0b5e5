r"""Factorization machines as hypernetworks and back: Theorem 3.3 of Müller 2024 as functions, with what it leaves out.

| from | to | same on | rank |
| --- | --- | --- | --- |
| factorization machine | linear hypernetwork | all x; binary=True: binary x | full; binary=True: kept |
| linear hypernetwork | factorization machine | all x, with squares; binary=True: binary x | up to i - 1; signed: 2 r |
| multiplicative interaction | factorization machine | all (x, z), one vector | up to i + k - 1; signed: 2 rank W |
| factorization machine, linear hypernetwork | multiplicative interaction | all x, z = x | full |
| factorization machine | matrix factorization, and back | one-hot pairs | kept |

Theorem 3.3 holds from machine to hypernetwork. Back, only the symmetric part of u off the diagonal matters, and a
machine can hold it only as the off-diagonal of a positive semidefinite matrix V V^T: rank i - 1 always suffices and is
sometimes needed, u = -1/2 (all ones) of rank 1 for one. A machine with signs, V diag(+-1) V^T, needs at most twice the
rank of u.

Every function returns a new module with values of its own, computed in float64 and stored in the source's dtype.
A `MultiplicativeInteraction` or a full-rank `LinearHypernetwork` is a mixture, `fastweights.convert` gates it further.
"""

from __future__ import annotations

import copy
from functools import singledispatch
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.structures import Gated, Mixture
from fastweights.zoo import FactorizationMachine, LinearHypernetwork, MatrixFactorization, MultiplicativeInteraction

_Module = TypeVar("_Module", bound=nn.Module)


@singledispatch
def to_linear_hypernetwork(source: nn.Module, *, binary: bool = False) -> LinearHypernetwork:
    """A layer of Eq. 8 that computes what the source computes.

    Args:
        source: `FactorizationMachine`, `MatrixFactorization` on the joined one-hot pair, or
            `MultiplicativeInteraction` with context = x.
        binary: for a machine, equal on x of zeros and ones only, at the machine's own rank: u = 1/2 V V^T, whose
            squares are taken off w_ji (Theorem 3.3). Otherwise equal for all x, at full rank with a zero diagonal
            (Eq. 14).

    Raises:
        TypeError: no construction is known.
        ValueError: a multiplicative interaction whose x and context differ in size.

    Source: Müller 2024, Theorem 3.3, Sec. A.2.

    >>> machine = FactorizationMachine(6, 2, rank=3)
    >>> x = torch.randn(4, 6)
    >>> torch.allclose(to_linear_hypernetwork(machine)(x), machine(x), atol=1e-6)
    True
    >>> to_linear_hypernetwork(machine, binary=True).rank
    3
    """
    raise TypeError(_unknown("to_linear_hypernetwork", source))


@to_linear_hypernetwork.register
def _(source: FactorizationMachine, *, binary: bool = False) -> LinearHypernetwork:
    i, j, r = source.in_features, source.out_features, source.rank
    bias, linear, v, signs, squares = _parts(source)
    if not binary:
        return _full_rank(source, bias, linear, _half_pairs(source))
    linear = linear + squares - 0.5 * torch.einsum("jir,jr->ji", v.square(), signs)
    target = _like(source, LinearHypernetwork(i, j, r))
    p, q = (0.5 * signs[:, None] * v).mT.flatten(0, 1), v.mT.flatten(0, 1)
    assert isinstance(target.structure, Gated)
    assert target.structure.v is not None
    assert target.predictor.weight is not None
    return _filled(
        target, {target.structure.v: torch.cat([p, linear]), target.predictor.weight: q, target.predictor.bias: bias}
    )


@to_linear_hypernetwork.register
def _(source: MatrixFactorization, *, binary: bool = False) -> LinearHypernetwork:
    return to_linear_hypernetwork(to_factorization_machine(source), binary=binary)


@to_linear_hypernetwork.register
def _(source: MultiplicativeInteraction, *, binary: bool = False) -> LinearHypernetwork:
    structure = source.structure
    if structure.code_features != structure.in_features:
        raise ValueError(
            f"to_linear_hypernetwork: x has {structure.in_features} numbers and the context {structure.code_features}; "
            "one vector for both needs equal sizes, to join them use to_factorization_machine"
        )
    w, u, v, b = _interaction_parts(source)
    return _full_rank(source, b, v + u, w.permute(1, 2, 0))


@singledispatch
def to_factorization_machine(source: nn.Module, *, binary: bool = False, signed: bool = False) -> FactorizationMachine:
    """A factorization machine that computes what the source computes.

    Args:
        source: `LinearHypernetwork` with context = x, `MultiplicativeInteraction` (the machine reads x and z joined,
            x first), or `MatrixFactorization` (it reads the one-hot row and column joined).
        binary: for a hypernetwork, equal on x of zeros and ones only: a machine of Eq. 2. Otherwise equal for all x: a
            machine with self-interactions.
        signed: allow a machine with signs, whose rank is at most twice the source's; otherwise the rank may grow to the
            number of features less one.

    Raises:
        TypeError: no construction is known.

    Source: Müller 2024, Theorem 3.3 and Sec. 3.2; the ranks are ours, see the head of this module.

    >>> layer = LinearHypernetwork(6, 2, rank=1)
    >>> x = torch.randn(4, 6)
    >>> machine = to_factorization_machine(layer)
    >>> torch.allclose(machine(x), layer(x), atol=1e-5)
    True
    >>> machine.rank, to_factorization_machine(layer, signed=True).rank
    (5, 2)
    """
    raise TypeError(_unknown("to_factorization_machine", source))


@to_factorization_machine.register
def _(source: LinearHypernetwork, *, binary: bool = False, signed: bool = False) -> FactorizationMachine:
    u, linear = _interactions(source), source.linear.detach().double()
    squares = u.diagonal(dim1=1, dim2=2)
    if binary:
        return _machine(source, source.bias, linear + squares, u + u.mT, signed=signed)
    return _machine(source, source.bias, linear, u + u.mT, signed=signed, squares=squares)


@to_factorization_machine.register
def _(source: MultiplicativeInteraction, *, binary: bool = False, signed: bool = False) -> FactorizationMachine:
    w, u, v, b = _interaction_parts(source)
    n_k, n_j, n_i = w.shape
    pairs = w.new_zeros(n_j, n_i + n_k, n_i + n_k)
    pairs[:, :n_i, n_i:] = w.permute(1, 2, 0)
    return _machine(source, b, torch.cat([v, u], 1), pairs + pairs.mT, signed=signed)


@to_factorization_machine.register
def _(source: MatrixFactorization, *, binary: bool = False, signed: bool = False) -> FactorizationMachine:
    target = _like(source, FactorizationMachine(source.rows + source.columns, rank=source.rank))
    return _filled(
        target,
        {
            target.bias: source.bias[None],
            target.weight: torch.cat([source.row_bias, source.column_bias])[None],
            target.v: torch.cat([source.p, source.q])[None],
        },
    )


@singledispatch
def to_multiplicative_interaction(source: nn.Module) -> MultiplicativeInteraction:
    """A multiplicative interaction layer that computes what the source computes.

    Args:
        source: `FactorizationMachine` (equal with context = x, for all x), `LinearHypernetwork` (equal for every x and
            context), or `MatrixFactorization` (x is the one-hot row and the context the one-hot column).

    Raises TypeError where no construction is known.

    Source: Müller 2024, Sec. A.5.2.

    >>> machine = FactorizationMachine(6, 2, rank=3)
    >>> x = torch.randn(4, 6)
    >>> torch.allclose(to_multiplicative_interaction(machine)(x), machine(x), atol=1e-6)
    True
    """
    raise TypeError(_unknown("to_multiplicative_interaction", source))


@to_multiplicative_interaction.register
def _(source: FactorizationMachine) -> MultiplicativeInteraction:
    bias, linear, *_ = _parts(source)
    return _interaction(source, _half_pairs(source), torch.zeros_like(linear), linear, bias)


@to_multiplicative_interaction.register
def _(source: LinearHypernetwork) -> MultiplicativeInteraction:
    linear = source.linear
    return _interaction(source, _interactions(source), torch.zeros_like(linear), linear, source.bias)


@to_multiplicative_interaction.register
def _(source: MatrixFactorization) -> MultiplicativeInteraction:
    pairs = source.p.double() @ source.q.double().mT
    return _interaction(source, pairs[None], source.column_bias[None], source.row_bias[None], source.bias[None])


def to_matrix_factorization(source: nn.Module, rows: int) -> MatrixFactorization:
    """The matrix factorization that a machine of one output is on one-hot pairs (row, column).

    Pairs within the rows or within the columns are dropped: no one-hot pair reaches them.

    Args:
        source: a machine over rows + columns features, the rows first.
        rows: how many of its features are rows.

    Raises:
        TypeError: not a factorization machine.
        ValueError: several outputs, or no rows or columns.

    Source: Rendle 2010, Sec. V-A; Müller 2024, Sec. 2.2.

    >>> machine = FactorizationMachine(5, rank=2)
    >>> matrix = to_matrix_factorization(machine, rows=2)
    >>> pair = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])  # row 1, column 2
    >>> torch.allclose(matrix(torch.tensor([1]), torch.tensor([2])), machine(pair)[:, 0])
    True
    """
    if not isinstance(source, FactorizationMachine):
        raise TypeError(_unknown("to_matrix_factorization", source))
    if source.out_features != 1 or not 0 < rows < source.in_features:
        raise ValueError(
            f"to_matrix_factorization: rows={rows} for {source}; expected a machine of one output and rows between 1 "
            f"and {source.in_features - 1}"
        )
    bias, linear, v, signs, squares = _parts(source)
    biases = (linear + squares)[0]
    target = _like(source, MatrixFactorization(rows, source.in_features - rows, source.rank))
    return _filled(
        target,
        {
            target.bias: bias[0],
            target.row_bias: biases[:rows],
            target.column_bias: biases[rows:],
            target.p: v[0, :rows],
            target.q: v[0, rows:] * signs,
        },
    )


def _unknown(function: str, source: object) -> str:
    return (
        f"{function}: no construction from {type(source).__name__} is known; only layers that are bilinear in x and "
        "context have one (FactorizationMachine, MatrixFactorization, LinearHypernetwork, MultiplicativeInteraction), "
        "and a predictor that is not linear makes no factorization machine"
    )


def _parts(source: FactorizationMachine) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """bias (j), weight (j, i), v (j, i, r), signs (j, r), squares (j, i), in float64."""
    bias, weight, v = (part.detach().double() for part in (source.bias, source.weight, source.v))
    signs = torch.ones_like(v[:, 0]) if source.signs is None else source.signs.double()
    squares = torch.zeros_like(weight) if source.squares is None else source.squares.detach().double()
    return bias, weight, v, signs, squares


def _half_pairs(source: FactorizationMachine) -> Float[Tensor, "j i k"]:
    """u of Eq. 8 for every x: half of each pair on either side of the diagonal, which holds the squares."""
    _, _, v, signs, squares = _parts(source)
    u = 0.5 * torch.einsum("jir,jkr,jr->jik", v, v, signs)
    return torch.diagonal_scatter(u, squares, dim1=1, dim2=2)


def _interactions(source: LinearHypernetwork) -> Float[Tensor, "j i k"]:
    # Factors first: their product in low precision would have full rank.
    return copy.deepcopy(source).double().interactions.detach()


def _interaction_parts(source: MultiplicativeInteraction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W (k, j, i), U transposed (j, k), V (j, i), b (j), in float64."""
    assert source.structure.base is not None
    predicted = source.predictor.bias
    parts = (source.structure.templates, predicted.weight, source.structure.base, predicted.bias)
    w, u, v, b = (part.detach().double() for part in parts)
    return w, u, v, b


def _full_rank(source: nn.Module, bias: Tensor, linear: Tensor, u: Float[Tensor, "j i k"]) -> LinearHypernetwork:
    target = _like(source, LinearHypernetwork(linear.shape[1], linear.shape[0]))
    assert isinstance(target.structure, Mixture)
    assert target.structure.base is not None
    values: dict[Tensor, Tensor] = {
        target.structure.templates: u.permute(2, 0, 1),
        target.structure.base: linear,
        target.predictor.bias: bias,
    }
    return _filled(target, values)


def _interaction(
    source: nn.Module, w: Float[Tensor, "j i k"], u: Tensor, v: Tensor, b: Tensor
) -> MultiplicativeInteraction:
    n_j, n_i, n_k = w.shape
    target = _like(source, MultiplicativeInteraction(n_i, n_j, n_k))
    assert target.structure.base is not None
    predicted = target.predictor.bias
    values: dict[Tensor, Tensor] = {
        target.structure.templates: w.permute(2, 0, 1),
        target.structure.base: v,
        predicted.weight: u,
        predicted.bias: b,
    }
    return _filled(target, values)


def _machine(
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
    target = _like(source, target)
    values: dict[Tensor, Tensor] = {target.bias: bias, target.weight: linear, target.v: v}
    if squares is not None:
        assert isinstance(target.squares, nn.Parameter)
        values[target.squares] = squares
    return _filled(target, values)


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


def _like(source: nn.Module, target: _Module) -> _Module:
    parameter = next(source.parameters())
    return target.to(device=parameter.device, dtype=parameter.dtype)


def _filled(target: _Module, values: dict[Tensor, Tensor]) -> _Module:
    with torch.no_grad():
        for parameter, value in values.items():
            assert parameter.shape == value.shape
            parameter.copy_(value)
    return target
