"""Small real tasks, one for each kind of layer: photos, films, digits' place, ratings, text, coordinates.

A batch is a pure function of (part, seed, step); inputs come as a tuple, as the networks of `small_networks` take them.
Steps and rates are chosen by training on the part "fit" and testing on "validation"; then "train", which may hold both,
and "test". "test" has no photo, rating or line in common with the others, nor has "validation" with "fit".
Everything is read from FASTWEIGHTS_DATA, but the text: it is the reference manual that comes with Python.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pydoc_data.topics import topics

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from experiments import data
from experiments.galanti2020.mnist import normalised

Batch = tuple[tuple[Tensor, ...], Tensor]
CROP, QUERIES, CHARACTERS, LENGTH = 24, 10, 64, 24


@dataclass(frozen=True)
class Task:
    """What a layer learns: `draw(part, size, generator)` gives inputs and target, `loss(y, target)` is minimised."""

    name: str
    draw: Callable[[str, int, Generator], Batch]
    loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss
    size: int = 16

    def batch(self, part: str, seed: int, step: int) -> Batch:
        """The batch of a step; part is "fit", "validation", "train" or "test"."""
        return self.draw(part, self.size, torch.Generator().manual_seed(1_000_003 * seed + step))


@functools.cache
def photos(part: str) -> list[Tensor]:
    """Sixty grey photos (H, W) in 0..1."""
    files = sorted(data.path("train", f"bsds500_{'test' if part == 'test' else 'train'}").glob("*.jpg"))
    files = files[60:120] if part == "validation" else files[:60]
    return [torch.from_numpy(np.array(Image.open(file).convert("L"))).float() / 255 for file in files]


@functools.cache
def cifar(part: str) -> tuple[Tensor, Tensor]:
    """10,000 CIFAR-10 pictures (N, 3, 32, 32) in 0..1 and their classes."""
    first = 10_000 * (part == "validation")
    pictures, labels = data.cifar10("test" if part == "test" else "train")
    return pictures[first : first + 10_000].float() / 255, labels[first : first + 10_000]


def moved(part: str, size: int, paths: Tensor, generator: Generator) -> Tensor:
    """Crops (B, T, CROP, CROP) of photos, frame t shifted by paths (B, T, 2) whole pixels, at most 4."""
    frames = []
    found = photos(part)
    for path in paths.tolist():
        photo = found[int(torch.randint(len(found), (), generator=generator))]
        rows, columns = (int(torch.randint(4, n - CROP - 4, (), generator=generator)) for n in photo.shape)
        frames.append(torch.stack([photo[rows + v :, columns + h :][:CROP, :CROP] for v, h in path]))
    return torch.stack(frames)


def burst(part: str, size: int, generator: Generator) -> Batch:
    """Four frames of one view, each under noise of its own unknown strength, .02 to .3; target: the view."""
    clean = moved(part, size, torch.zeros(size, 4, 2, dtype=torch.int64), generator)
    strength = 0.02 + 0.28 * torch.rand(size, 4, 1, 1, generator=generator)
    return (clean + strength * torch.randn(clean.shape, generator=generator),), clean[:, :1]


def noisy(part: str, size: int, generator: Generator) -> Batch:
    """One photo under noise of an unknown strength, .02 to .3; target: without."""
    clean = moved(part, size, torch.zeros(size, 1, 2, dtype=torch.int64), generator)
    strength = 0.02 + 0.28 * torch.rand(size, 1, 1, 1, generator=generator)
    return (clean + strength * torch.randn(clean.shape, generator=generator),), clean


def between(part: str, size: int, generator: Generator) -> Batch:
    """The frames before and after a moving view's middle frame; target: that frame."""
    speed = torch.randint(-2, 3, (size, 1, 2), generator=generator)
    frames = moved(part, size, speed * torch.arange(-1, 2)[:, None], generator)
    return (frames[:, ::2],), frames[:, 1:2]


def exposure(part: str, size: int, generator: Generator) -> Batch:
    """A CIFAR picture with another exposure of each colour and another contrast; target: the picture."""
    pictures = cifar(part)[0]
    clean = pictures[torch.randint(len(pictures), (size,), generator=generator)]
    gain = 0.4 + torch.rand(size, 3, 1, 1, generator=generator)
    contrast = 0.6 + torch.rand(size, 1, 1, 1, generator=generator)
    return ((gain * clean**contrast).clamp(0, 1),), clean


def kind(part: str, size: int, generator: Generator) -> Batch:
    """Which of ten classes is the CIFAR picture?"""
    pictures, labels = cifar(part)
    chosen = torch.randint(len(pictures), (size,), generator=generator)
    return (2 * pictures[chosen] - 1,), labels[chosen]


@functools.cache
def mnist(part: str) -> tuple[Tensor, Tensor]:
    """10,000 digits (N, 1, 14, 14) and what they are."""
    first = 10_000 * (part == "validation")
    images, labels = data.mnist("test" if part == "test" else "train")
    pictures = normalised(images[first : first + 10_000].flatten(1)).unflatten(-1, (1, 28, 28))
    return F.avg_pool2d(pictures, 2), labels[first : first + 10_000]


def query(part: str, size: int, generator: Generator) -> Batch:
    """A digit and a number (one-hot), the right one half of the time: is it one?"""
    pictures, labels = mnist(part)
    chosen = torch.randint(len(pictures), (size,), generator=generator)
    other = (labels[chosen] + torch.randint(1, QUERIES, (size,), generator=generator)) % QUERIES
    yes = torch.rand(size, generator=generator) < 0.5
    asked = torch.where(yes, labels[chosen], other)
    return (pictures[chosen], F.one_hot(asked, QUERIES).float()), yes.float()[:, None]


@functools.cache
def ratings(part: str) -> tuple[Tensor, Tensor, Tensor]:
    """MovieLens users (N), films (N) and what the mean, user and film leave of the ratings (N), 80 / 20."""
    table = data.movielens()
    order = np.random.default_rng(0).permutation(len(table))
    pieces = {"fit": (0, 70_000), "validation": (70_000, 80_000), "train": (0, 80_000), "test": (80_000, 100_000)}
    train, chosen = (order[slice(*pieces[name])] for name in ("train" if part in ("train", "test") else "fit", part))
    user, item, rating = table[:, 0] - 1, table[:, 1] - 1, table[:, 2] - table[train, 2].mean()
    left = rating.astype(float)
    biases = {0: np.zeros(USERS), 1: np.zeros(ITEMS)}
    for ids, key, prior in ((item, 1, 5.0), (user, 0, 10.0)) * 5:
        left = left + biases[key][ids]
        count = np.bincount(ids[train], minlength=len(biases[key]))
        biases[key] = np.bincount(ids[train], left[train], minlength=len(biases[key])) / (count + prior)
        left = left - biases[key][ids]
    return torch.from_numpy(user[chosen]), torch.from_numpy(item[chosen]), torch.from_numpy(left[chosen]).float()


@functools.cache
def genres() -> Tensor:
    """Films (ITEMS, 19): genres, 0 or 1."""
    lines = data.path("movielens", "ml-100k", "u.item").read_text("latin-1").splitlines()
    return torch.tensor([[float(number) for number in line.split("|")[-19:]] for line in lines])


USERS, ITEMS = 943, 1682


def taste(part: str, size: int, generator: Generator) -> Batch:
    """A user (one-hot) and a film's genres; target: what the biases leave of the rating."""
    user, item, left = ratings(part)
    chosen = torch.randint(len(left), (size,), generator=generator)
    return (F.one_hot(user[chosen], USERS).float(), genres()[item[chosen]]), left[chosen, None]


def pairs(part: str, size: int, generator: Generator) -> Batch:
    """The ids of a user and a film; target: what the biases leave of the rating."""
    user, item, left = ratings(part)
    chosen = torch.randint(len(left), (size,), generator=generator)
    return (user[chosen], item[chosen]), left[chosen, None]


@functools.cache
def text(part: str) -> Tensor:
    """The manual as numbers: the 62 most frequent characters, 62 for all others; 63 stands for a gap."""
    everything = "\n".join(topics[name] for name in sorted(topics))
    known = {c: n for n, (c, _) in enumerate(Counter(everything).most_common(CHARACTERS - 2))}
    numbers = torch.tensor([known.get(c, CHARACTERS - 2) for c in everything])
    start, end = {"fit": (0, 8), "validation": (8, 9), "train": (0, 9), "test": (9, 10)}[part]
    return numbers[start * len(numbers) // 10 : end * len(numbers) // 10]


def lines(part: str, size: int, length: int, generator: Generator) -> Tensor:
    """Pieces (B, length) of the manual."""
    source = text(part)
    start = torch.randint(len(source) - length, (size,), generator=generator)
    return source[start[:, None] + torch.arange(length)]


def following(part: str, size: int, generator: Generator) -> Batch:
    """A line; target: each character's successor."""
    found = lines(part, size, LENGTH + 1, generator)
    return (found[:, :-1],), found[:, 1:]


def gap(part: str, size: int, generator: Generator) -> Batch:
    """A line with every eighth character missing; target: those, -1 elsewhere."""
    found = lines(part, size, LENGTH, generator)
    missing = (torch.arange(LENGTH) % 8 == 4).expand_as(found)
    return (found.masked_fill(missing, CHARACTERS - 1),), found.masked_fill(~missing, -1)


def copies(part: str, size: int, generator: Generator) -> Batch:
    """A line with gaps, and another copy that begins up to four characters earlier or later; target: the gaps."""
    found = lines(part, size, LENGTH + 8, generator)
    offset = torch.randint(9, (size, 1), generator=generator)
    whole = found.gather(1, offset + torch.arange(LENGTH))
    line = found[:, 4 : 4 + LENGTH]
    missing = torch.rand(line.shape, generator=generator) < 0.15
    return (line.masked_fill(missing, CHARACTERS - 1), whole), line.masked_fill(~missing, -1)


def points(part: str, size: int, generator: Generator) -> Batch:
    """128 places (B, 128, 2) of grey CIFAR pictures and their 8 x 8 thumbnails (B, 64); target: brightness there."""
    pictures = cifar(part)[0]
    grey = pictures[torch.randint(len(pictures), (size,), generator=generator)].mean(1, keepdim=True) - 0.5
    where = 2 * torch.rand(size, 128, 2, generator=generator) - 1
    value = F.grid_sample(grey, where[:, None], align_corners=False)[:, 0, 0]
    return (where, 2 * F.avg_pool2d(grey, 4).flatten(1)), value[..., None]


def characters(y: Tensor, target: Tensor) -> Tensor:
    """Cross entropy (nats) of characters (B, S, classes) that are asked for."""
    return F.cross_entropy(y.flatten(0, 1), target.flatten(), ignore_index=-1)


BURST, NOISY, BETWEEN, EXPOSURE = (
    Task("four noisy frames to a clean one", burst, size=8),
    Task("one noisy photo to a clean one", noisy),
    Task("the frame between two", between),
    Task("exposure undone, CIFAR-10", exposure),
)
KIND = Task("ten classes, CIFAR-10", kind, F.cross_entropy, 16)
QUERY = Task("is it a ...?, MNIST", query, F.binary_cross_entropy_with_logits, 64)
TASTE, PAIRS = Task("user and genres, MovieLens", taste, size=1024), Task("user and film, MovieLens", pairs, size=1024)
FOLLOWING = Task("the next character", following, characters, 32)
GAP = Task("missing characters", gap, characters, 64)
COPIES = Task("gaps filled from a shifted copy", copies, characters, 64)
POINTS = Task("pictures at any place, CIFAR-10", points, F.mse_loss, 16)
