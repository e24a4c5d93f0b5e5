"""CIFAR-10 from FASTWEIGHTS_DATA: lossless sheets of 100 x 100 images, in the official order."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

EDGE, SHEET = 32, 100
PARTS = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
RED_GREEN_BLUE = torch.tensor([0.299, 0.587, 0.114])


def images(part: str, limit: int | None = None) -> UInt8[Tensor, "n p"]:
    """The first `limit` images, flat, one colour after another: part is "train" (50,000) or "test" (10,000)."""
    folder, sheets, count = Path(os.environ["FASTWEIGHTS_DATA"]) / "cifar10", [], 0
    for name in PARTS[part]:
        if limit is None or count < limit:
            with Image.open(folder / f"{name}.webp") as sheet:
                pixels = np.asarray(sheet.convert("RGB")).reshape(SHEET, EDGE, SHEET, EDGE, 3)
            sheets.append(pixels.transpose(0, 2, 4, 1, 3).reshape(SHEET**2, -1))
            count += SHEET**2
    return torch.from_numpy(np.concatenate(sheets)[:limit])


def labels(part: str, limit: int | None = None) -> Tensor:
    """Classes 0 to 9, in the images' order."""
    found = np.load(Path(os.environ["FASTWEIGHTS_DATA"]) / "cifar10" / "index.npz")["labels"].astype(np.int64)
    return torch.from_numpy(found[:50_000] if part == "train" else found[50_000:])[:limit]


def grey(colours: UInt8[Tensor, "*b p"]) -> Float[Tensor, "*b q"]:
    """Luma of flat colour images, in [0, 1].

    Example
    -------
    >>> grey(torch.tensor([0, 255, 0], dtype=torch.uint8)).tolist()
    [0.5870000123977661]
    """
    planes = colours.unflatten(-1, (3, -1)).float() / 255
    return (planes * RED_GREEN_BLUE.view(3, 1)).sum(-2)
