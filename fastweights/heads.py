"""Heads: how the features of one predictor become the codes of every weight of a network.

A head gives each predicted tensor a structure (`fastweights.structures`) and a code; the tensor is `structure(code)`
reshaped, with j its first axis and i all others. The classes are settings; `build` makes the module.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fastweights.head_modules import Chunks, Each, Factors, Head, Joined, matrix_shape, mixture
from fastweights.structures import Gated, Outer, Structure


class HeadSetting(abc.ABC):
    """Abstract: what a user chooses; the classes below are final."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ValueError(f"{self}: {name} is {value}, expected at least 1")

    @abc.abstractmethod
    def numbers(self, shapes: Sequence[Sequence[int]], features: int, delta: bool = False) -> int:
        """How many parameters `build` would make."""

    @abc.abstractmethod
    def build(self, values: Sequence[Tensor], features: int, delta: bool) -> Head:
        """The module; without delta it starts near the given values, with delta at zero."""


@dataclass(frozen=True)
class Linear(HeadSetting):
    """One linear map from the features to all weights: every weight is a `Mixture`, `W = base + sum_k features_k T_k`.

    It holds (features + 1) x weights numbers, with delta features x weights. Without delta it starts as the primary's
    own weights (the base), from which the contexts differ by a tenth of torch.nn.Linear's variance where features have
    unit mean square.

    >>> Linear().numbers([(64, 64), (64,)], features=10)
    45760
    """

    def numbers(self, shapes: Sequence[Sequence[int]], features: int, delta: bool = False) -> int:
        return (features + (not delta)) * sum(map(math.prod, shapes))

    def build(self, values: Sequence[Tensor], features: int, delta: bool) -> Head:
        return Joined(values, features, delta)


@dataclass(frozen=True)
class PerTensor(HeadSetting):
    """A network of its own for every tensor, of one or more hidden layers: features -> hidden -> ReLU -> linear.

    Source: Sitzmann 2020.

    >>> PerTensor(hidden=8).numbers([(4, 3)], features=10)
    196
    """

    hidden: int = 256
    layers: int = 1

    def numbers(self, shapes: Sequence[Sequence[int]], features: int, delta: bool = False) -> int:
        trunk = (features + 1) * self.hidden + (self.layers - 1) * (self.hidden + 1) * self.hidden
        return sum(trunk + (self.hidden + (not delta)) * math.prod(shape) for shape in shapes)

    def build(self, values: Sequence[Tensor], features: int, delta: bool) -> Head:
        coders = []
        for _ in values:
            sizes = (features, *(self.hidden,) * self.layers)
            pairs = ((nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes))
            coders.append(nn.Sequential(*itertools.chain.from_iterable(pairs)))
        return Each(coders, [mixture(value, self.hidden, delta) for value in values])


@dataclass(frozen=True)
class Chunked(HeadSetting):
    """One small network emits all weights, a chunk at a time, told by a learned embedding which chunk it is.

    [features ; embedding of the chunk] -> hidden -> ReLU -> size numbers (Ha 2016; hypnettorch's chunked networks).
    The numbers are scaled by 1 / sqrt(3 i), torch.nn.Linear's standard deviation; gains of norm layers start near
    zero, so predict them with delta=True or not at all.

    >>> Chunked(size=100, embedding=4, hidden=8).numbers([(64, 64), (64,)], features=10)
    1188
    """

    size: int = 4096
    embedding: int = 16
    hidden: int = 64

    def numbers(self, shapes: Sequence[Sequence[int]], features: int, delta: bool = False) -> int:
        chunks = math.ceil(sum(map(math.prod, shapes)) / self.size)
        trunk = (features + self.embedding + 1) * self.hidden + (self.hidden + 1) * self.size
        return chunks * self.embedding + trunk

    def build(self, values: Sequence[Tensor], features: int, delta: bool) -> Head:
        return Chunks(values, features, delta, size=self.size, embedding=self.embedding, hidden=self.hidden)


@dataclass(frozen=True)
class LowRank(HeadSetting):
    """A predicted low-rank change: `W + B(c) A(c)`, a LoRA for every context, never formed where that is cheaper.

    Needs delta=True. B starts at zero, as LoRA's does. Biases and gains, which have no rank, change by a linear head.

    >>> LowRank(rank=2).numbers([(64, 64), (64,)], features=10)
    3456
    """

    rank: int = 4

    def numbers(self, shapes: Sequence[Sequence[int]], features: int, delta: bool = False) -> int:
        matrices = [self.rank * sum(matrix_shape(shape)) for shape in shapes if len(shape) > 1]
        return (features + 1) * sum(matrices) + features * sum(math.prod(s) for s in shapes if len(s) <= 1)

    def build(self, values: Sequence[Tensor], features: int, delta: bool) -> Head:
        if not delta:
            raise ValueError(f"{self}: a low-rank head predicts a change of the weights; pass delta=True")
        coders: list[nn.Module] = []
        structures: list[Structure] = []
        for value in values:
            matrix = value.ndim > 1
            coders.append(Factors(features, matrix_shape(value.shape), self.rank) if matrix else nn.Identity())
            structures.append(Outer(self.rank) if matrix else mixture(value, features, delta))
        return Each(coders, structures)


@dataclass(frozen=True)
class GatedWeights(HeadSetting):
    """A gated double layer in place of each predicted weight: `W = U diag(gates(features)) V` (Eq. 5 of Müller 2024).

    Args:
        gates: number of gates of each weight; default max(i, j).

    Biases and gains are predicted by a linear head.

    >>> GatedWeights(gates=7).numbers([(4, 3)], features=10)
    126
    """

    gates: int | None = None

    def _gates(self, shape: Sequence[int]) -> int:
        return max(matrix_shape(shape)) if self.gates is None else self.gates

    def numbers(self, shapes: Sequence[Sequence[int]], features: int, delta: bool = False) -> int:
        matrices = sum(self._gates(s) * (features + 1 + sum(matrix_shape(s))) for s in shapes if len(s) > 1)
        return matrices + (features + (not delta)) * sum(math.prod(s) for s in shapes if len(s) <= 1)

    def build(self, values: Sequence[Tensor], features: int, delta: bool) -> Head:
        coders: list[nn.Module] = []
        structures: list[Structure] = []
        for value in values:
            if value.ndim <= 1:
                coders.append(nn.Identity())
                structures.append(mixture(value, features, delta))
                continue
            (j, i), k = matrix_shape(value.shape), self._gates(value.shape)
            coder = nn.Linear(features, k)
            nn.init.ones_(coder.bias)
            u = value.new_zeros(j, k) if delta else value.new_empty(j, k).normal_(std=k**-0.5)
            v = value.new_empty(k, i).normal_(std=(3 * i) ** -0.5)
            coders.append(coder)
            structures.append(Gated(nn.Parameter(u), nn.Parameter(v)))
        return Each(coders, structures)
