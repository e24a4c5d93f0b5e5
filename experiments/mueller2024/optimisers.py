"""Update rules for a stack of networks, each slot at a learning rate of its own: SGD, Adagrad, Adam, Muon."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Optimiser(abc.ABC):
    """Abstract: `p -= rate * factor * direction`, all parameters with the slots as first axis."""

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor):
        self.parameters, self.rates, self.count = list(parameters), rates, 0
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """One step along given gradients; the factor is the schedule's."""
        self.count += 1
        for number, (p, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            rate = (factor * self.rates).reshape(-1, *(1,) * (p.ndim - 1))
            p.addcmul_(self.direction(number, gradient), rate, value=-1)

    def running_means(self, number: int, gradient: Tensor, beta: float) -> Tensor:
        """Mean gradient over root mean square, both without the bias of their start at zero."""
        mean = self.first[number].lerp_(gradient, 0.1) / (1 - 0.9**self.count)
        square = self.second[number].lerp_(gradient.square(), 1 - beta) / (1 - beta**self.count)
        return mean / square.sqrt_().add_(1e-8)

    @abc.abstractmethod
    def direction(self, number: int, gradient: Tensor) -> Tensor:
        """The step of parameter `number` at rate one."""


class SGD(Optimiser):
    """The gradient."""

    def direction(self, number: int, gradient: Tensor) -> Tensor:
        return gradient


class Adagrad:
    """The gradient over the root of the sum of all squared gradients: torch.optim.Adagrad, fused, a group a slot.

    One pass over the memory of parameters: in five passes this step was two fifths of a training's time.
    """

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor):
        self.rates, slots = rates.tolist(), range(len(rates))
        groups: list[dict[str, Any]] = [{"params": [p.detach()[slot] for p in parameters]} for slot in slots]
        self.rule = torch.optim.Adagrad(groups, fused=True)

    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """One step along given gradients; the factor is the schedule's."""
        for slot, (group, rate) in enumerate(zip(self.rule.param_groups, self.rates, strict=True)):
            group["lr"] = factor * rate
            for p, gradient in zip(group["params"], gradients, strict=True):
                p.grad = gradient[slot].contiguous()  # the fused rule takes memory as it lies
        self.rule.step()


class Adam(Optimiser):
    """Running means of gradients and squared gradients; as torch.optim.Adam with betas (.9, .999)."""

    def direction(self, number: int, gradient: Tensor) -> Tensor:
        return self.running_means(number, gradient, 0.999)


class FastAdam(Optimiser):
    """Adam that forgets squared gradients after about 100 steps: betas (.9, .99)."""

    def direction(self, number: int, gradient: Tensor) -> Tensor:
        return self.running_means(number, gradient, 0.99)


class Muon(Optimiser):
    """Matrices move along their momentum with all singular values near one, the rest as by FastAdam.

    Steps of a matrix are scaled to the size of Adam's, by .2 sqrt(larger side). Source: Jordan 2024; scale: Liu 2025.
    """

    def direction(self, number: int, gradient: Tensor) -> Tensor:
        if gradient.ndim < 3:
            return self.running_means(number, gradient, 0.99)
        momentum = self.first[number].mul_(0.95).add_(gradient)
        return 0.2 * max(gradient.shape[-2:]) ** 0.5 * orthogonal(gradient + 0.95 * momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """Singular values brought near one by five Newton-Schulz steps, in bfloat16."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


OPTIMISERS: dict[str, Callable[[Sequence[Tensor], Tensor], Optimiser | Adagrad]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "adam": Adam,
    "fast-adam": FastAdam,
    "muon": Muon,
}
