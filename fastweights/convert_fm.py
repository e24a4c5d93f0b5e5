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

from functools import singledispatch

import torch
from torch import nn

from fastweights.bilinear_terms import (
    filled,
    full_rank_hypernetwork,
    half_pairs,
    hypernetwork_pairs,
    interaction,
    interaction_terms,
    like,
    machine,
    machine_terms,
)
from fastweights.structures import Gated
from fastweights.zoo import FactorizationMachine, LinearHypernetwork, MatrixFactorization, MultiplicativeInteraction


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
    bias, linear, v, signs, squares = machine_terms(source)
    if not binary:
        return full_rank_hypernetwork(source, bias, linear, half_pairs(source))
    linear = linear + squares - 0.5 * torch.einsum("jir,jr->ji", v.square(), signs)
    target = like(source, LinearHypernetwork(i, j, r))
    p, q = (0.5 * signs[:, None] * v).mT.flatten(0, 1), v.mT.flatten(0, 1)
    assert isinstance(target.structure, Gated)
    assert target.structure.v is not None
    assert target.predictor.weight is not None
    return filled(
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
    w, u, v, b = interaction_terms(source)
    return full_rank_hypernetwork(source, b, v + u, w.permute(1, 2, 0))


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
    u, linear = hypernetwork_pairs(source), source.linear.detach().double()
    squares = u.diagonal(dim1=1, dim2=2)
    if binary:
        return machine(source, source.bias, linear + squares, u + u.mT, signed=signed)
    return machine(source, source.bias, linear, u + u.mT, signed=signed, squares=squares)


@to_factorization_machine.register
def _(source: MultiplicativeInteraction, *, binary: bool = False, signed: bool = False) -> FactorizationMachine:
    w, u, v, b = interaction_terms(source)
    n_k, n_j, n_i = w.shape
    pairs = w.new_zeros(n_j, n_i + n_k, n_i + n_k)
    pairs[:, :n_i, n_i:] = w.permute(1, 2, 0)
    return machine(source, b, torch.cat([v, u], 1), pairs + pairs.mT, signed=signed)


@to_factorization_machine.register
def _(source: MatrixFactorization, *, binary: bool = False, signed: bool = False) -> FactorizationMachine:
    target = like(source, FactorizationMachine(source.rows + source.columns, rank=source.rank))
    return filled(
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
    bias, linear, *_ = machine_terms(source)
    return interaction(source, half_pairs(source), torch.zeros_like(linear), linear, bias)


@to_multiplicative_interaction.register
def _(source: LinearHypernetwork) -> MultiplicativeInteraction:
    linear = source.linear
    return interaction(source, hypernetwork_pairs(source), torch.zeros_like(linear), linear, source.bias)


@to_multiplicative_interaction.register
def _(source: MatrixFactorization) -> MultiplicativeInteraction:
    pairs = source.p.double() @ source.q.double().mT
    return interaction(source, pairs[None], source.column_bias[None], source.row_bias[None], source.bias[None])


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
    bias, linear, v, signs, squares = machine_terms(source)
    biases = (linear + squares)[0]
    target = like(source, MatrixFactorization(rows, source.in_features - rows, source.rank))
    return filled(
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
