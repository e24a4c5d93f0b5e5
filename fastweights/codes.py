"""Codes that are kept small: a code is a tensor, or one of these lazy codes with `.dense()`.

An operation that understands a lazy code never expands it; every other one calls `dense(code)`. `Upsampled` and
`Sliced` interpolate, so a pointwise affine map (a 1 x 1 head, a converted gate head) may be applied before or after
the expansion. `Separable` is not linear: a pointwise map expands it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Rule = Literal["half_pixel", "legacy"]


@dataclass(frozen=True)
class Upsampled:
    """A pixel code predicted at a lower resolution: bilinear interpolation by a whole factor, then a crop to `size`.

    `code` is (B, k, h, w) with h = ceil(H / factor), w = ceil(W / factor) and `size` = (H, W). The rule is
    "half_pixel" (`F.interpolate(align_corners=False)`) or "legacy" (TensorFlow 1: source = destination / factor,
    the last sample repeats), which the released kernel prediction network used.

    >>> Upsampled(torch.ones(1, 200, 3, 4), factor=2, size=(5, 8)).dense().shape
    torch.Size([1, 200, 5, 8])
    """

    code: Float[Tensor, "b k h w"]
    factor: int
    size: tuple[int, int]
    rule: Rule = "half_pixel"

    def __post_init__(self):
        if self.factor < 1:
            raise ValueError(f"Upsampled: factor is {self.factor}, expected at least 1")
        expected = tuple(-(-n // self.factor) for n in self.size)
        if self.rule not in ("half_pixel", "legacy"):
            raise ValueError(f"Upsampled: rule is {self.rule!r}, expected 'half_pixel' or 'legacy'")
        if self.code.ndim != 4:
            raise ValueError(f"Upsampled: the code has shape {tuple(self.code.shape)}, expected (B, k, h, w)")
        if tuple(self.code.shape[-2:]) != expected:
            raise ValueError(
                f"Upsampled: a code of {tuple(self.code.shape[-2:])} pixels cannot be upsampled by {self.factor} to "
                f"{tuple(self.size)}, expected {expected}"
            )

    def dense(self) -> Float[Tensor, "b k H W"]:
        """All pixels' codes."""
        if self.factor == 1:
            return self.code
        if self.rule == "half_pixel":
            full = F.interpolate(self.code, scale_factor=self.factor, mode="bilinear", align_corners=False)
        else:
            full = _legacy_upsample(_legacy_upsample(self.code, -2, self.factor), -1, self.factor)
        return full[..., : self.size[0], : self.size[1]]

    def map(self, function: Callable[[Tensor], Tensor]) -> Upsampled:
        """The code after a pointwise affine map of its k numbers, still small."""
        return replace(self, code=function(self.code))


@dataclass(frozen=True)
class Separable:
    """Kernels that are outer products (Niklaus 2017): `k[t, u, v] = vertical[t, u] horizontal[t, v]`.

    `vertical` and `horizontal` are (B, T K, H, W); dense kernels are (B, T K K, H, W), in (t, u, v) order.

    >>> Separable(torch.ones(1, 2 * 51, 4, 4), torch.ones(1, 2 * 51, 4, 4), frames=2).dense().shape
    torch.Size([1, 5202, 4, 4])
    """

    vertical: Float[Tensor, "b tk h w"]
    horizontal: Float[Tensor, "b tk h w"]
    frames: int

    def __post_init__(self):
        same = self.vertical.shape == self.horizontal.shape and self.vertical.ndim == 4
        if not same or self.frames < 1 or self.vertical.shape[1] % self.frames:
            raise ValueError(
                f"Separable: vertical {tuple(self.vertical.shape)} and horizontal {tuple(self.horizontal.shape)} must "
                f"have one shape (B, T K, H, W) with T = {self.frames} frames"
            )

    def dense(self) -> Float[Tensor, "b k h w"]:
        """The outer products, kernel by kernel."""
        columns = self.vertical.unflatten(1, (self.frames, -1))
        rows = self.horizontal.unflatten(1, (self.frames, -1))
        return torch.einsum("btuhw,btvhw->btuvhw", columns, rows).flatten(1, 3)


@dataclass(frozen=True)
class Sliced:
    """A pixel code read from a bilateral grid: trilinear interpolation at (x, y, guide) (Gharbi 2017).

    A code of its own, since neither part can stand for it: the grid is small, the guide has one number for each pixel
    of the expanded code. `grid` is (B, d, k, h, w), d bins of the guide, and `guide` (B, H, W) in [0, 1]. Bin z of d
    stands at guide (z + 0.5) / d; outside the outermost centres the grid is constant.

    >>> Sliced(torch.ones(1, 8, 12, 16, 16), torch.rand(1, 40, 50)).dense().shape
    torch.Size([1, 12, 40, 50])
    """

    grid: Float[Tensor, "b d k h w"]
    guide: Float[Tensor, "b H W"]

    def __post_init__(self):
        if self.grid.ndim != 5 or self.guide.ndim != 3 or self.grid.shape[0] != self.guide.shape[0]:
            raise ValueError(
                f"Sliced: grid {tuple(self.grid.shape)} and guide {tuple(self.guide.shape)} must be (B, d, k, h, w) "
                "and (B, H, W) with one B"
            )

    def dense(self) -> Float[Tensor, "b k H W"]:
        """The grid read at every pixel."""
        height, width = self.guide.shape[-2:]
        # Coordinates of low precision would miss their cells.
        guide = self.guide.to(torch.promote_types(self.grid.dtype, torch.float32))
        # grid_sample's coordinates run from -1 to 1 between the outer edges of the outermost cells.
        rows, columns = (
            (2 * torch.arange(n, dtype=guide.dtype, device=guide.device) + 1) / n - 1 for n in (height, width)
        )
        where = torch.stack([columns.expand_as(guide), rows[:, None].expand_as(guide), 2 * guide - 1], dim=-1)
        volume = self.grid.transpose(1, 2).to(guide.dtype)
        numbers = F.grid_sample(volume, where.unsqueeze(1), padding_mode="border", align_corners=False).squeeze(2)
        return numbers.to(self.grid.dtype)

    def map(self, function: Callable[[Tensor], Tensor]) -> Sliced:
        """The code after a pointwise affine map of its k numbers, still a grid."""
        return replace(self, grid=function(self.grid))


LazyCode = Upsampled | Separable | Sliced
Code = Tensor | LazyCode | tuple[Tensor, Tensor]


def dense(code: Code) -> Tensor | tuple[Tensor, Tensor]:
    """The code as plain tensors: a lazy code is expanded, anything else is returned as it is."""
    return code.dense() if isinstance(code, LazyCode) else code


def pointwise(function: Callable[[Tensor], Tensor], code: Code) -> Code:
    """Apply an affine map of the k numbers of a code; interpolated codes stay small, a separable one is expanded."""
    if isinstance(code, Upsampled | Sliced):
        return code.map(function)
    numbers = dense(code)
    if isinstance(numbers, tuple):
        raise TypeError("a pair of codes (P, Q) has no pointwise map; map its parts")
    return function(numbers)


def _legacy_upsample(x: Tensor, dim: int, factor: int) -> Tensor:
    following = torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, x.shape[dim] - 1, 1)], dim)
    steps = [torch.lerp(x, following, step / factor) for step in range(factor)]
    axis = x.ndim + dim
    return torch.stack(steps, axis + 1).flatten(axis, axis + 1)
