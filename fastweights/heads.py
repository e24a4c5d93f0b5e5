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
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.structures import Direct, Gated, Mixture, Outer, Structure

ALONE = 2**19  # numbers of templates above which one product more costs nothing
VARIATION = 0.1  # of the variance that torch.nn.Linear starts with: how far contexts are apart at the start


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(j, i) of a predicted tensor: its first axis, and all others.

    >>> matrix_shape((8, 3, 5, 5)), matrix_shape((8,)), matrix_shape(())
    ((8, 75), (8, 1), (1, 1))
    """
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


class Head(nn.Module, abc.ABC):
    """Abstract: `structures[n]` makes predicted tensor n from code n of `codes(features)`."""

    structures: Any  # of Structure

    @abc.abstractmethod
    def codes(self, features: Float[Tensor, "*b k"]) -> list[Any]:
        """One code a predicted tensor."""


class HeadSetting(abc.ABC):
    """Abstract: what a user chooses; the classes below are final."""

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
        return _Each(coders, [_mixture(value, self.hidden, delta) for value in values])


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
        return _Chunks(self, values, features, delta)


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
            coders.append(_Factors(features, matrix_shape(value.shape), self.rank) if matrix else nn.Identity())
            structures.append(Outer(self.rank) if matrix else _mixture(value, features, delta))
        return _Each(coders, structures)


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
                structures.append(_mixture(value, features, delta))
                continue
            (j, i), k = matrix_shape(value.shape), self._gates(value.shape)
            coder = nn.Linear(features, k)
            nn.init.ones_(coder.bias)
            u = value.new_zeros(j, k) if delta else value.new_empty(j, k).normal_(std=k**-0.5)
            v = value.new_empty(k, i).normal_(std=(3 * i) ** -0.5)
            coders.append(coder)
            structures.append(Gated(nn.Parameter(u), nn.Parameter(v)))
        return _Each(coders, structures)


class Given(Head):
    """No head: the predictor's output is all weights, one after the other."""

    def __init__(self, shapes: Sequence[Sequence[int]]):
        super().__init__()
        sizes = [matrix_shape(shape) for shape in shapes]
        self.structures = nn.ModuleList(Direct(i, j) for j, i in sizes)
        self.sizes = [j * i for j, i in sizes]

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Tensor]:
        return list(features.split(self.sizes, -1))


class Joined(Head):
    """Small tensors side by side in one matrix of templates (k, numbers) and one base: one product makes them all.

    Filters and large tensors have matrices of their own: they would be copied out of a common one.
    """

    def __init__(self, values: Sequence[Tensor], features: int, delta: bool):
        super().__init__()
        mixtures = [_mixture(value, features, delta) for value in values]
        self.shapes = [tuple(value.shape) for value in values]
        alone = [len(shape) > 2 or math.prod(shape) * features > ALONE for shape in self.shapes]
        grouped = itertools.groupby(range(len(values)), lambda n: n if alone[n] else -1)
        self.groups = [list(group) for _, group in grouped]
        self.sizes = [[math.prod(self.shapes[n]) for n in group] for group in self.groups]
        joined = [torch.cat([mixtures[n].templates.flatten(1) for n in group], 1) for group in self.groups]
        self.templates = nn.ParameterList(nn.Parameter(part.detach()) for part in joined)
        self.base = nn.ParameterList() if delta else nn.ParameterList(map(nn.Parameter, self._bases(values)))

    def _bases(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat([values[n].flatten() for n in group]) for group in self.groups]

    def formed(self, features: Float[Tensor, "*b k"], values: Sequence[Tensor] | None) -> list[Tensor]:
        """All tensors (*b, *shape), of as few products as there are matrices; with delta values are added to."""
        lead, found = features.shape[:-1], []
        bases = list(self.base) if values is None else self._bases(values)
        for group, sizes, templates, base in zip(self.groups, self.sizes, self.templates, bases, strict=True):
            if features.dtype != templates.dtype:
                wide = torch.promote_types(features.dtype, templates.dtype)
                features, templates, base = features.to(wide), templates.to(wide), base.to(wide)
            flat = torch.addmm(base, features if lead else features.unsqueeze(0), templates)
            for n, part in zip(group, flat.split(sizes, 1), strict=True):
                found.append(part if len(lead) == len(self.shapes[n]) == 1 else part.view(*lead, *self.shapes[n]))
        return found

    @property
    def structures(self) -> list[Mixture]:
        """A mixture a tensor, on views: what is written into it in place is written into the head."""
        bases: Sequence[Tensor | None] = list(self.base) or [None] * len(self.groups)
        found = []
        for group, sizes, templates, base in zip(self.groups, self.sizes, self.templates, bases, strict=True):
            parts = [None] * len(group) if base is None else base.split(sizes)
            for n, part, own in zip(group, templates.split(sizes, 1), parts, strict=True):
                size = matrix_shape(self.shapes[n])
                found.append(Mixture(part.unflatten(1, size), None if own is None else own.view(size)))
        return found

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Tensor]:
        return [features] * len(self.shapes)


class _Each(Head):
    def __init__(self, coders: Sequence[nn.Module], structures: Sequence[Structure]):
        super().__init__()
        self.coders, self.structures = nn.ModuleList(coders), nn.ModuleList(structures)

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Any]:
        return [features if isinstance(coder, nn.Identity) else coder(features) for coder in self.coders]


class _Chunks(Head):
    def __init__(self, setting: Chunked, values: Sequence[Tensor], features: int, delta: bool):
        super().__init__()
        sizes = [matrix_shape(value.shape) for value in values]
        self.structures = nn.ModuleList(Direct(i, j) for j, i in sizes)
        self.sizes = [j * i for j, i in sizes]
        self.scales = [(3 * _fan_in(value)) ** -0.5 for value in values]
        chunks = math.ceil(sum(self.sizes) / setting.size)
        self.embeddings = nn.Parameter(torch.randn(chunks, setting.embedding))
        self.from_features = nn.Linear(features, setting.hidden)
        self.from_chunk = nn.Linear(setting.embedding, setting.hidden, bias=False)
        self.emit = nn.Linear(setting.hidden, setting.size)
        nn.init.normal_(self.emit.weight, std=0.0 if delta else setting.hidden**-0.5)
        nn.init.zeros_(self.emit.bias)

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Tensor]:
        # The first layer on [features ; embedding], without writing the two side by side.
        hidden = self.from_features(features).unsqueeze(-2) + self.from_chunk(self.embeddings)
        numbers = self.emit(torch.relu(hidden)).flatten(-2)[..., : sum(self.sizes)]
        return [code * scale for code, scale in zip(numbers.split(self.sizes, -1), self.scales, strict=True)]


class _Factors(nn.Module):
    """(B, A) of a low-rank change, flat in (j, r) and (i, r)."""

    def __init__(self, features: int, shape: tuple[int, int], rank: int):
        super().__init__()
        j, i = shape
        self.b, self.a = nn.Linear(features, j * rank), nn.Linear(features, i * rank)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)
        nn.init.normal_(self.a.weight, std=(VARIATION / (3 * i * features)) ** 0.5)
        nn.init.normal_(self.a.bias, std=(3 * i) ** -0.5)

    def forward(self, features: Float[Tensor, "*b k"]) -> tuple[Tensor, Tensor]:
        return self.b(features), self.a(features)


def _mixture(value: Tensor, features: int, delta: bool) -> Mixture:
    j, i = matrix_shape(value.shape)
    std = 0.0 if delta else (VARIATION / (3 * _fan_in(value) * features)) ** 0.5
    templates = value.new_empty(features, j, i).normal_(std=std)
    return Mixture(nn.Parameter(templates), None if delta else nn.Parameter(value.detach().clone().view(j, i)))


def _fan_in(value: Tensor) -> int:
    j, i = matrix_shape(value.shape)
    return i if value.ndim > 1 else j
