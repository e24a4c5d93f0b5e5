"""Data of the experiments: where each set lies in the folder FASTWEIGHTS_DATA, and how it is read; docs/data.md."""

import functools
import gzip
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

VARIABLE = "FASTWEIGHTS_DATA"
EDGE, SHEET = 32, 100  # of CIFAR-10: pixels of an image, images of a sheet


def path(*names: str) -> Path:
    """A folder or file of the data. Ends the program with a sentence if it is not there.

    >>> before = os.environ.pop(VARIABLE, None)
    >>> path("mnist")
    Traceback (most recent call last):
        ...
    SystemExit: this needs data: set the variable FASTWEIGHTS_DATA to its folder; docs/data.md says how to get it
    >>> os.environ.update({} if before is None else {VARIABLE: before})
    """
    root = os.environ.get(VARIABLE)
    if not root:
        raise SystemExit(f"this needs data: set the variable {VARIABLE} to its folder; docs/data.md says how to get it")
    found = Path(root, *names)
    if not found.exists():
        raise SystemExit(f"{VARIABLE} is {root!r}, which lacks {'/'.join(names)!r}: docs/data.md says how to get it")
    return found


def training_photos() -> Path:
    """The folder of the denoisers' training photos."""
    return path("train", "wikipedia38")


def mcmaster() -> list[Path]:
    """The 18 test photos of McMaster (Zhang et al. 2011), by their numbers. Never to train on."""
    files = [file for file in path("mcmaster").iterdir() if file.stem.isdigit()]
    return sorted(files, key=lambda file: int(file.stem))


def mnist(part: str) -> tuple[UInt8[Tensor, "n 28 28"], Int[Tensor, " n"]]:
    """Digits and which they are: part is "train" (60,000) or "test" (10,000); read once, so not to write to."""
    return _mnist(path("mnist"), {"train": "train", "test": "t10k"}[part])


@functools.cache
def _mnist(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    images, labels = (
        np.frombuffer(gzip.decompress((folder / f"{name}-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for kind, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return torch.from_numpy(images.reshape(-1, 28, 28).copy()), torch.from_numpy(labels.astype(np.int64))


def cifar10(part: str) -> tuple[UInt8[Tensor, "n 3 32 32"], Int[Tensor, " n"]]:
    """Images and their classes: part is "train" (50,000) or "test" (10,000); read once, so not to write to.

    From the archive's binary version, or from lossless sheets of 100 x 100 images in the archive's order.
    """
    names = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}[part]
    return _cifar10(path("cifar10"), names)


@functools.cache
def _cifar10(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    if (archive := folder / "cifar-10-batches-bin").is_dir():
        records = np.concatenate([np.fromfile(archive / f"{name}.bin", np.uint8) for name in names])
        records = records.reshape(-1, 1 + 3 * EDGE**2)
        images, labels = records[:, 1:].reshape(-1, 3, EDGE, EDGE), records[:, 0]
    else:
        sheets = [np.asarray(Image.open(folder / f"{name}.webp").convert("RGB")) for name in names]
        tiles = [sheet.reshape(SHEET, EDGE, SHEET, EDGE, 3).transpose(0, 2, 4, 1, 3) for sheet in sheets]
        images = np.concatenate([tile.reshape(-1, 3, EDGE, EDGE) for tile in tiles])
        kept = np.load(folder / "index.npz")["labels"]
        labels = kept[: len(images)] if len(names) > 1 else kept[-len(images) :]
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def movielens() -> Int[np.ndarray, "n 4"]:
    """MovieLens-100K: user, film (both from 1), rating, time."""
    return np.loadtxt(path("movielens", "ml-100k", "u.data"), dtype=np.int64)
