"""CIFAR-10 images from FASTWEIGHTS_DATA, in the official order."""

import functools
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

SIDE, A_SHEET = 32, 100  # pixels; images a side of a sheet


def images(part: str) -> tuple[UInt8[Tensor, "n 3 32 32"], Int[Tensor, " n"]]:
    """Images and their labels: part is "train" (50,000) or "test" (10,000); read once a process, so not to write to."""
    return _images(Path(os.environ["FASTWEIGHTS_DATA"]) / "cifar10", part)


@functools.cache
def _images(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    names = [f"data_batch_{number}" for number in range(1, 6)] if part == "train" else ["test_batch"]
    sheets = [np.asarray(Image.open(folder / f"{name}.webp").convert("RGB")) for name in names]
    tiles = [sheet.reshape(A_SHEET, SIDE, A_SHEET, SIDE, 3).swapaxes(1, 2) for sheet in sheets]
    pixels = np.concatenate([tile.reshape(-1, SIDE, SIDE, 3) for tile in tiles])
    labels = np.load(folder / "index.npz")["labels"].astype(np.int64)
    chosen = labels[: len(pixels)] if part == "train" else labels[-len(pixels) :]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(chosen)
