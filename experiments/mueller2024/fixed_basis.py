"""How many dimensions, and how many gates between fixed layers, a family of predicted matrices needs.

A family is known by its second moment C, the mean of w w^T over its matrices W (j, i), flat; what is found on some is
judged on others. Errors are relative: mean squared error over mean square. `ALLOWED` is what is meant by enough.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ALLOWED = 0.01
RIDGE = 1e-7  # keeps gates finite where columns of the basis fall together; its cost is counted as error

Moment = Float[Tensor, "ji ji"]


def span(found: Moment, held_out: Moment) -> tuple[int, int]:
    """Dimensions of the span: all but rounding, and those that leave the error allowed on held-out matrices.

    No fixed U and V with fewer gates than these hold them, exactly or with that error.
    """
    power, directions = torch.linalg.eigh(found)
    power, directions = power.flip(0), directions.flip(1)
    explained = ((directions.T @ held_out) * directions.T).sum(1).cumsum(0) / held_out.trace()
    return int((power > 1e-13 * power[0]).sum()), int((1 - explained > ALLOWED).sum()) + 1


def fit(found: Moment, held_out: Moment, rows: int, gates: int, steps: int = 100) -> float:
    """Error on held-out matrices of the best gates between U and V that were fitted to the matrices found.

    With K the products u_r v_r^T, flat and of unit length, the gates (K^T K)^-1 K^T w of a matrix w leave the mean
    error `tr C - tr (K^T K)^-1 K^T C K`, made small by L-BFGS from a random start.
    """
    columns = len(found) // rows
    generator = torch.Generator().manual_seed(gates)
    u, v = (torch.randn(n, gates, generator=generator, dtype=torch.float64).requires_grad_() for n in (rows, columns))
    ridge = RIDGE * torch.eye(gates, dtype=torch.float64)

    def left(moment: Tensor) -> Tensor:
        k = (u[:, None] * v).flatten(0, 1)
        k = k / k.norm(dim=0)
        root = torch.linalg.cholesky(k.T @ k + ridge)
        b = torch.linalg.solve_triangular(root, k.T, upper=False)
        return 1 - ((b @ moment) * b).sum() / moment.trace()

    optimiser = torch.optim.LBFGS([u, v], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = left(found)
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        return left(held_out).item()


def fewest_gates(found: Moment, held_out: Moment, rows: int, low: int, high: int) -> tuple[int, dict[int, float]]:
    """The smallest number of gates between low and high (known to do) with the error allowed, and all errors found.

    By bisection; what it stops at is an upper bound, as a better start could do with fewer.
    """
    seen: dict[int, float] = {}
    while low < high:
        middle = (low + high) // 2
        seen[middle] = fit(found, held_out, rows, middle)
        low, high = (low, middle) if seen[middle] <= ALLOWED else (middle + 1, high)
    return high, seen
