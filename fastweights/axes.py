"""Which axes of x a predicted weight mixes: channels, positions of a sequence, or image patches.

Each class is a frozen description with four moves: `split` brings the mixed numbers of x last, `code_last` brings the
numbers of a code last, `align` gives the code the leading axes of the split x (new singleton axes stand after the
code's own batch axes, and never right-align by accident), `merge` takes the result back.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fastweights.codes import Code, Sliced, Upsampled
from fastweights.structures import Outer, Structure

PaddingMode = Literal["zeros", "replicate", "reflect", "circular"]
PADDING_MODES = {"zeros": "constant", "replicate": "replicate", "reflect": "reflect", "circular": "circular"}


class Axes(abc.ABC):
    """Abstract: where the weight acts. The classes below are final."""

    @abc.abstractmethod
    def split(self, x: Tensor) -> Tensor:
        """x as (*lead, i)."""

    @abc.abstractmethod
    def code_axis(self, code: Tensor) -> int:
        """The axis of a code that holds its k numbers."""

    @abc.abstractmethod
    def mixed(self, x: Tensor) -> int | None:
        """How many numbers of x the weight mixes; None where x has too few axes."""

    def check_x(self, structure: Structure, x: Tensor) -> None:
        """Raise ValueError if the structure's weight does not fit x, before any predictor sees x."""
        expected, found = structure.in_features, self.mixed(x)
        if found is None or found != (expected or found):
            raise ValueError(
                f"{self}: x has shape {tuple(x.shape)}, expected {expected or 'some'} numbers on the axis that "
                f"{type(structure).__name__}({structure.extra_repr()}) mixes"
            )

    def check(self, structure: Structure, code: Code, x: Tensor) -> None:
        """Raise ValueError, naming both shapes, if a code and x cannot belong together."""
        self.check_x(structure, x)
        if isinstance(structure, Outer) and isinstance(code, tuple) and len(code) == 2:
            numbers, expected = code[1].shape[self.code_axis(code[1])], structure.rank * (self.mixed(x) or 0)
            if numbers != expected:
                raise ValueError(
                    f"{self}: Q has shape {tuple(code[1].shape)} for x {tuple(x.shape)}, expected {expected} numbers: "
                    f"the rank {structure.rank} for each of the {self.mixed(x)} that the weight mixes"
                )

    def code_last(self, code: Tensor) -> Tensor:
        """code as (*b, k)."""
        return code.movedim(self.code_axis(code), -1)

    @abc.abstractmethod
    def align(self, code: Tensor, x: Tensor) -> Tensor:
        """code as (*lead, k) with ones where it is shared, for the `split` of x."""

    @abc.abstractmethod
    def merge(self, y: Tensor, x: Tensor) -> Tensor:
        """(*lead, j) as an array laid out like x."""


@dataclass(frozen=True)
class Channels(Axes):
    """One axis of features. x (..., i), code (*b, k); with dim = -3, x (B, i, H, W) and pixel codes (B, k, H, W).

    A code (*b, k) with fewer axes than x is shared over the axes of x that it lacks: (B, k) for x (B, N, i) or, with
    dim = -3, for x (B, i, H, W).
    """

    dim: int = -1

    def __post_init__(self):
        if self.dim >= 0:
            raise ValueError(f"Channels: dim is {self.dim}, expected a negative number (counted from the last axis)")

    def mixed(self, x: Tensor) -> int | None:
        return x.shape[self.dim] if x.ndim >= -self.dim else None

    def split(self, x: Tensor) -> Tensor:
        return x.movedim(self.dim, -1)

    def code_axis(self, code: Tensor) -> int:
        # A pixel code has a batch axis before its k numbers; (B, k) is shared by all positions.
        return self.dim if code.ndim > -self.dim else -1

    def align(self, code: Tensor, x: Tensor) -> Tensor:
        return _insert_shared(self.code_last(code), self.split(x))

    def merge(self, y: Tensor, x: Tensor) -> Tensor:
        return y.movedim(-1, self.dim)


@dataclass(frozen=True)
class Sequence(Axes):
    """Positions of a sequence, as attention mixes them. x (*b, S, C), code (*b, k); the channels share the weight."""

    def mixed(self, x: Tensor) -> int | None:
        return x.shape[-2] if x.ndim >= 2 else None

    def split(self, x: Tensor) -> Tensor:
        return x.mT

    def code_axis(self, code: Tensor) -> int:
        return -1

    def align(self, code: Tensor, x: Tensor) -> Tensor:
        return _insert_shared(code, self.split(x))

    def merge(self, y: Tensor, x: Tensor) -> Tensor:
        return y.mT


@dataclass(frozen=True)
class Patches(Axes):
    """Input patches to output patches. x (B, *e, C, H, W), pixel codes (B, k, h, w), or (B, k, 1, 1) when shared.

    The weight mixes axis -3 (channels or frames) and a window of kernel_size x kernel_size, in `F.unfold` order
    (channel, u, v); earlier axes e (colour) share it. There are h = (H + 2 padding - kernel_size) // stride + 1
    positions a column. With out_kernel_size f the weight gives an output patch (J, f, f) a position, patches are
    laid down every out_stride pixels, overlaps add up and (f - out_stride) / 2 pixels are cut off each border, so the
    result is (B, *e, J, h out_stride, w out_stride). Only out_stride = stride restores the input's resolution.

    Args:
        padding: pixels added at each border; None is (kernel_size - 1) // 2, which keeps the size at stride 1 when
            kernel_size is odd.
        padding_mode: "zeros", "replicate", "reflect" or "circular".
    """

    kernel_size: int
    stride: int = 1
    padding: int | None = None
    padding_mode: PaddingMode = "zeros"
    out_kernel_size: int = 1
    out_stride: int = 1

    def __post_init__(self):
        if min(self.kernel_size, self.stride, self.out_kernel_size, self.out_stride) < 1:
            raise ValueError(f"{self}: sizes and strides must be at least 1")
        if self.padding is not None and (not isinstance(self.padding, int) or self.padding < 0):
            raise ValueError(f"Patches: padding is {self.padding!r}, expected a number of pixels or None")
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(f"Patches: padding_mode is {self.padding_mode!r}, expected one of {sorted(PADDING_MODES)}")
        if self.out_kernel_size < self.out_stride or (self.out_kernel_size - self.out_stride) % 2:
            raise ValueError(
                f"Patches: out_kernel_size {self.out_kernel_size} and out_stride {self.out_stride} leave gaps or an "
                "odd border; expected out_kernel_size = out_stride + an even number"
            )

    @property
    def border(self) -> int:
        """Pixels added at each border of x."""
        return (self.kernel_size - 1) // 2 if self.padding is None else self.padding

    @property
    def out_border(self) -> int:
        """Pixels cut off each border of the result."""
        return (self.out_kernel_size - self.out_stride) // 2

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """Number of patch positions (h, w) in an image."""
        h, w = ((n + 2 * self.border - self.kernel_size) // self.stride + 1 for n in (height, width))
        if min(h, w) < 1:
            raise ValueError(f"{self}: an image of {height} x {width} pixels is smaller than one patch")
        least = self.border + (self.padding_mode == "reflect")
        if self.padding_mode in ("reflect", "circular") and min(height, width) < least:
            raise ValueError(
                f"{self}: borders of {self.border} pixels by {self.padding_mode!r} need an image of at least {least} a "
                f"side, got {height} x {width}"
            )
        return h, w

    def mixed(self, x: Tensor) -> int | None:
        return x.shape[-3] * self.kernel_size**2 if x.ndim >= 4 else None

    def check_x(self, structure: Structure, x: Tensor) -> None:
        found = self.mixed(x)
        if found is None or found != (structure.in_features or found):
            count = "C" if structure.in_features is None else structure.in_features // self.kernel_size**2
            raise ValueError(
                f"{self}: x has shape {tuple(x.shape)}, expected (B, {count}, H, W) or (B, *e, {count}, H, W)"
            )

    def check(self, structure: Structure, code: Code, x: Tensor) -> None:
        """The sizes of everything, before any operation sees them: a first mistake gets one sentence."""
        super().check(structure, code, x)
        h, w = self.positions(*x.shape[-2:])
        for part in code if isinstance(code, tuple) else (code,):
            if isinstance(part, Upsampled):
                numbers, size = tuple(part.code.shape), tuple(part.size)
            elif isinstance(part, Sliced):
                size = tuple(part.guide.shape[-2:])
                numbers = (part.grid.shape[0], part.grid.shape[2], *size)
            else:
                numbers = tuple(part.shape if isinstance(part, Tensor) else part.vertical.shape)
                size = numbers[-2:]
            if len(numbers) != 4 or numbers[0] != x.shape[0] or size not in ((h, w), (1, 1)):
                raise ValueError(
                    f"{self}: the code has shape {numbers} for x {tuple(x.shape)}, expected "
                    f"({x.shape[0]}, k, {h}, {w}), "
                    f"the same by `Upsampled`, or ({x.shape[0]}, k, 1, 1) for one weight shared by all positions"
                )
            expected = structure.code_features
            if isinstance(part, Tensor | Upsampled | Sliced) and expected is not None and numbers[1] != expected:
                raise ValueError(
                    f"{self}: the code has shape {numbers}, expected {expected} numbers on axis 1 for {structure}"
                )

    def pad(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) with its borders."""
        return x if self.border == 0 else F.pad(x, (self.border,) * 4, mode=PADDING_MODES[self.padding_mode])

    def split(self, x: Tensor) -> Tensor:
        images = self.pad(x.reshape(-1, *x.shape[-3:]))
        columns = F.unfold(images, self.kernel_size, stride=self.stride)
        return columns.mT.reshape(*x.shape[:-3], columns.shape[-1], columns.shape[-2])

    def code_axis(self, code: Tensor) -> int:
        return -3

    def align(self, code: Tensor, x: Tensor) -> Tensor:
        code = code.flatten(-2).mT
        return code.reshape(code.shape[0], *(1,) * (x.ndim - 4), *code.shape[1:])

    def merge(self, y: Tensor, x: Tensor) -> Tensor:
        h, w = self.positions(*x.shape[-2:])
        y = y.expand(*y.shape[:-2], h * w, y.shape[-1])
        columns = y.mT.reshape(-1, y.shape[-1], h * w)
        if self.out_kernel_size == 1:
            return columns.reshape(*y.shape[:-2], y.shape[-1], h, w)
        size = tuple((n - 1) * self.out_stride + self.out_kernel_size - 2 * self.out_border for n in (h, w))
        images = F.fold(columns, size, self.out_kernel_size, padding=self.out_border, stride=self.out_stride)
        return images.reshape(*y.shape[:-2], -1, *size)


def _insert_shared(code: Tensor, x: Tensor) -> Tensor:
    lead, own = x.shape[:-1], code.shape[:-1]
    if len(own) > len(lead) or any(c not in (1, n) for c, n in zip(own, lead, strict=False)):
        raise ValueError(
            f"the code (*b, k) has shape {tuple(code.shape)}: its axes b must be the first axes of x, which are "
            f"{tuple(lead)} besides the mixed one"
        )
    return code.reshape(*own, *(1,) * (len(lead) - len(own)), code.shape[-1])
