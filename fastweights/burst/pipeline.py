"""Noisy frames in, one clean picture out: read, align, estimate the noise, denoise."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeGuard, cast

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from fastweights.burst import images, models, weights
from fastweights.burst.align import estimate_shifts, shift_frames
from fastweights.burst.errors import BurstError
from fastweights.burst.noise import Noise, estimate_noise
from fastweights.burst.slots import to_slots
from fastweights.burst.tiles import by_tiles
from fastweights.burst.transfer import srgb_decode, srgb_encode

FEWEST, MOST = 2, 32
SLOTS = 8
_SMALLEST = 16
# Noise may lift a floating point value above white, but not this far; 0..255 goes farther.
_LARGEST = 4.0

Files: TypeAlias = images.PathLike | Sequence[images.PathLike]
Arrays: TypeAlias = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray]


@dataclass(frozen=True)
class Result:
    """The clean picture of a burst, and what was found on the way.

    image: linear light, white = 1, not clipped. shifts: displacement (down, right) of each frame against the reference
    in pixels, as measured; frames were moved by the nearest whole numbers. noise: of one frame. seconds: of alignment,
    noise and network, without reading files.
    """

    image: Float[Tensor, "3 h w"]
    shifts: Float[Tensor, "t 2"]
    noise: Noise
    reference: int
    seconds: float

    def encoded(self) -> Float[Tensor, "3 h w"]:
        """The picture as sRGB values, clipped to 0..1."""
        return srgb_encode(self.image).clamp(0, 1)

    def write(self, path: str | os.PathLike[str], bits: int = 8) -> None:
        """Writes the picture, see `fastweights.burst.images.write`."""
        images.write(path, self.encoded(), bits)


def denoise(
    frames: Files | Arrays,
    *,
    model: str | os.PathLike[str] | nn.Module = "gated",
    reference: int = 0,
    align: bool = True,
    tile: int = 768,
    precision: Literal["float32", "bfloat16"] = "float32",
    threads: int | None = None,
    progress: bool = False,
) -> Result:
    """One clean picture from 2 to 32 noisy ones of the same scene.

    Frames are linearised (sRGB), moved back by their whole-frame shift in whole pixels, averaged into the network's 8
    slots if there are more, and denoised tile by tile.

    Args:
        frames: a folder, a list of files, or an array (N, H, W, 3) or (N, 3, H, W) of sRGB values: 0..1 if floating
            point, else 8 or 16 bits.
        model: a shipped network ("gated", "kpn"), a .safetensors file, or a module called like
            `fastweights.burst.models.CameraDenoiser`, with its attribute `reach`.
        reference: number of the frame whose view and moment the picture shows.
        align: whether to look for shifts; without it the frames are taken as they lie.
        tile: largest side of a tile in pixels; smaller ones need less memory.
        precision: of the network's convolutions; "bfloat16" is faster on processors with matrix units for it.
        threads: of torch during this call; None leaves them.
        progress: shows a bar on the terminal.

    Raises BurstError for everything that the caller can repair.

    Example
    -------
    >>> photo = images.read(images.SAMPLE)[:, 50:114, 200:280]
    >>> noisy = photo + 0.05 * torch.randn(8, *photo.shape, generator=torch.manual_seed(0))
    >>> class Mean(nn.Module):
    ...     reach = 0
    ...     def forward(self, frames, counts):
    ...         return (frames * counts[:, :, None, None, None]).sum(1) / counts.sum()
    >>> result = denoise(noisy, model=Mean())
    >>> result.image.shape, result.shifts.round().abs().sum().item()
    (torch.Size([3, 64, 80]), 0.0)
    """
    burst = load(frames)
    if not -len(burst) <= reference < len(burst):
        raise BurstError(f"the reference is frame {reference}, but the burst has frames 0 to {len(burst) - 1}")
    reference %= len(burst)
    if precision not in ("float32", "bfloat16"):
        raise BurstError(f"precision is {precision!r}: expected 'float32' or 'bfloat16'")
    network = model if isinstance(model, nn.Module) else _camera(weights.load(model), model)
    with torch.no_grad(), _threads(threads), _bar(progress) as done:
        start = time.perf_counter()
        shifts = estimate_shifts(burst, reference) if align else burst.new_zeros(len(burst), 2)
        linear = shift_frames(srgb_decode(burst), shifts.round().int())
        noise = estimate_noise(linear)
        order = [reference, *(index for index in range(len(burst)) if index != reference)]
        slots, counts = to_slots(linear[order], SLOTS)
        device = next((parameter.device for parameter in network.parameters()), slots.device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            image = by_tiles(network, slots, counts, tile, done)
        return Result(image, shifts, noise, reference, time.perf_counter() - start)


def load(frames: Files | Arrays) -> Float[Tensor, "t 3 h w"]:
    """Any of the forms of a burst that `denoise` takes, as float32 sRGB values 0..1.

    Raises BurstError for fewer than 2 or more than 32 frames, frames below 16 pixels, and values that are no picture's.

    Example
    -------
    >>> load(np.full((2, 20, 30, 3), 255, np.uint8)).shape
    torch.Size([2, 3, 20, 30])
    """
    if _are_files(frames):
        paths = images.find(frames)
        _check_number(len(paths), f" ({paths[0]})" if len(paths) == 1 else "")
        burst = images.read_burst(paths)
    else:
        burst = _from_arrays(cast(Arrays, frames))
    if min(burst.shape[-2:]) < _SMALLEST:
        raise BurstError(f"frames of {burst.shape[3]} x {burst.shape[2]} pixels, expected at least {_SMALLEST} a side")
    return burst


def _are_files(frames: Files | Arrays) -> TypeGuard[Files]:
    each = frames if isinstance(frames, Sequence) and not isinstance(frames, str) else [frames]
    return all(isinstance(item, (str, os.PathLike)) for item in each)


def _from_arrays(frames: Arrays) -> Float[Tensor, "t 3 h w"]:
    if isinstance(frames, Sequence):
        sizes = sorted({tuple(frame.shape) for frame in frames})
        if len(sizes) > 1:
            raise BurstError(f"frames of the shapes {sizes}: a burst's frames have one size")
        frames = torch.stack([torch.as_tensor(frame) for frame in frames])
    array = frames.numpy(force=True) if isinstance(frames, Tensor) else frames
    if array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]):
        raise BurstError(f"an array of shape {array.shape}: expected (N, 3, H, W) or (N, H, W, 3)")
    _check_number(len(array))
    if array.shape[1] != 3:
        array = array.transpose(0, 3, 1, 2)
    if array.dtype in (np.uint8, np.uint16):
        return torch.from_numpy(array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max))
    if not np.issubdtype(array.dtype, np.floating):
        raise BurstError(f"an array of {array.dtype}: expected uint8, uint16 or floating point 0..1")
    if not np.isfinite(array).all() or np.abs(array).max() > _LARGEST:
        raise BurstError("values that are not finite or far above 1: floating point frames are sRGB values 0..1")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _check_number(number: int, which: str = "") -> None:
    if not FEWEST <= number <= MOST:
        raise BurstError(f"a burst has {FEWEST} to {MOST} frames, got {number}{which}")


def _camera(network: nn.Module, name: str | os.PathLike[str]) -> nn.Module:
    if isinstance(network, models.PaperDenoiser):
        raise BurstError(f"the network {str(name)!r} is for grey bursts of known noise: give one of the camera task")
    return network


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    if number is not None and number < 1:
        raise BurstError(f"threads is {number}: expected at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A function that is told (pixels done, pixels in all)."""
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task("denoising", total=None)
        yield lambda pixels, total: progress.update(task, completed=pixels, total=total)
