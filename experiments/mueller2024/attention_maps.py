"""A small vision transformer on CIFAR-10 and the attention maps that it makes of real patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from fastweights.layer import PredictedWeight
from fastweights.structures import Outer
from fastweights.zoo import MultiHeadAttention

FEATURES, HEADS, BLOCKS = 64, 4, 2
PATCHES = {2: (16, 32), 4: (16, 16), 8: (8, 16), 16: (8, 8), 32: (4, 8)}  # pixels of a patch, by their number


class Block(nn.Module):
    """Attention, then a perceptron, each behind a normalisation and added to its input."""

    def __init__(self, kind: str):
        super().__init__()
        self.before, self.between = nn.LayerNorm(FEATURES), nn.LayerNorm(FEATURES)
        self.attention = MultiHeadAttention(FEATURES, HEADS)
        if kind == "linear":
            part = self.attention.attention
            self.attention.attention = PredictedWeight(Outer(FEATURES // HEADS), part.axes, Positive(part.predictor))
        self.perceptron = nn.Sequential(nn.Linear(FEATURES, 2 * FEATURES), nn.GELU(), nn.Linear(2 * FEATURES, FEATURES))

    def forward(self, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        x = x + self.attention(self.before(x))
        return x + self.perceptron(self.between(x))


class Positive(nn.Module):
    """Codes of a linear attention (Katharopoulos 2020): phi = elu + 1 of queries and keys, weights that sum to one."""

    def __init__(self, predictor: nn.Module):
        super().__init__()
        self.predictor, self.rank = predictor, FEATURES // HEADS

    def forward(self, context: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        queries, keys = (F.elu(code).unflatten(-1, (-1, self.rank)) + 1 for code in self.predictor(context))
        queries = queries / (queries * keys.sum(-2, keepdim=True)).sum(-1, keepdim=True)
        return queries.flatten(-2), keys.flatten(-2)


class PatchClassifier(nn.Module):
    """Images (B, 3, 32, 32), cut into patches, to the scores of ten classes.

    Args:
        patches: S, their number; a key of PATCHES.
        kind: of attention, "softmax" or "linear".
    """

    def __init__(self, patches: int, kind: str):
        super().__init__()
        self.patch = PATCHES[patches]
        self.embedding = nn.Linear(3 * math.prod(self.patch), FEATURES)
        self.position = nn.Parameter(0.02 * torch.randn(patches, FEATURES))
        self.blocks = nn.Sequential(*(Block(kind) for _ in range(BLOCKS)))
        self.scores = nn.Sequential(nn.LayerNorm(FEATURES), nn.Linear(FEATURES, 10))

    def tokens(self, images: UInt8[Tensor, "b 3 32 32"]) -> Float[Tensor, "b s c"]:
        pixels = (images.to(self.position.dtype) / 255 - 0.47) / 0.25
        h, w = self.patch
        cut = pixels.unflatten(3, (-1, w)).unflatten(2, (-1, h)).permute(0, 2, 4, 1, 3, 5)
        return self.embedding(cut.flatten(3).flatten(1, 2)) + self.position

    def forward(self, images: UInt8[Tensor, "b 3 32 32"]) -> Float[Tensor, "b 10"]:
        return self.scores(self.blocks(self.tokens(images)).mean(1))

    @property
    def last(self) -> Block:
        """The last block, whose attention is measured."""
        return cast(Block, self.blocks[-1])

    def last_input(self, images: UInt8[Tensor, "b 3 32 32"]) -> Float[Tensor, "b s c"]:
        """What the last block's attention reads."""
        return self.last.before(self.blocks[:-1](self.tokens(images)))

    def maps(self, images: UInt8[Tensor, "b 3 32 32"]) -> Float[Tensor, "b heads t s"]:
        """The attention matrices of the last block."""
        x = self.last_input(images)
        return self.last.attention.attention.weight((x, x))


def train(model: PatchClassifier, images: Tensor, labels: Int[Tensor, " n"], steps: int, batch: int = 128) -> None:
    """Classification by AdamW, the learning rate a cosine from 2e-3 behind a short warm-up, mirrored images too."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    warm_up = max(1, steps // 20)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / steps)) / 2
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(images), (batch,), generator=generator)
        shown = images[chosen]
        if step % 2:
            shown = shown.flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(shown)
        loss = F.cross_entropy(scores.float(), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def accuracy(model: PatchClassifier, images: Tensor, labels: Tensor) -> float:
    """Share of images classified rightly."""
    right = sum(
        int((model(some).argmax(1) == truth).sum())
        for some, truth in zip(images.split(500), labels.split(500), strict=True)
    )
    return right / len(images)


@torch.no_grad()
def maps_of(model: PatchClassifier, images: Tensor, head: int) -> Iterator[Float[Tensor, "b t s"]]:
    """A head's maps over images, in float64, some hundred at a time; the model must be in float64."""
    for some in images.split(500):
        yield model.maps(some)[:, head]
