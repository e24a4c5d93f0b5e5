"""How networks with gates and with predicted weights start: rows for `layers_that_learn`, at several depths.

The task of Fig. 3 of Galanti and Wolf 2020: by how much was a digit turned, x the turned digit and the context the
upright one, both of 7 x 7 pixels. Every layer between depends on the context, as its network says; nothing is rescaled.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from experiments.galanti2020.mnist import CLASSES, classes, digits, normalised, rotated
from experiments.mueller2024.small_networks import Row
from experiments.mueller2024.small_tasks import Batch, Task
from fastweights import HyperNetwork, init, zoo

PIXELS, WIDTH, HIDDEN = 49, 32, 64


@functools.cache
def images(part: str) -> Tensor:
    """10,000 digits."""
    if part == "test":
        return digits("test")[:10_000]
    first = 10_000 * (part == "validation")
    return digits("train")[first : first + 10_000]


def small(pixels: Tensor) -> Tensor:
    """28 x 28 to 7 x 7."""
    return F.avg_pool2d(normalised(pixels).unflatten(-1, (1, 28, 28)), 4).flatten(1)


def turned(part: str, size: int, generator: Generator) -> Batch:
    """A turned digit and the upright one; target: the nearest multiple of 30 degrees."""
    found = images(part)
    chosen = found[torch.randint(len(found), (size,), generator=generator)]
    degrees = 360 * torch.rand(size, generator=generator)
    return (small(rotated(chosen, degrees)), small(chosen)), classes(degrees)


TURNED = Task("by how much was a digit turned, MNIST", turned, F.cross_entropy, 64)


class Stack(nn.Module):
    """Layers that all read the context, with ReLU between."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(torch.relu(x) if number else x, context)
        return x


class GatedLinear(nn.Module):
    """A linear layer and a predicted gate on its output."""

    def __init__(self, i: int, j: int, activation: nn.Module):
        super().__init__()
        self.linear = nn.Linear(i, j)
        self.gate = zoo.Gating(j, activation, predictor=predictor(j))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.gate(self.linear(x), context)


def predictor(numbers: int) -> nn.Sequential:
    """Context to numbers, as torch initialises it."""
    return nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, numbers))


def sizes(depth: int) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    return list(itertools.pairwise([PIXELS, *[WIDTH] * (depth - 1), CLASSES]))


def gates(depth: int) -> nn.Module:
    """Linear layers with gates as they are predicted, torch's start."""
    return Stack([GatedLinear(i, j, nn.Identity()) for i, j in sizes(depth)])


def sigmoid_gates(depth: int) -> nn.Module:
    """Linear layers with gates between 0 and 1, torch's start."""
    return Stack([GatedLinear(i, j, nn.Sigmoid()) for i, j in sizes(depth)])


def gated_double_layers(depth: int) -> nn.Module:
    """Eq. 5 with as many gates as the wider side, torch's start."""
    return Stack([zoo.GatedDoubleLayer(i, j, max(i, j), predictor=predictor(max(i, j))) for i, j in sizes(depth)])


def hyper_layers(depth: int) -> nn.Module:
    """Eq. 1, torch's start in the predictor."""
    return Stack([zoo.HyperLinear(i, j, predictor=predictor(i * j + j), bias=True) for i, j in sizes(depth)])


def hyperfan(depth: int) -> nn.Module:
    """The same weights predicted of one trunk's features, with Chang's start."""
    layers = [part for i, j in sizes(depth) for part in (nn.Linear(i, j), nn.ReLU())]
    network = HyperNetwork(nn.Sequential(*layers[:-1]), nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU()))
    init.hyperfan_in(network)
    return network


BUILT: dict[str, Callable[[int], nn.Module]] = {
    "gates": gates,
    "sigmoid gates": sigmoid_gates,
    "gated double layers": gated_double_layers,
    "hypernetwork layers": hyper_layers,
    "hypernetwork with hyperfan": hyperfan,
}
STARTS = [
    Row(f"{name}, {depth} deep, rate {rate:g}", TURNED, functools.partial(build, depth), steps=200, rate=rate)
    for depth in (2, 8)
    for rate in (0.001, 0.01)
    for name, build in BUILT.items()
]
