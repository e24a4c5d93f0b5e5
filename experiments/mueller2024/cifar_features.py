"""What Fig. 3 (c), (d) start from: features of CIFAR-10 images by a convolutional network, and H trained on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments import data
from experiments.mueller2024.emulation import Stack
from experiments.mueller2024.optimisers import Adam
from fastweights import zoo

LENGTHS = (16, 32, 64, 128)
CLASSES = 10


class Extractor(nn.Module):
    """Images to features of every length: 3 x 3 convolutions of 32, 64, 128 channels, each pooled, then a linear map.

    The lengths share the convolutions; each has a linear map of its own, normalised to zero mean and unit deviation,
    and a linear classifier, which trains it.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        self.maps = nn.ModuleDict(
            {str(n): nn.Sequential(nn.Linear(128, n), nn.BatchNorm1d(n, affine=False)) for n in LENGTHS}
        )
        self.classifiers = nn.ModuleDict({str(n): nn.Linear(n, CLASSES) for n in LENGTHS})

    def forward(self, images: Tensor) -> dict[str, Float[Tensor, "b l"]]:
        pixels = ((images.float() / 255 - 0.47) / 0.25).contiguous(memory_format=torch.channels_last)
        pooled = self.convolutions(pixels).mean((-1, -2))
        return {name: layer(pooled) for name, layer in self.maps.items()}


def extract(path: Path, epochs: int, count: int = 50_000, batch: int = 256) -> dict[str, Any]:
    """Train the network, write the features of all images, and say how well its classifiers do."""
    images, labels = data.cifar10("train")
    test, truth = data.cifar10("test")
    images, labels, test, truth = images[:count], labels[:count], test[:count], truth[:count]
    torch.manual_seed(0)
    network = Extractor().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.2)
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for number in range(len(images) // batch):
            chosen = order[number * batch : (number + 1) * batch]
            shown = images[chosen]
            if number % 2 == epoch % 2:
                shown = shown.flip(-1)
            with torch.autocast("cpu", torch.bfloat16):
                found = network(shown)
                scores = [network.classifiers[name](features) for name, features in found.items()]
            loss = torch.stack([F.cross_entropy(one.float(), labels[chosen]) for one in scores]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()
    kept: dict[str, Tensor] = {"labels.train": labels, "labels.test": truth}
    with torch.no_grad():
        for part, pictures in (("train", images), ("test", test)):
            parts = [network(some) for some in pictures.split(1000)]
            kept |= {f"{n}.{part}": torch.cat([one[str(n)] for one in parts]) for n in LENGTHS}
        right = {n: accuracy(network.classifiers[str(n)](kept[f"{n}.test"]), truth) for n in LENGTHS}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(kept, path)
    return {"epochs": epochs, "images": len(images), "accuracy of a linear classifier": right}


def accuracy(scores: Float[Tensor, "*b n c"], truth: Int[Tensor, " n"]) -> list[float] | float:
    """Share classified rightly."""
    found: list[float] | float = (scores.argmax(-1) == truth).float().mean(-1).tolist()
    return found


@dataclass(frozen=True)
class Features:
    """Features of one length; called as `emulation.draw` it gives batches of them, seed 0 from the training images."""

    train: Float[Tensor, "n l"]
    test: Float[Tensor, "m l"]
    labels: Int[Tensor, " n"]
    truth: Int[Tensor, " m"]

    @classmethod
    def load(cls, path: Path, length: int) -> Features:
        kept = load_file(path)
        return cls(kept[f"{length}.train"], kept[f"{length}.test"], kept["labels.train"], kept["labels.test"])

    def rows(self, number: int, count: int) -> Int[Tensor, " b"]:
        """Training images of a batch: every epoch in an order of its own."""
        a_epoch = len(self.train) // count
        epoch, place = divmod(number, a_epoch)
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(epoch))
        return order[place * count : (place + 1) * count]

    def __call__(self, seed: int, number: int, count: int) -> Float[Tensor, "b l"]:
        if seed == 0:
            return self.train[self.rows(number, count)]
        first = (seed + number) * count % len(self.test)
        return self.test[first : first + count]


def build_h(length: int) -> nn.Module:
    """The hypernetwork layer: features -> 128 -> ReLU -> a matrix of 10 x length, applied to the features."""
    return zoo.HyperLinear(length, CLASSES)


def train_h(features: Features, length: int, seeds: int, epochs: int, batch: int = 256) -> tuple[Stack, list[float]]:
    """Stack of H, one a seed, trained to classify by Adam at 2e-3 with a cosine, and their share right on the test."""
    stack = Stack(lambda: build_h(length), range(10_000, 10_000 + seeds))
    learned = list(stack.parameters.values())
    optimiser = Adam(learned, torch.full((seeds,), 2e-3))
    steps = epochs * (len(features.train) // batch)
    for step in range(steps):
        rows = features.rows(step, batch)
        scores = stack(features.train[rows], torch.bfloat16).float()
        losses = [F.cross_entropy(one, features.labels[rows]) for one in scores]
        gradients = torch.autograd.grad(torch.stack(losses).sum(), learned)
        optimiser.step(gradients, (1 + math.cos(math.pi * step / steps)) / 2)
    with torch.no_grad():
        right = accuracy(stack(features.test), features.truth)
    assert isinstance(right, list)
    return stack.freeze(), right
