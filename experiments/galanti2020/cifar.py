"""CIFAR-10 as rows of numbers, and in grey."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from experiments import data

RED_GREEN_BLUE = torch.tensor([0.299, 0.587, 0.114])


def images(part: str, limit: int | None = None) -> UInt8[Tensor, "n p"]:
    """The first `limit` images, flat, one colour after another: part is "train" (50,000) or "test" (10,000)."""
    return data.cifar10(part)[0][:limit].flatten(1)


def labels(part: str, limit: int | None = None) -> Tensor:
    """Classes 0 to 9, in the images' order."""
    return data.cifar10(part)[1][:limit]


def grey(colours: UInt8[Tensor, "*b p"]) -> Float[Tensor, "*b q"]:
    """Luma of flat colour images, in [0, 1].

    Example
    -------
    >>> grey(torch.tensor([0, 255, 0], dtype=torch.uint8)).tolist()
    [0.5870000123977661]
    """
    planes = colours.unflatten(-1, (3, -1)).float() / 255
    return (planes * RED_GREEN_BLUE.view(3, 1)).sum(-2)
