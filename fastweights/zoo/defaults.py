"""What a zoo layer uses when the literature names nothing: predictors of one hidden layer, and torch.nn's scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def predictor_mlp(context_features: int, code_features: int, hidden: int = 128) -> nn.Sequential:
    """context -> 128 -> ReLU -> linear head."""
    return nn.Sequential(nn.Linear(context_features, hidden), nn.ReLU(), nn.Linear(hidden, code_features))


def image_predictor(context_channels: int, code_channels: int, hidden: int = 128) -> nn.Sequential:
    """3 x 3 convolution -> 128 -> ReLU -> 1 x 1 head, for pixel codes."""
    return nn.Sequential(
        nn.Conv2d(context_channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, code_channels, 1)
    )


def pooled_image_predictor(context_channels: int, numbers: int, hidden: int = 128) -> nn.Sequential:
    """3 x 3 convolution -> 128 -> ReLU -> global average pooling -> linear head, for one code an image (B, k, 1, 1)."""
    return nn.Sequential(
        nn.Conv2d(context_channels, hidden, 3, padding=1),
        nn.ReLU(),
        *pool(),
        nn.Linear(hidden, numbers),
        nn.Unflatten(-1, (numbers, 1, 1)),
    )


def pool() -> list[nn.Module]:
    """Global average pooling, (B, C, H, W) -> (B, C), or (C, H, W) -> (C)."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(-3)]


def at_least_one(layer: str, **sizes: int) -> None:
    """Raises ValueError for a size that is zero or negative, by the name of the layer and of its argument."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{layer}: {name} is {size}, expected at least 1")


def check_shapes(layer: str, parts: dict[str, tuple[Tensor, tuple[int, ...]]]) -> None:
    """Raises ValueError for the first tensor of another shape than the one beside it, naming both."""
    for name, (part, expected) in parts.items():
        if tuple(part.shape) != expected:
            raise ValueError(f"{layer}: {name} has shape {tuple(part.shape)}, expected {expected}")


def fan_in_uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    """A parameter drawn from U(+-1 / sqrt(fan_in)), the scale of torch.nn.Linear and torch.nn.Conv2d."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
