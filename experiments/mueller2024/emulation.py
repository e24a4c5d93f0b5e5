"""The networks of Fig. 2 and their training: H fixed and random, G and M that learn its output, all seeds at once.

A stack holds the same network at several seeds; `torch.func.vmap` runs them on shared batches of standard normal
vectors. Sizes of H (Fig. 2 does not fix them): reading A predicts a matrix of dim x 128 that acts on x, reading B one
of dim x dim that acts on the first dim numbers of x. Every predictor is 128 -> 128 -> ReLU -> linear head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from experiments.mueller2024.optimisers import OPTIMISERS
from fastweights import zoo

INPUTS = 128  # length of x and width of every predictor
TESTED = 1000  # new vectors after every epoch; four times as many at the end
Network = Literal["G", "M"]


@dataclass(frozen=True)
class Task:
    """Which random H: `reading` "A" or "B" and `dim`, the size that Fig. 3 names."""

    reading: str
    dim: int

    def __post_init__(self):
        if self.reading not in ("A", "B") or not 1 <= self.dim <= INPUTS:
            raise ValueError(f"Task: {self.reading!r}, {self.dim}: expected reading A or B and dim from 1 to {INPUTS}")

    @property
    def columns(self) -> int:
        """n_x, the columns of the predicted matrix; its rows are dim."""
        return INPUTS if self.reading == "A" else self.dim

    def gates(self, scale: float) -> int:
        return round(scale * self.columns * self.dim)


class OnFirst(nn.Module):
    """A layer of predicted weights on the first numbers of its own context."""

    def __init__(self, layer: nn.Module, columns: int):
        super().__init__()
        self.layer, self.columns = layer, columns

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[..., : self.columns], context=x)


def build_h(task: Task) -> nn.Module:
    """The network to imitate: a hypernetwork layer (Eq. 1) with PyTorch's default initialisation."""
    return OnFirst(zoo.HyperLinear(task.columns, task.dim, context_features=INPUTS), task.columns)


def build_g(task: Task, gates: int, width: int = INPUTS) -> nn.Module:
    """A gated double layer (Eq. 5); `width` of its predictor's hidden layer, H's own by default."""
    trunk = nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, gates))
    return OnFirst(zoo.GatedDoubleLayer(task.columns, task.dim, gates, predictor=trunk), task.columns)


def multiply_adds_g(task: Task, gates: int) -> int:
    """Of one vector through G: trunk, gate head, V, gates, U."""
    return INPUTS * INPUTS + gates * (INPUTS + task.columns + 1 + task.dim)


def multiply_adds_m(task: Task, hidden: int) -> int:
    """Of one vector through M."""
    return hidden * (INPUTS + hidden + task.dim)


def hidden_m(task: Task, gates: int) -> int:
    """Smallest multiple of 16 with which M spends at least G's multiply-adds."""
    return hidden_for(multiply_adds_g(task, gates), INPUTS, task.dim)


def hidden_for(multiply_adds: int, inputs: int, outputs: int) -> int:
    """Width of two hidden layers that spend so many multiply-adds, a multiple of 16, which matrix units like."""
    half = (inputs + outputs) / 2
    least = math.ceil(math.sqrt(half**2 + multiply_adds) - half)
    return -(-least // 16) * 16


def build_m(task: Task, gates: int) -> nn.Module:
    """A multilayer perceptron with two hidden layers and at least the multiply-adds of a G with so many gates."""
    m = hidden_m(task, gates)
    return nn.Sequential(nn.Linear(INPUTS, m), nn.ReLU(), nn.Linear(m, m), nn.ReLU(), nn.Linear(m, task.dim))


class Stack:
    """The same network at several seeds: `stack(x)` is (seed, b, j) for x (b, 128)."""

    def __init__(self, build: Callable[[], nn.Module], seeds: Sequence[int]):
        models = []
        for seed in seeds:
            torch.manual_seed(seed)
            models.append(build())
        self.skeleton = models[0]
        self.parameters, self.buffers = stack_module_state(models)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Outputs; with a dtype everything is computed in it, gradients reach the float32 parameters."""
        parameters = self.parameters if dtype is None else {n: p.to(dtype) for n, p in self.parameters.items()}

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(self.skeleton, (parameters, buffers), (x if dtype is None else x.to(dtype),))

        return vmap(one)(parameters, self.buffers)

    def freeze(self) -> Stack:
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
        return self


def draw(seed: int, number: int, count: int) -> Tensor:
    """Batch `number` of standard normal vectors; seed 0 trains, others test."""
    return torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(seed * 10**8 + number))


# (seed, number, count) to the batch of so many vectors with this number; seed 0 trains, others test.
Source = Callable[[int, int, int], Tensor]


@torch.no_grad()
def relative_errors(student: Stack, teacher: Stack, seed: int, count: int, source: Source = draw) -> Tensor:
    """Mean squared error over mean square of H's output (seed), on new vectors, in float32."""
    wrong, power = torch.zeros(()), torch.zeros(())
    for number in range(-(-count // TESTED)):
        x = source(seed, number, min(TESTED, count))
        y = teacher(x)
        wrong = wrong + (student(x) - y).square().mean((1, 2))
        power = power + y.square().mean((1, 2))
    return wrong / power


@dataclass(frozen=True)
class Training:
    """How a student learns: the paper names Adagrad and the cosine; batch, learning rates and epochs are ours.

    One learning rate for all slots of a stack, or one for each.
    """

    samples: int = 100_000
    batch: int = 128
    epochs: int = 10
    optimiser: str = "adagrad"
    rates: tuple[float, ...] = (0.03,)
    warm_up: int = 0  # steps
    low_precision: bool = True  # bfloat16 matrix products while training; tests are in float32

    @property
    def steps(self) -> int:
        return self.samples // self.batch


@dataclass
class Learned:
    """A row an epoch: mean training error over the epoch, error on 1,000 new vectors; the last error on 4,000."""

    train: list[list[float]]
    test: list[list[float]]
    final: list[float]


def train(student: Stack, teacher: Stack, training: Training, source: Source = draw) -> Learned:
    """Learn the teacher's output by the squared error, a fresh batch a step, the learning rate a cosine to zero."""
    dtype = torch.bfloat16 if training.low_precision else torch.float32
    learned = [p for p in student.parameters.values() if p.requires_grad]
    rates = torch.tensor(training.rates).expand(len(learned[0]))
    optimiser = OPTIMISERS[training.optimiser](learned, rates)
    found = Learned([], [], [])
    wrong, power = torch.zeros(()), torch.zeros(())
    for step in range(training.steps):
        x = source(0, step, training.batch)
        with torch.no_grad():
            y = teacher(x, dtype).float()
        losses = (student(x, dtype).float() - y).square().mean((1, 2))
        cosine = (1 + math.cos(math.pi * step / training.steps)) / 2
        optimiser.step(
            torch.autograd.grad(losses.sum(), learned), cosine * min(1, (step + 1) / (training.warm_up or 1))
        )
        wrong, power = wrong + losses.detach(), power + y.square().mean((1, 2))
        if (step + 1) * training.epochs // training.steps > len(found.test):
            found.train.append((wrong / power).tolist())
            found.test.append(relative_errors(student, teacher, 1 + len(found.test), TESTED, source).tolist())
            wrong, power = torch.zeros(()), torch.zeros(())
    found.final = relative_errors(student, teacher, 1000, 4 * TESTED, source).tolist()
    return found
