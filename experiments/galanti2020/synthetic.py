"""What Figs. 1 (a) and 1 (b) share: the targets and the training of all repetitions at once."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from experiments.galanti2020 import start
from experiments.galanti2020.batched import Stack
from experiments.galanti2020.narrowed import narrowed
from experiments.galanti2020.sweep import EPOCHS_KEPT, Job, summary

HIDDEN, BATCH = 300, 200
Kind = Literal["I", "II", "III", "tanh"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Target:
    """A synthetic target of the paper (kind "I", "II", "III"), or a variation of the first (kind "tanh").

    I: `y(x, I) = <x, h(I)>`, h with two hidden sigmoid layers of 300 and a softmax on top; h(I) is nearly the same for
    all I. tanh (ours): <x, h(I)> with tanh layers and h(I) of zero mean, so that what ignores I learns nothing.
    II: `h([x ; I])`, hidden ELU layers of 100, 50, 50. III: `h(x * I)`, of 100, 100, 50. He-uniform weights, no biases.

    Attributes: x, context (samples, size) and y (samples, 1), all drawn from the seed; the last `test` are for testing.
    variance: mean of y^2, the error of predicting zero; with types II and III y has a mean, too.
    """

    def __init__(self, seed: int, size: int, samples: int, test: int, kind: Kind = "I"):
        self.kind = kind
        random = torch.Generator().manual_seed(1000 + seed)
        self.weights = [
            torch.empty(j, i).uniform_(-math.sqrt(6 / i), math.sqrt(6 / i), generator=random)
            for i, j in itertools.pairwise(sizes(kind, size))
        ]
        self.x, self.context = torch.randn(2, samples + test, size, generator=random)
        self.y = self(self.x, self.context)
        self.variance = self.y[-test:].square().mean().item()
        self.ignoring_context = self._left_without_context()

    def __call__(self, x: Tensor, context: Tensor) -> Tensor:
        """y(x, I), (..., 1)."""
        if self.kind in ("I", "tanh"):
            return (x * self.mixing(context)).sum(-1, keepdim=True)
        hidden = torch.cat([x, context], -1) if self.kind == "II" else x * context
        for weight in self.weights[:-1]:
            hidden = nn.functional.elu(hidden @ weight.mT)
        return hidden @ self.weights[-1].mT

    def mixing(self, context: Tensor) -> Tensor:
        """h(I), (samples, size): rows that sum to 1, or of mean square 1 / size up to a factor near 1."""
        activation = torch.sigmoid if self.kind == "I" else torch.tanh
        for weight in self.weights[:-1]:
            context = activation(context @ weight.mT)
        mixing = context @ self.weights[-1].mT
        return torch.softmax(mixing, -1) if self.kind == "I" else mixing / math.sqrt(mixing.shape[-1])

    def _left_without_context(self) -> float:
        """What is left of y by the best function that ignores I, the mean over I: below it a network uses I."""
        if self.kind in ("I", "tanh"):
            mixing = self.mixing(self.context)
            return (mixing - mixing.mean(0)).square().sum(-1).mean().item()
        x, context = self.x[:100, None], self.context[None, 100:200]
        return self(*torch.broadcast_tensors(x, context)).squeeze(-1).var(1).mean().item()


def sizes(kind: Kind, size: int) -> tuple[int, ...]:
    """Numbers between the linear layers of h."""
    hidden = {"II": (2 * size, 100, 50, 50, 1), "III": (size, 100, 100, 50, 1)}
    return hidden.get(kind, (size, HIDDEN, HIDDEN, size))


class Data:
    """The targets of all seeds, stacked: 30,000 samples to learn from and 4,000 fresh ones."""

    def __init__(self, seeds: int, size: int, samples: int = 30_000, test: int = 4_000, kind: Kind = "I"):
        targets = [Target(seed, size, samples, test, kind) for seed in range(seeds)]
        self.x, self.context, self.y = (
            torch.stack([getattr(target, name) for target in targets]) for name in ("x", "context", "y")
        )
        self.samples = samples
        self.head = {
            "measure": "mean squared error on 4,000 fresh samples",
            "baselines": {
                name: summary([getattr(target, name) for target in targets])
                for name in ("variance", "ignoring_context")
            },
        }

    def epoch(self, number: int, seeds: int) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Batches of 200 in an order of each seed's own, (seeds, 200, ...)."""
        generators = [torch.Generator().manual_seed(977 * seed + number) for seed in range(seeds)]
        orders = torch.stack([torch.randperm(self.samples, generator=generator) for generator in generators])
        rows = torch.arange(seeds).unsqueeze(1)
        for chosen in orders.split(BATCH, 1):
            yield self.x[rows, chosen], self.context[rows, chosen], self.y[rows, chosen]

    def errors(self, stack: Stack, seeds: int) -> list[float]:
        """Mean squared error of each network on the test samples."""
        parts = (data[:seeds, self.samples :].split(500, 1) for data in (self.x, self.context, self.y))
        squares = [(stack(x, context) - y).square().flatten(1) for x, context, y in zip(*parts, strict=True)]
        return torch.cat(squares, 1).mean(1).tolist()


def run(job: Job, build: Callable[[str, int], nn.Module], data: Data) -> dict[str, Any]:
    """Train one job; a summary of the test errors of all repetitions after 1, 2, 5, ... epochs."""
    networks = []
    for seed in range(job.seeds):
        torch.manual_seed(seed)
        network = build(job.method, job.x)
        start.apply(network, job.start, data.context[seed, :1000])
        networks.append(narrowed(network))
    stack, kept = Stack(networks), {}
    for epoch in range(1, job.epochs + 1):
        for x, context, y in data.epoch(epoch, job.seeds):
            if not stack.step((x, context), y, nn.functional.mse_loss, job.rate).isfinite().any():
                break
        if epoch in EPOCHS_KEPT or epoch == job.epochs:
            kept[str(epoch)] = summary(data.errors(stack, job.seeds))
    return kept
