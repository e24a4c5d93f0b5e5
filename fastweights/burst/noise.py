"""The noise of one frame, estimated from the burst itself: standard deviation by intensity, in linear light."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fastweights.burst.transfer import srgb_decode, srgb_encode

_BLOCK = 8
# Of light, in which the noise of a picture is looked up.
_STEPS = 1 << 14
_BINS = 16
_FEWEST_BLOCKS = 12
# Of the blocks of one intensity, the smooth quarter is asked: what moves there changes little.
_SMOOTH_PART = 0.25
_MID_GREY = 0.5
_COLOURS = ("red", "green", "blue")
# Median over mean of a block's mean square, chi-square distributed: of 64 values some 24 are independent.
_MEDIAN = (1 - 2 / (9 * 24)) ** 3


@dataclass(frozen=True)
class Noise:
    """Noise of one frame: std at each intensity, each channel, in linear light with white = 1, brightest last.

    Intensities that the picture hardly has are NaN.

    Example
    -------
    >>> Noise(torch.tensor([[0.1, 0.5]]).expand(3, 2), torch.tensor([[0.01, 0.03]]).expand(3, 2)).summary()
    '4.3 of 255 at grey level 128 (red 4.3, green 4.3, blue 4.3)'
    """

    intensities: Float[Tensor, "c bins"]
    std: Float[Tensor, "c bins"]

    def at(self, intensity: float) -> Float[Tensor, " c"]:
        """Std of each channel at one intensity, both in linear light: interpolated, constant past the measured ends."""
        return torch.stack([_interpolate(intensity, *pair) for pair in zip(self.intensities, self.std, strict=True)])

    def of(self, light: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Std at every pixel of a picture in linear light, as `at`."""
        steps = np.linspace(0, 1, _STEPS)
        index = (light.clamp(0, 1) * (_STEPS - 1)).round().long()
        planes = []
        for plane, levels, std in zip(index, self.intensities, self.std, strict=True):
            known = levels.isfinite()
            table = np.interp(steps, levels[known].numpy(), std[known].numpy())
            planes.append(torch.from_numpy(table).to(light)[plane])
        return torch.stack(planes)

    def summary(self) -> str:
        """One line: the std in 8-bit sRGB values at mid grey, or at the measured level nearest to it."""
        finite = self.intensities[self.intensities.isfinite()]
        middle = float(srgb_decode(torch.tensor(_MID_GREY)).clamp(finite.min(), finite.max()))
        half = self.at(middle)
        levels = 255 * (srgb_encode(middle + half) - srgb_encode(middle - half)) / 2
        level = 255 * float(srgb_encode(torch.tensor(middle)))
        mean = levels.square().mean().sqrt()
        names = _COLOURS if len(levels) == len(_COLOURS) else [f"channel {index}" for index in range(len(levels))]
        each = ", ".join(f"{name} {std:.1f}" for name, std in zip(names, levels.tolist(), strict=True))
        return f"{mean:.1f} of 255 at grey level {level:.0f}" + (f" ({each})" if len(levels) > 1 else "")


def estimate_noise(*windows: Float[Tensor, "t c h w"]) -> Noise:
    """Noise of one frame from t >= 2 aligned frames in linear light, or from windows of them.

    Half the mean square of the difference of frames t and t + 1, less what a shift of the window by a part of a pixel
    explains, over blocks of 8 x 8 pixels; for one intensity (16 steps, even in sRGB) the median over all pairs and the
    quarter of its blocks with the weakest gradients. So moving objects and rest shifts change little as long as most of
    these differences are free of them; where a picture has texture alone, they are counted as noise. What clips at
    black or white is measured as it is: clipped. Windows have at least 2 x 2 pixels.

    Example
    -------
    >>> frames = 0.2 + 0.01 * torch.randn(8, 3, 64, 64, generator=torch.manual_seed(0))
    >>> [round(std, 3) for std in estimate_noise(frames).at(0.2).tolist()]
    [0.01, 0.01, 0.01]
    """
    blocks = [_blocks(window) for window in windows]
    light, gradient, variances = (torch.cat(parts, dim=-1) for parts in zip(*blocks, strict=True))
    bins = (srgb_encode(light) * _BINS).long().clamp(0, _BINS - 1)
    channels = [_curve(*channel) for channel in zip(bins, light, variances.unbind(1), gradient, strict=True)]
    return Noise(*(torch.stack(curves) for curves in zip(*channels, strict=True)))


def _blocks(
    frames: Float[Tensor, "t c h w"],
) -> tuple[Float[Tensor, "c n"], Float[Tensor, "c n"], Float[Tensor, "pairs c n"]]:
    """Light, squared gradient and the pairs' variances of each block."""
    mean = frames.mean(0)
    block = min(_BLOCK, *mean.shape[-2:])
    down, right = torch.gradient(mean, dim=(1, 2))
    variances = torch.stack([F.avg_pool2d(pair, block).flatten(1) for pair in _variances(frames, down, right)])
    light = torch.stack([F.avg_pool2d(frame, block).flatten(1) for frame in frames]).median(dim=0).values
    gradient = F.avg_pool2d(down.square() + right.square(), block).flatten(1)
    return light, gradient, variances


def _variances(
    frames: Float[Tensor, "t c h w"], down: Float[Tensor, "c h w"], right: Float[Tensor, "c h w"]
) -> Iterator[Float[Tensor, "c h w"]]:
    """Per pair of frames in a row: half the square of what a whole-frame shift leaves unexplained."""
    # Taylor's expansion of a shift to second order; its five coefficients by least squares.
    curvature = (*torch.gradient(down, dim=(1, 2)), torch.gradient(right, dim=2)[0])
    basis = torch.stack([down, right, *curvature]).flatten(1)
    inverse = torch.linalg.pinv((basis @ basis.T).double(), hermitian=True)
    for before, after in pairwise(frames):
        difference = (after - before).flatten()
        coefficients = inverse @ (basis @ difference).double()
        yield (difference - coefficients.to(basis) @ basis).square().reshape(down.shape) / 2


def _curve(
    bins: Int[Tensor, " n"],
    light: Float[Tensor, " n"],
    variances: Float[Tensor, "pairs n"],
    gradient: Float[Tensor, " n"],
) -> tuple[Float[Tensor, " bins"], Float[Tensor, " bins"]]:
    intensities, std = torch.full((2, _BINS), torch.nan, dtype=light.dtype)
    members = [(bins == index).nonzero().squeeze(1) for index in range(_BINS)]
    # A picture too small for any full bin is one bin, that of its mean.
    if max(len(member) for member in members) < _FEWEST_BLOCKS:
        members[int(bins.float().mean())] = torch.arange(len(bins), device=bins.device)
    for index, member in enumerate(members):
        if len(member) >= min(_FEWEST_BLOCKS, len(bins)):
            kept = member[gradient[member].argsort()[: max(1, round(_SMOOTH_PART * len(member)))]]
            intensities[index] = light[kept].mean()
            std[index] = (variances[:, kept].median() / _MEDIAN).sqrt()
    return intensities, std


def _interpolate(x: float, xs: Float[Tensor, " bins"], ys: Float[Tensor, " bins"]) -> Float[Tensor, ""]:
    known = xs.isfinite()
    xs, ys = xs[known], ys[known]
    above = int((xs < x).sum().clamp(1, max(1, len(xs) - 1)))
    if len(xs) == 1:
        return ys[0]
    weight = ((x - xs[above - 1]) / (xs[above] - xs[above - 1])).clamp(0, 1)
    return ys[above - 1].lerp(ys[above], weight)
