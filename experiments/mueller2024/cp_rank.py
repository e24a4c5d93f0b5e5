"""The smallest exact gated double layer of small tensors: canonical polyadic decomposition by Levenberg-Marquardt.

Gates linear in m features (the base counted) and R of them: `T[j, i, m] = sum_r u[j, r] v[i, r] a[m, r]`, so the least
number of gates that gives H exactly is the tensor's rank, not n_i n_j. `fastweights.decompositions` gives what
converts a network: constructions, and a good fit by alternating least squares; whether a fit is exact needs these
second-order steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def generic_rank(sizes: tuple[int, int, int]) -> int:
    """The rank of almost every complex tensor, the smallest that real ones have with positive probability.

    ceil(IJK / (I + J + K - 2)), but 5 for 3 x 3 x 3, and min(K, IJ) where K >= (I - 1)(J - 1) + 1 is the largest.

    Source: Comon, ten Berge, De Lathauwer 2009.

    >>> generic_rank((8, 16, 33)), generic_rank((3, 3, 3)), generic_rank((2, 3, 9))
    (77, 5, 6)
    """
    i, j, k = sorted(sizes)
    if k >= (i - 1) * (j - 1) + 1:
        return min(k, i * j)
    return 5 if i == j == k == 3 else -(-i * j * k // (i + j + k - 2))


def decompose(tensor: Tensor, rank: int, seed: int, iterations: int = 150, enough: float = 1e-7) -> float:
    """Relative residual |T - sum_r u v a| / |T| after damped Gauss-Newton steps from a random start, in float64."""
    generator = torch.Generator().manual_seed(seed)
    size = (tensor.square().mean().sqrt().item() / math.sqrt(rank)) ** (1 / 3)
    factors = [size * torch.randn(n, rank, generator=generator, dtype=tensor.dtype) for n in tensor.shape]
    norm, damping = tensor.norm(), 1e-1 * size**4
    residual = tensor - _product(factors)
    for _ in range(iterations):
        gram, gradient = _normal_equations(factors, residual)
        for _ in range(8):
            step = torch.linalg.solve_ex(gram + damping * torch.eye(len(gram), dtype=tensor.dtype), gradient)[0]
            moves = step.split([f.numel() for f in factors])
            moved = [f + m.view_as(f) for f, m in zip(factors, moves, strict=True)]
            found = tensor - _product(moved)
            if found.norm() < residual.norm():
                factors, residual, damping = moved, found, damping / 4
                break
            damping *= 4
        if residual.norm() < enough * norm:
            break
    return (residual.norm() / norm).item()


def smallest_rank(
    tensor: Tensor, restarts: int = 4, target: float = 1e-6, **options: int
) -> tuple[int, dict[int, float]]:
    """The first rank, from one below the generic one, at which some start gets below the target; all residuals seen."""
    generic = generic_rank((tensor.shape[0], tensor.shape[1], tensor.shape[2]))
    seen: dict[int, float] = {}
    for rank in range(max(1, generic - 1), 2 * generic + 8):
        seen[rank] = math.inf
        for seed in range(restarts):
            seen[rank] = min(seen[rank], decompose(tensor, rank, seed, **options))
            if seen[rank] < target:
                return rank, seen
    raise RuntimeError(f"smallest_rank: no rank up to {2 * generic + 7} fits {tuple(tensor.shape)}, residuals {seen}")


def _product(factors: list[Tensor]) -> Tensor:
    return torch.einsum("ar,br,cr->abc", *factors)


def _normal_equations(factors: list[Tensor], residual: Tensor) -> tuple[Tensor, Tensor]:
    """J^T J and J^T residual of the product by all entries of the factors, row-major in (entry, r)."""
    u, v, a = factors
    grams = [f.T @ f for f in factors]
    sizes = [len(f) for f in factors]
    rank = u.shape[1]
    blocks: list[list[Tensor]] = [[torch.empty(0)] * 3 for _ in range(3)]
    for p in range(3):
        others = math.prod([grams[q] for q in range(3) if q != p], start=torch.ones((), dtype=u.dtype))
        eye = torch.eye(sizes[p], dtype=u.dtype)
        blocks[p][p] = torch.kron(eye, others)
        for q in range(p + 1, 3):
            (third,) = (grams[o] for o in range(3) if o not in (p, q))
            # d/dx_pr and d/dy_qs meet in f_q[y, r] f_p[x, s] (third gram)[r, s].
            block = torch.einsum("yr,xs,rs->xrys", factors[q], factors[p], third)
            blocks[p][q] = block.reshape(sizes[p] * rank, sizes[q] * rank)
            blocks[q][p] = blocks[p][q].T
    gradient = [
        torch.einsum("abc,br,cr->ar", residual, v, a),
        torch.einsum("abc,ar,cr->br", residual, u, a),
        torch.einsum("abc,ar,br->cr", residual, u, v),
    ]
    return torch.cat([torch.cat(row, 1) for row in blocks]), torch.cat([g.flatten() for g in gradient])
