"""A burst in memory: its frames as their files hold them, turned into light where somebody looks."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeGuard, cast

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst import images
from fastweights.burst.errors import BurstError
from fastweights.burst.transfer import srgb_decode, srgb_encode

FEWEST, MOST = 2, 32
_SMALLEST = 16
# Noise may lift a floating point value above white, but not this far; 0..255 goes farther.
_LARGEST = 4.0

Files: TypeAlias = images.PathLike | Sequence[images.PathLike]
Arrays: TypeAlias = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray]
# Left, top, width, height in pixels.
Crop: TypeAlias = tuple[int, int, int, int]
Transfer: TypeAlias = Literal["srgb", "linear"]


@dataclass(frozen=True)
class Burst:
    """Frames of one size and kind: arrays (height, width, channels) of uint8, uint16 or float32.

    white: the value that is 1 in linear light. linear: whether values are linear light, else they are sRGB's. colour:
    whether the first three channels are red, green and blue; all others are planes of their own. names: of the frames,
    as messages show them. details: what each frame's file said beside its pixels. crop: the part of which a picture
    is wanted, all by default; what lies around it still serves to find shifts and to clean its border.
    """

    pixels: Sequence[np.ndarray]
    white: float
    linear: bool
    colour: bool
    names: Sequence[str]
    details: Sequence[images.Details] = field(repr=False)
    crop: Crop | None = None

    def __post_init__(self):
        first = self.pixels[0]
        for name, frame in zip(self.names, self.pixels, strict=True):
            if frame.shape[:2] != first.shape[:2]:
                raise BurstError(
                    f"{name} is {frame.shape[1]} x {frame.shape[0]} pixels, but {self.names[0]} is "
                    f"{first.shape[1]} x {first.shape[0]}: a burst's frames have one size"
                )
            if frame.shape != first.shape or frame.dtype != first.dtype:
                raise BurstError(
                    f"{name} has values of {frame.dtype} in {frame.shape[2]} channels, but {self.names[0]} of "
                    f"{first.dtype} in {first.shape[2]}: a burst's frames are of one kind"
                )
        if min(first.shape[:2]) < _SMALLEST:
            raise BurstError(
                f"frames of {first.shape[1]} x {first.shape[0]} pixels, expected at least {_SMALLEST} a side"
            )

        tall, wide = self.size
        rows, columns = self.window
        if not (0 <= rows.start < rows.stop <= tall and 0 <= columns.start < columns.stop <= wide):
            raise BurstError(
                f"the crop {','.join(map(str, self.crop or ()))} (left, top, width, height) is not within the frames' "
                f"{wide} x {tall} pixels"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels[0].shape[:2]

    @property
    def bits(self) -> int:
        """Bits of a value: 8, 16, or 32 in floating point."""
        return 8 * self.pixels[0].itemsize

    @property
    def scale(self) -> float:
        """White as a part of the largest whole number; white itself in floating point."""
        dtype = self.pixels[0].dtype
        return self.white if dtype == np.float32 else self.white / np.iinfo(dtype).max

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.pixels[0].shape[2]

    def light(self, index: int, rows: slice = slice(None), columns: slice = slice(None)) -> Float[Tensor, "c h w"]:
        """A part of a frame in linear light, white = 1.

        Example
        -------
        >>> load(np.full((2, 20, 30, 3), 128, np.uint8)).light(0, slice(0, 1), slice(0, 1)).flatten()
        tensor([0.2159, 0.2159, 0.2159])
        """
        return torch.from_numpy(self._decoded(self.pixels[index][rows, columns].transpose(2, 0, 1)))

    def encoded(self, index: int) -> Float[Tensor, "h w"]:
        """A frame in grey, in sRGB values: the noise is more even than in linear light."""
        total = sum(self.pixels[index][..., channel].astype(np.float32) for channel in range(self.channels))
        values = torch.from_numpy(np.asarray(total)) / (self.white * self.channels)
        return srgb_encode(values) if self.linear else values

    def reduced(self, index: int, step: int) -> Float[Tensor, "c h w"]:
        """A frame in linear light, `step` times smaller by the mean of step x step pixels; what is left over is cut."""
        if step == 1:
            return self.light(index)
        height, width = (length // step for length in self.size)
        pixels = self.pixels[index][: height * step, : width * step]
        strips = (self._decoded(pixels[top : top + 64 * step]) for top in range(0, height * step, 64 * step))
        small = [cv2.resize(strip, (width, len(strip) // step), interpolation=cv2.INTER_AREA) for strip in strips]
        picture = np.concatenate(small).reshape(height, width, self.channels)
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the part that is wanted."""
        left, top, width, height = self.crop or (0, 0, *self.size[::-1])
        return slice(top, top + height), slice(left, left + width)

    def greys(self) -> "Sequence[Float[Tensor, 'h w']]":
        """All frames as `encoded` gives them, each made when it is asked for."""
        return _Greys(self)

    def _decoded(self, pixels: np.ndarray) -> np.ndarray:
        """Linear light of pixels in any order of axes."""
        pixels = np.ascontiguousarray(pixels)
        if pixels.dtype == np.float32:
            values = pixels / np.float32(self.white)
            return values if self.linear else srgb_decode(torch.from_numpy(values)).numpy()
        if pixels.dtype == np.uint8:
            # OpenCV looks bytes up three times as fast as numpy.
            return cv2.LUT(pixels.reshape(len(pixels), -1), self._table.reshape(1, -1)).reshape(pixels.shape)
        return self._table[pixels]

    @cached_property
    def _table(self) -> np.ndarray:
        """Light of every value of whole numbers."""
        dtype = self.pixels[0].dtype
        values = torch.arange(np.iinfo(dtype).max + 1, dtype=torch.float64) / self.white
        return (values if self.linear else srgb_decode(values)).float().numpy()


class _Greys(Sequence[Tensor]):
    def __init__(self, burst: Burst):
        self._burst = burst

    def __len__(self) -> int:
        return len(self._burst)

    def __getitem__(self, index: Any) -> Any:
        return self._burst.encoded(index)


def load(
    frames: "Files | Arrays | Burst",
    transfer: Transfer = "srgb",
    white: float | None = None,
    crop: Crop | None = None,
) -> Burst:
    """Any of the forms of a burst that `fastweights.burst.denoise` takes.

    Args:
        frames: a folder, a list of files (see `fastweights.burst.images.read_frames`), or an array (N, H, W, 3) or
            (N, 3, H, W): 0..1 if floating point, else 8 or 16 bits.
        transfer: what values are: "srgb", or "linear" light. Raw files are linear in any case.
        white: the value that is white; by default 1 in floating point, else the largest of the type.
        crop: left, top, width and height of the part of which a picture is wanted.

    Raises BurstError for fewer than 2 or more than 32 frames, frames below 16 pixels, frames that differ in size, bits
    or channels, and values that are no picture's.

    Example
    -------
    >>> load(np.full((2, 20, 30, 3), 255, np.uint8)).size
    (20, 30)
    """
    if transfer not in ("srgb", "linear"):
        raise BurstError(f"transfer is {transfer!r}: expected 'srgb' or 'linear'")
    if white is not None and not 0 < white < float("inf"):
        raise BurstError(f"white is {white}: expected the positive value that is white")
    if isinstance(frames, Burst):
        return frames
    if _are_files(frames):
        burst = _from_files(frames, transfer == "linear", white)
    else:
        burst = _from_arrays(cast(Arrays, frames), transfer == "linear", white)
    for name, frame in zip(burst.names, burst.pixels, strict=True):
        # Whole numbers have bounds of their own; NaN is not below any.
        if frame.dtype == np.float32 and not np.abs(frame).max() <= _LARGEST * burst.white:
            raise BurstError(
                f"{name} has values that are not finite or far above 1: floating point frames lie in 0..1, or say with "
                "`white` which value is white"
            )
    return burst if crop is None else dataclasses.replace(burst, crop=crop)


def _from_files(frames: Files, linear: bool, white: float | None) -> Burst:
    paths = images.find(frames)
    if len(paths) > MOST:
        _check_number(len(paths))
    pictures = images.read_frames(paths, MOST)
    _check_number(len(pictures), f" ({paths[0]})" if len(paths) == 1 else "")
    first = pictures[0]
    for picture in pictures:
        if (picture.linear, picture.white, picture.colour) != (first.linear, first.white, first.colour):
            raise BurstError(
                f"{picture.name} has {picture.kind()}, but {first.name} has {first.kind()}: a burst's frames are "
                "of one kind"
            )
    names, details = [picture.name for picture in pictures], [picture.details for picture in pictures]
    pixels = [picture.pixels for picture in pictures]
    return Burst(pixels, white or first.white, first.linear or linear, first.colour, names, details)


def _are_files(frames: Files | Arrays) -> TypeGuard[Files]:
    each = frames if isinstance(frames, Sequence) and not isinstance(frames, str) else [frames]
    return all(isinstance(item, (str, os.PathLike)) for item in each)


def _from_arrays(frames: Arrays, linear: bool, white: float | None) -> Burst:
    if isinstance(frames, Sequence):
        sizes = sorted({tuple(frame.shape) for frame in frames})
        if len(sizes) > 1:
            raise BurstError(f"frames of the shapes {sizes}: a burst's frames have one size")
        frames = torch.stack([torch.as_tensor(frame) for frame in frames])
    array = frames.numpy(force=True) if isinstance(frames, Tensor) else frames
    if array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]):
        raise BurstError(f"an array of shape {array.shape}: expected (N, 3, H, W) or (N, H, W, 3)")
    _check_number(len(array))
    if array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if np.issubdtype(array.dtype, np.floating):
        array, peak = array.astype(np.float32, copy=False), 1.0
    elif array.dtype in (np.uint8, np.uint16):
        peak = float(np.iinfo(array.dtype).max)
    else:
        raise BurstError(f"an array of {array.dtype}: expected uint8, uint16 or floating point 0..1")
    names = [f"frame {number}" for number in range(len(array))]
    return Burst(list(array), white or peak, linear, True, names, [images.Details()] * len(array))


def _check_number(number: int, which: str = "") -> None:
    if not FEWEST <= number <= MOST:
        raise BurstError(f"a burst has {FEWEST} to {MOST} frames, got {number}{which}")
