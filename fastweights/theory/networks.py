"""Bounds for given networks: how steep one is, what errors of its weights do, and what one more neuron gains."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Lipschitz constants of activations; ELU's needs alpha <= 1, LeakyReLU's a slope <= 1.
LIPSCHITZ: dict[type[nn.Module], float] = {
    **dict.fromkeys((nn.Identity, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Hardtanh, nn.Softplus, nn.Softsign), 1.0),
    nn.Sigmoid: 0.25,
}


def spectral_complexity(network: nn.Sequential) -> float:
    """`C(f) = L^(k-1) prod_i |W_i|_1`, |W|_1 the largest absolute column sum, L the activations' Lipschitz constant.

    It bounds the network's Lipschitz constant in the l1 norm, `|f(x) - f(x')|_1 <= C(f) |x - x'|_1` (Lemma 3), loosely
    and the more so the deeper it is.

    Args:
        network: k linear layers with activations between them (Eq. 1); biases do not count.

    Raises:
        TypeError: a layer that is neither, or an activation whose constant is not known here.

    Source: Galanti and Wolf 2020, Sec. 2.1 and Lemma 3.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1))
    >>> for layer in (network[0], network[2]):
    ...     _ = nn.init.constant_(layer.weight, -2.0)
    >>> spectral_complexity(network)  # 1/4 x 4 x 2
    2.0
    """
    norms: list[float] = []
    constants: list[float] = []
    for module in network:
        if isinstance(module, nn.Linear):
            norms.append(module.weight.detach().abs().sum(0).max().item())
        else:
            constants.append(_lipschitz(module))
    if len(constants) < len(norms) - 1:
        constants.append(1.0)  # layers with nothing between them
    return max(constants, default=1.0) ** (len(norms) - 1) * math.prod(norms)


def _lipschitz(activation: nn.Module) -> float:
    if isinstance(activation, nn.ELU) and activation.alpha <= 1:
        return 1.0
    if isinstance(activation, nn.LeakyReLU) and abs(activation.negative_slope) <= 1:
        return 1.0
    if type(activation) not in LIPSCHITZ:
        known = ", ".join(sorted(kind.__name__ for kind in LIPSCHITZ))
        raise TypeError(
            f"spectral_complexity: no Lipschitz constant known for {activation}; expected nn.Linear, {known}"
        )
    return LIPSCHITZ[type(activation)]


def weight_error(layers: int, inputs: int, lipschitz: float, norm: float, eps: float) -> float:
    """How far g's output may be off in the l1 norm, at any x in [-1, 1]^m1, when its weights are off (Theorem 5).

    `a_1 = m1, a_(i+1) = L c w (1 + a_i)` bounds the layers' outputs, `b_(i+1) = L (c w (2 b_i + a_i) + 1)` their errors
    over eps, without L in the last layer.

    Args:
        layers, inputs, lipschitz: of g; inputs is m1, lipschitz L.
        norm: c w, a bound on the induced l1 norm of each weight matrix and the l1 norm of each bias.
        eps: at most 1; weight matrices are off by at most c w eps and biases by at most eps, in the same norms.

    Source: Galanti and Wolf 2020, proof of Theorem 5.

    >>> weight_error(layers=1, inputs=3, lipschitz=1.0, norm=2.0, eps=0.1)
    0.7000000000000001
    """
    a, b = float(inputs), 0.0
    for number in range(layers):
        factor = 1.0 if number == layers - 1 else lipschitz
        a, b = factor * norm * (1 + a), factor * (norm * (2 * b + a) + 1)
    return eps * b


def add_neuron(
    points: Float[Tensor, "n m"], residual: Float[Tensor, " n"], activation: nn.Module, candidates: int = 1000
) -> tuple[Float[Tensor, " m"], float, float]:
    """A hidden neuron that lowers the squared error: `(a, b, c)` of `c activation(a x + b)` (Lemma 1, constructively).

    The best of random neurons: for one with values n on the points, c = <residual, n> / |n|^2 lowers the squared
    error by <residual, n>^2 / |n|^2, which is positive for some neuron unless the residual is zero.

    >>> points = torch.linspace(-1, 1, 50)[:, None]
    >>> residual = points[:, 0].square() - 1 / 3
    >>> a, b, c = add_neuron(points, residual, nn.Tanh())
    >>> better = residual - c * torch.tanh(points @ a + b)
    >>> bool(better.square().sum() < residual.square().sum())
    True
    """
    generator = torch.Generator().manual_seed(0)
    a = 3 * torch.randn(candidates, points.shape[1], generator=generator, dtype=points.dtype)
    b = 3 * torch.randn(candidates, generator=generator, dtype=points.dtype)
    values = activation(points @ a.T + b)
    squares = values.square().sum(0).clamp(min=torch.finfo(points.dtype).tiny)
    coefficients = (residual @ values) / squares
    best = int((coefficients.square() * squares).argmax())
    return a[best], b[best].item(), coefficients[best].item()
