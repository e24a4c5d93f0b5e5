"""A small network around every layer of the zoo that has a context; the layer is what carries the information."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.mueller2024 import small_tasks as tasks
from experiments.mueller2024.small_tasks import CHARACTERS, ITEMS, QUERIES, USERS, Task
from fastweights import HyperNetwork, PredictedWeight, zoo
from fastweights.zoo.additive_attention import AdditiveScores


@dataclass(frozen=True)
class Row:
    """One line of the table: a layer of the zoo in its network, on its task."""

    name: str
    task: Task
    build: Callable[[], nn.Module]
    steps: int = 60
    rate: float = 3e-3
    decay: float = 0.0


class Context(nn.Identity):
    """Marks what a layer without a predictor (a factorization machine) takes as context."""


@contextmanager
def shuffled(network: nn.Module) -> Iterator[None]:
    """Within, every predictor of the network reads the context of the sample before its own in the batch."""
    handles = [module.register_forward_pre_hook(_roll) for module in contexts(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def contexts(network: nn.Module) -> list[nn.Module]:
    """The modules inside that read a context; each once."""
    found = []
    for module in network.modules():
        if isinstance(module, PredictedWeight | HyperNetwork):
            found.append(module.predictor)
        elif isinstance(module, Context | AdditiveScores):
            found.append(module)
    return list(dict.fromkeys(found))


def _roll(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    def roll(value: Any) -> Any:
        return tuple(map(roll, value)) if isinstance(value, tuple) else value.roll(1, 0)

    return tuple(map(roll, inputs))


class OwnContext(nn.Module):
    """A layer of frames with their stack as context, before it x = frames[:, first:]."""

    def __init__(self, layer: nn.Module, first: int = 0):
        super().__init__()
        self.layer, self.first = layer, first

    def forward(self, frames: Tensor) -> Tensor:
        return self.layer(frames[:, self.first :], frames)


class Recurrent(nn.Module):
    """A cell along an axis of its input, and a readout of what it gave at each step or at the last."""

    def __init__(self, cell: nn.Module, before: nn.Module, after: nn.Module):
        super().__init__()
        self.cell, self.before, self.after = cell, before, after

    def forward(self, x: Tensor) -> Tensor:
        state, steps = None, []
        for step in self.before(x).unbind(1):
            y, state = self.cell(step, state)
            steps.append(y)
        return self.after(torch.stack(steps, 1))


class Asked(nn.Module):
    """A picture's features, modulated by what is asked, then a yes or no."""

    def __init__(self, layer: nn.Module, *, maps: bool):
        super().__init__()
        self.features = nn.Sequential(*downsample(1, 16), *downsample(16, 32))
        self.layer, self.maps = layer, maps
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, picture: Tensor, asked: Tensor) -> Tensor:
        features = self.features(picture)
        features = self.layer(features, asked).mean((-1, -2)) if self.maps else self.layer(pooled(features), asked)
        return self.head(features)


class Machine(nn.Module):
    """A layer of recommendation on the ids of user and film; the film is the context."""

    layer: zoo.FactorizationMachine | zoo.MatrixFactorization

    def __init__(self, layer: zoo.FactorizationMachine | zoo.MatrixFactorization):
        super().__init__()
        self.layer, self.context = layer, Context()

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        item = self.context(item)
        if isinstance(self.layer, zoo.MatrixFactorization):
            return self.layer(user, item)[:, None]
        return self.layer.forward_ids(torch.stack([user, USERS + item], 1))


class Joined(nn.Module):
    """A layer on user and genres side by side, which are its context too."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, user: Tensor, genres: Tensor) -> Tensor:
        return self.layer(torch.cat([user, genres], 1))


class Copies(nn.Module):
    """Reads the whole copy with weights made from both copies; `mode` says what the layer calls x and context."""

    def __init__(self, layer: nn.Module, mode: str, features: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, features)
        self.window = nn.Conv1d(features, features, 5, padding=2)
        self.layer, self.mode = layer, mode
        self.head = nn.Linear(features, CHARACTERS)

    def embed(self, text: Tensor) -> Tensor:
        found = self.embedding(text)
        return found + torch.tanh(self.window(found.mT).mT)

    def forward(self, line: Tensor, whole: Tensor) -> Tensor:
        a, b = self.embed(line), self.embed(whole)
        if self.mode == "queries":
            return self.head(self.layer(b, a))
        if self.mode == "pair":
            return self.head(self.layer(b, (a, b)))
        # One sequence: what is to be read first, then the reader, who has nothing to add.
        x, context = torch.cat([b, torch.zeros_like(a)], 1), torch.cat([b, a], 1)
        return self.head(self.layer(x, context)[:, b.shape[1] :])


class OneFrame(nn.Module):
    """A dynamic filter network that sees one frame only, without a state."""

    def __init__(self) -> None:
        super().__init__()
        self.network = zoo.DynamicFilterNetwork(5)

    def forward(self, frame: Tensor) -> Tensor:
        return self.network(frame)[0]


def downsample(i: int, j: int) -> list[nn.Module]:
    """Half the size, j channels."""
    return [nn.Conv2d(i, j, 3, 2, 1), nn.ReLU()]


def pooled(maps: Tensor) -> Tensor:
    """Mean over the pixels."""
    return maps.mean((-1, -2))


def restorer(*layers: nn.Module, channels: int = 16, after: int = 16) -> nn.Sequential:
    """Between two 3 x 3 convolutions of one picture."""
    return nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), *layers, nn.Conv2d(after, 1, 3, padding=1))


def aligned() -> nn.Sequential:
    """Dynamic alignment units on a picture beside its inverse, as the first layer of their network, and ten classes."""
    units = zoo.DynamicAlignmentUnits(6, 16, 3, 8, stride=2)
    return nn.Sequential(Inverse(), units, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10))


def coda() -> nn.Sequential:
    """A network of dynamic alignment units alone."""
    network = zoo.CoDANetwork(6, (8, 16, 10), (8, 8, 8), (3, 3, 1), (2, 2, 1), temperature=2.0)
    return nn.Sequential(Inverse(), network)


class Inverse(nn.Module):
    """A picture in -1..1 beside its inverse, in 0..1."""

    def forward(self, picture: Tensor) -> Tensor:
        return zoo.with_inverse((picture + 1) / 2)


def spatial_gate() -> nn.Sequential:
    """Characters, one gating unit over the line, characters."""
    return nn.Sequential(
        nn.Embedding(CHARACTERS, 128), zoo.SpatialGatingUnit(128, tasks.LENGTH), nn.Linear(64, CHARACTERS)
    )


def recurrent(cell: nn.Module, features: int = 64) -> Recurrent:
    """A cell that reads and writes characters."""
    return Recurrent(cell, nn.Embedding(CHARACTERS, 32), nn.Linear(features, CHARACTERS))


GENRES = 19
ROWS = [
    Row("KernelPrediction", tasks.BURST, lambda: zoo.KernelPrediction(4, 3), steps=400),
    Row("GatedKernelPrediction", tasks.BURST, lambda: zoo.GatedKernelPrediction(4, 3, 36), steps=600, rate=1e-2),
    Row("BasisPrediction", tasks.BURST, lambda: zoo.BasisPrediction(4, 3, 8), steps=100),
    Row("SimpleGate", tasks.NOISY, lambda: restorer(zoo.SimpleGate(16), channels=32), steps=500),
    Row("NAFBlock", tasks.NOISY, lambda: restorer(zoo.NAFBlock(16)), steps=300),
    Row("DynamicFilter", tasks.NOISY, lambda: zoo.DynamicFilter(3), steps=200),
    Row("DynamicConvolution2015", tasks.NOISY, lambda: zoo.DynamicConvolution2015(1, 1, 3), steps=100),
    Row("DynamicFilterNetwork", tasks.NOISY, OneFrame, steps=600, rate=3e-4),
    Row("SeparableConvolution", tasks.BETWEEN, lambda: zoo.SeparableConvolution(2, 5)),
    Row("HDRNet", tasks.EXPOSURE, lambda: zoo.HDRNet(16, 4, 4), steps=200),
    Row("SimplifiedChannelAttention", tasks.EXPOSURE, lambda: zoo.SimplifiedChannelAttention(3), steps=400, rate=3e-2),
    Row(
        "SqueezeExcitation",
        tasks.EXPOSURE,
        lambda: nn.Sequential(zoo.SqueezeExcitation(3, 1, bias=True), nn.Conv2d(3, 3, 1)),
        steps=400,
        rate=3e-2,
    ),
    Row("CondConv", tasks.EXPOSURE, lambda: zoo.CondConv(3, 3, 1, 4, bias=True), rate=3e-2),
    Row("DynamicAlignmentUnits", tasks.KIND, aligned, steps=100),
    Row("CoDANetwork", tasks.KIND, coda),
    Row("FiLM", tasks.QUERY, lambda: Asked(zoo.FiLM(32, QUERIES), maps=True), steps=200),
    Row("Gating", tasks.QUERY, lambda: Asked(zoo.Gating(32, context_features=QUERIES), maps=False), steps=200),
    Row("HyperLinear", tasks.TASTE, lambda: zoo.HyperLinear(USERS, 1, context_features=GENRES), decay=0.3),
    Row(
        "GatedDoubleLayer", tasks.TASTE, lambda: zoo.GatedDoubleLayer(USERS, 1, 16, context_features=GENRES), decay=0.3
    ),
    Row("MultiplicativeInteraction", tasks.TASTE, lambda: zoo.MultiplicativeInteraction(USERS, 1, GENRES), decay=0.3),
    Row(
        "LinearHypernetwork", tasks.TASTE, lambda: Joined(zoo.LinearHypernetwork(USERS + GENRES, 1, 8)), 100, decay=0.3
    ),
    Row("FactorizationMachine", tasks.PAIRS, lambda: Machine(zoo.FactorizationMachine(USERS + ITEMS)), 800, 1e-2, 1.0),
    Row("MatrixFactorization", tasks.PAIRS, lambda: Machine(zoo.MatrixFactorization(USERS, ITEMS)), 800, 1e-2, 1.0),
    # Few features of its own, so that what the small LSTM knows is not what the large one knows as well.
    Row("HyperLSTMCell", tasks.FOLLOWING, lambda: recurrent(zoo.HyperLSTMCell(32, 16, 64), 16), steps=100, rate=1e-2),
    Row("FastWeightsRNNCell", tasks.FOLLOWING, lambda: recurrent(zoo.FastWeightsRNNCell(32, 64)), steps=100),
    Row("SpatialGatingUnit", tasks.GAP, spatial_gate),
    Row("AdditiveAttention", tasks.COPIES, lambda: Copies(zoo.AdditiveAttention(64, 64, 64), "queries")),
    Row("DecomposableAttention", tasks.COPIES, lambda: Copies(zoo.DecomposableAttention(64, 64), "pair")),
    Row("MultiHeadAttention", tasks.COPIES, lambda: Copies(zoo.MultiHeadAttention(64, 2), "queries")),
    Row("LinearAttention", tasks.COPIES, lambda: Copies(zoo.LinearAttention(64, 64), "sequence"), steps=100),
    Row("FastWeightMemory", tasks.COPIES, lambda: Copies(zoo.FastWeightMemory(64, 64, rate=0.1), "sequence")),
    Row("ModulatedSiren", tasks.POINTS, lambda: zoo.ModulatedSiren(2, 1, 64, 64, 3), steps=100, rate=1e-3),
    Row(
        "SirenHyperNetwork",
        tasks.POINTS,
        lambda: zoo.SirenHyperNetwork(
            2, 1, hidden_features=32, hidden_layers=1, embedding_features=64, hyper_hidden=32
        ),
        steps=100,
        rate=1e-3,
    ),
]
