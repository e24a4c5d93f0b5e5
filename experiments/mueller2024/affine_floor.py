"""The best gated double layer whose gates are affine in x: a random H's quadratic part, in closed form.

With n_i n_j gates a G of affine gates is any y_j = q(x) with q a quadratic form of columns n_i plus a linear one
(Theorem 3.1). Its best coefficients for standard normal x are Hermite coefficients of H, known for ReLU by Stein's
lemma: for z normal, f(z) = max(r z + b, 0) and t = b / r,
E f = r (phi(t) + t Phi(t)), E f z = r Phi(t), E f z^2 = E f + r phi(t), E f (z^3 - z) = 2 r Phi(t) - r t phi(t).
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.mueller2024.emulation import INPUTS, TESTED, Stack, Task, draw


def quadratic_part(teacher: Stack, task: Task) -> tuple[Tensor, Tensor]:
    """Q (seed, j, 128, 128) and L (seed, j, 128) of the best y_j = x^T Q_j x + L_j x, in float64."""
    trunk, bias, head, base = (
        teacher.parameters[f"layer.predictor.{name}"].double() for name in ("0.weight", "0.bias", "2.weight", "2.bias")
    )
    seeds, j, i = len(trunk), task.dim, task.columns
    a = torch.zeros(seeds, INPUTS, j, INPUTS, dtype=torch.float64)  # (seed, c, j, x): y_j = sum_c f_c a_cj x + base_j x
    a[..., :i] = head.mT.reshape(seeds, INPUTS, j, i)
    r = trunk.norm(dim=-1, keepdim=True)
    u, t = trunk / r, bias / r[..., 0]
    r = r[..., 0]
    density, below = torch.exp(-t.square() / 2) / (2 * torch.pi) ** 0.5, torch.special.ndtr(t)
    f0, f1 = r * (density + t * below), r * below
    f2, f31 = f0 + r * density, 2 * r * below - r * t * density
    along = torch.einsum("scjx,scx->scj", a, u)
    across = a - along[..., None] * u[:, :, None]
    constant = torch.einsum("scj,sc->sj", along, f1)
    linear = torch.einsum("scj,sc,scx->sjx", along, f2, u) + torch.einsum("scjx,sc->sjx", across, f0)
    linear[..., :i] += base.reshape(seeds, j, i)
    mixed = torch.einsum("scx,scjy,sc->sjxy", u, across, f1)
    second = torch.einsum("scx,scy,scj,sc->sjxy", u, u, along, f31) + mixed + mixed.mT
    # Gates times the first i numbers reach only products with one of them.
    held = torch.arange(INPUTS) < i
    q = second / 2 * (held[:, None] | held)
    # The constant of x^T Q x is tr Q: minimise 2 |Q - S|^2 + (constant - tr Q)^2.
    trace = q.diagonal(dim1=-2, dim2=-1)[..., :i].sum(-1)
    excess = (constant - trace) / (1 + i / 2)
    return q + excess[..., None, None] / 2 * torch.diag(held.double()), linear * held


@torch.no_grad()
def affine_floor(teacher: Stack, task: Task, seed: int = 1000, count: int = 20 * TESTED) -> Tensor:
    """Relative error (seed) of the best G with affine gates, on new vectors."""
    q, linear = quadratic_part(teacher, task)
    wrong, power = torch.zeros(()), torch.zeros(())
    for number in range(count // TESTED):
        x = draw(seed, number, TESTED)
        y = teacher(x).double()
        x = x.double()
        best = torch.einsum("bx,sjxb->sbj", x, q @ x.mT) + torch.einsum("bx,sjx->sbj", x, linear)
        wrong = wrong + (best - y).square().mean((1, 2))
        power = power + y.square().mean((1, 2))
    return wrong / power
