"""Predictors of lazy, separable, shared and paired codes, small and for the tests alone."""

from torch import Tensor, nn

from fastweights.codes import Separable, Upsampled


class Half(nn.Module):
    """A predictor whose code is lazy: half the resolution of its input."""

    def __init__(self, channels: int, numbers: int, rule: str = "half_pixel"):
        super().__init__()
        self.head, self.rule = nn.Conv2d(channels, numbers, 1), rule

    def forward(self, x: Tensor) -> Upsampled:
        return Upsampled(self.head(x[..., ::2, ::2]), 2, tuple(x.shape[-2:]), self.rule)


class Crossed(nn.Module):
    """A predictor of separable kernels."""

    def __init__(self, channels: int, frames: int, kernel_size: int):
        super().__init__()
        self.frames, self.head = frames, nn.Conv2d(channels, 2 * frames * kernel_size, 1)

    def forward(self, x: Tensor) -> Separable:
        return Separable(*self.head(x).chunk(2, 1), self.frames)


class Pooled(nn.Module):
    """A predictor of one code an image, laid out as a pixel code."""

    def __init__(self, channels: int, numbers: int):
        super().__init__()
        self.head = nn.Linear(channels, numbers)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean((-1, -2)))[..., None, None]


class Pair(nn.Module):
    """A predictor of a pair of codes, as attention has them."""

    def __init__(self, features: int, rank: int):
        super().__init__()
        self.p, self.q = nn.Linear(features, rank), nn.Linear(features, rank)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.p(x).flatten(-2), self.q(x).flatten(-2)
