"""The targets the theorems speak of, W_(r,m), and the bump from which the lower bounds are made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def smoothness_norm(
    function: Callable[[Tensor], Tensor], points: Float[Tensor, "n m"], r: int = 1
) -> Float[Tensor, ""]:
    """`max |h| + sum_k max |D^k h|` over all derivatives of order 1 to r, the maxima taken over the given points.

    A target of smoothness r has at most 1. On finitely many points it is a bound from below, so take many. The paper's
    derivatives run over k >= 1; as a condition on each component that would drop d h / d x_1 alone, so it is read as
    components >= 0 that sum to 1 ... r.

    Args:
        function: (n, m) -> (n), each row for itself. points: where to look.

    Source: Galanti and Wolf 2020, Sec. 2.1.

    >>> points = torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
    >>> round(smoothness_norm(lambda x: x[:, 0] ** 2, points, r=2).item(), 6)  # 1 + 2 + 2
    5.0
    """
    points = points.detach().requires_grad_()
    values = {(0,) * points.shape[1]: function(points)}
    for _ in range(r):
        newest = {k: value for k, value in values.items() if sum(k) == max(map(sum, values))}
        for k, value in newest.items():
            gradients = torch.zeros_like(points)
            if value.requires_grad:
                (gradients,) = torch.autograd.grad(value.sum(), points, create_graph=True, materialize_grads=True)
            for axis, gradient in enumerate(gradients.unbind(1)):
                values[(*k[:axis], k[axis] + 1, *k[axis + 1 :])] = gradient
    return torch.stack([value.detach().abs().max() for value in values.values()]).sum()


def bump(x: Float[Tensor, "*b m"], r: int = 1) -> Float[Tensor, "*b"]:
    """`prod_i cos^(r+1)(pi x_i / 2)` on [-1, 1]^m: 1 in the middle, zero with r derivatives from the border on.

    >>> bump(torch.tensor([[0.0, 0.0], [0.0, 0.5], [0.0, 2.0]]))
    tensor([1.0000, 0.5000, 0.0000])
    """
    inside = (x.abs() <= 1).all(-1)
    return (math.pi * x / 2).cos().pow(r + 1).prod(-1) * inside


def bumps(
    x: Float[Tensor, "n m"], heights: Float[Tensor, ...], r: int = 1, norm: float | None = None
) -> Float[Tensor, " n"]:
    """A member of W_(r,m): d^m scaled copies of the bump in the cubes of side 2 / d, heights (d, ..., d) in [-1, 1].

    The copies are `d^-r / C_1` high, C_1 the bump's norm, so that derivatives up to order r stay within 1.

    Args:
        norm: C_1; default 1 + m pi / 2, which is right for r = 1.

    >>> bumps(torch.tensor([[-0.5], [0.25], [0.5]]), torch.tensor([1.0, -1.0]))
    tensor([ 0.1945, -0.0972, -0.1945])
    """
    m, d = x.shape[1], heights.shape[0]
    if r != 1 and norm is None:
        raise ValueError(f"bumps: no bump's norm is known for r = {r}; pass norm")
    scaled = (x + 1) * d / 2
    cells = scaled.detach().floor().clamp(0, d - 1)
    local = 2 * (scaled - cells) - 1
    chosen = heights[tuple(cells.long().unbind(1))]
    return chosen * bump(local, r) * d**-r / (norm or 1 + m * math.pi / 2)


def lattice(d: int, m: int) -> Float[Tensor, "n m"]:
    """The (d + 1)^m points of a grid on [-1, 1]^m, float64.

    >>> lattice(2, 1).flatten().tolist()
    [-1.0, 0.0, 1.0]
    """
    axis = torch.linspace(-1, 1, d + 1, dtype=torch.float64)
    return torch.tensor(list(itertools.product(axis.tolist(), repeat=m)), dtype=torch.float64)
