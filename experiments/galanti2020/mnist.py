"""MNIST digits, and rotation as Pillow does it, a batch of angles at once."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from experiments import data

MEAN, DEVIATION = 0.1307, 0.3081
CLASSES = 12


def digits(part: str) -> UInt8[Tensor, "n p"]:
    """The images, flat: part is "train" (60,000) or "test" (10,000)."""
    return data.mnist(part)[0].flatten(1)


def digits_labels(part: str) -> Int[Tensor, " n"]:
    """Which digit each image shows."""
    return data.mnist(part)[1]


def normalised(images: UInt8[Tensor, "*b p"]) -> Float[Tensor, "*b p"]:
    """Zero mean and unit deviation over MNIST, as in the published code."""
    return (images.float() / 255 - MEAN) / DEVIATION


def rotated(images: UInt8[Tensor, "*b p"], degrees: Float[Tensor, "*b"]) -> UInt8[Tensor, "*b p"]:
    """Each square image turned counter-clockwise by its own angle: nearest pixel, same size, zeros from outside.

    Example
    -------
    >>> rotated(torch.tensor([[1, 2, 3, 4]], dtype=torch.uint8), torch.tensor([90.0])).tolist()
    [[2, 4, 1, 3]]
    """
    size = round(images.shape[-1] ** 0.5)
    angle = degrees.deg2rad().unsqueeze(-1)
    offset = torch.arange(size) - (size - 1) / 2
    h, w = (axis.flatten() for axis in torch.meshgrid(offset, offset, indexing="ij"))
    rows = torch.floor(torch.sin(angle) * w + torch.cos(angle) * h + size / 2).long()
    columns = torch.floor(torch.cos(angle) * w - torch.sin(angle) * h + size / 2).long()
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    found = images.gather(-1, (rows.clamp(0, size - 1) * size + columns.clamp(0, size - 1)))
    return found * inside


def classes(degrees: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """The nearest of 0, 30, ..., 330 degrees, without wrapping: 345 to 360 is class 11, as in the published code.

    Example
    -------
    >>> classes(torch.tensor([10.0, 20.0, 340.0, 350.0])).tolist()
    [0, 1, 11, 11]
    """
    return (degrees / 30 + 0.5).floor().long().clamp(max=CLASSES - 1)
