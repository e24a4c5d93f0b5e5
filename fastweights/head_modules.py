"""What the settings of `fastweights.heads` build: modules that make the codes of all predicted tensors of features."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.structures import Direct, Mixture, Structure

ALONE = 2**18  # templates of more numbers have a product of their own: one more costs little beside their size
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
        mixtures = [mixture(value, features, delta) for value in values]
        self.shapes = [tuple(value.shape) for value in values]
        alone = [len(shape) > 2 or math.prod(shape) * features > ALONE for shape in self.shapes]
        small = [n for n, own in enumerate(alone) if not own]
        self.groups = [[n] for n, own in enumerate(alone) if own] + ([small] if small else [])
        self.sizes = [[math.prod(self.shapes[n]) for n in group] for group in self.groups]
        joined = [torch.cat([mixtures[n].templates.flatten(1) for n in group], 1) for group in self.groups]
        self.templates = nn.ParameterList(nn.Parameter(part.detach()) for part in joined)
        self.base = nn.ParameterList() if delta else nn.ParameterList(map(nn.Parameter, self._bases(values)))

    def _bases(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat([values[n].flatten() for n in group]) for group in self.groups]

    def formed(self, features: Float[Tensor, "*b k"], values: Sequence[Tensor] | None) -> list[Tensor]:
        """All tensors (*b, *shape), of as few products as there are matrices; with delta values are added to."""
        lead, found = features.shape[:-1], {}
        bases = list(self.base) if values is None else self._bases(values)
        for group, sizes, templates, base in zip(self.groups, self.sizes, self.templates, bases, strict=True):
            if features.dtype != templates.dtype:
                wide = torch.promote_types(features.dtype, templates.dtype)
                features, templates, base = features.to(wide), templates.to(wide), base.to(wide)
            flat = torch.addmm(base, features if lead else features.unsqueeze(0), templates)
            for n, part in zip(group, _split(flat, sizes), strict=True):
                found[n] = part if len(lead) == len(self.shapes[n]) == 1 else part.view((*lead, *self.shapes[n]))
        return [found[n] for n in range(len(found))]

    @property
    def structures(self) -> list[Mixture]:
        """A mixture a tensor, on views: what is written into it in place is written into the head."""
        bases: Sequence[Tensor | None] = list(self.base) or [None] * len(self.groups)
        found = {}
        for group, sizes, templates, base in zip(self.groups, self.sizes, self.templates, bases, strict=True):
            parts = [None] * len(group) if base is None else _split(base, sizes)
            for n, part, own in zip(group, _split(templates, sizes), parts, strict=True):
                size = matrix_shape(self.shapes[n])
                found[n] = Mixture(part.unflatten(1, size), None if own is None else own.view(size))
        return [found[n] for n in range(len(found))]

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Tensor]:
        return [features] * len(self.shapes)


def _split(joined: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    """Along the last axis; one part is the whole, whose gradient is not copied then."""
    return joined.split(sizes, -1) if len(sizes) > 1 else [joined]


class Each(Head):
    """A coder and a structure for every tensor."""

    def __init__(self, coders: Sequence[nn.Module], structures: Sequence[Structure]):
        super().__init__()
        self.coders, self.structures = nn.ModuleList(coders), nn.ModuleList(structures)

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Any]:
        return [features if isinstance(coder, nn.Identity) else coder(features) for coder in self.coders]


class Chunks(Head):
    """One small network that emits all numbers, chunk after chunk; see `heads.Chunked`."""

    def __init__(self, values: Sequence[Tensor], features: int, delta: bool, *, size: int, embedding: int, hidden: int):
        super().__init__()
        sizes = [matrix_shape(value.shape) for value in values]
        self.structures = nn.ModuleList(Direct(i, j) for j, i in sizes)
        self.sizes = [j * i for j, i in sizes]
        self.scales = [(3 * fan_in(value)) ** -0.5 for value in values]
        chunks = math.ceil(sum(self.sizes) / size)
        self.embeddings = nn.Parameter(torch.randn(chunks, embedding))
        self.from_features = nn.Linear(features, hidden)
        self.from_chunk = nn.Linear(embedding, hidden, bias=False)
        self.emit = nn.Linear(hidden, size)
        nn.init.normal_(self.emit.weight, std=0.0 if delta else hidden**-0.5)
        nn.init.zeros_(self.emit.bias)

    def codes(self, features: Float[Tensor, "*b k"]) -> list[Tensor]:
        # The first layer on [features ; embedding], without writing the two side by side.
        hidden = self.from_features(features).unsqueeze(-2) + self.from_chunk(self.embeddings)
        numbers = self.emit(torch.relu(hidden)).flatten(-2)[..., : sum(self.sizes)]
        return [code * scale for code, scale in zip(numbers.split(self.sizes, -1), self.scales, strict=True)]


class Factors(nn.Module):
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


def mixture(value: Tensor, features: int, delta: bool) -> Mixture:
    """Templates as far apart as VARIATION says around the given values, with delta zero and no base."""
    j, i = matrix_shape(value.shape)
    std = 0.0 if delta else (VARIATION / (3 * fan_in(value) * features)) ** 0.5
    templates = value.new_empty(features, j, i).normal_(std=std)
    return Mixture(nn.Parameter(templates), None if delta else nn.Parameter(value.detach().clone().view(j, i)))


def fan_in(value: Tensor) -> int:
    """Numbers that an output sums over; of a bias or gain its size."""
    j, i = matrix_shape(value.shape)
    return i if value.ndim > 1 else j
