"""Noisy frames in, one clean picture out: choose the view, align, estimate the noise, denoise."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from fastweights.burst import images, models, weights
from fastweights.burst import precision as precisions
from fastweights.burst.aligned import Aligned
from fastweights.burst.errors import BurstError
from fastweights.burst.frames import Arrays, Burst, Files, Transfer, load
from fastweights.burst.motion import Registration, unregistered
from fastweights.burst.noise import Noise, estimate_noise
from fastweights.burst.precision import Precision
from fastweights.burst.registration import register
from fastweights.burst.sharpness import sharpest
from fastweights.burst.slots import to_slots
from fastweights.burst.tiles import by_tiles
from fastweights.burst.transfer import srgb_encode

SLOTS = 8


@dataclass(frozen=True)
class Result:
    """The clean picture of a burst, and what was found on the way.

    image: linear light, white = 1, not clipped, channels as the frames have them. registration: which frames were
    used, and how they were moved. noise: of one frame. reference: number of the frame whose view it is. precision:
    of the network's convolutions. seconds: of all but reading files. burst: the frames.
    """

    image: Float[Tensor, "c h w"]
    registration: Registration
    noise: Noise
    reference: int
    precision: Precision
    seconds: float
    burst: Burst = field(repr=False)

    @property
    def shifts(self) -> Float[Tensor, "t 2"]:
        """Displacement (down, right) of each frame against the reference in pixels."""
        return self.registration.shifts

    def encoded(self) -> Float[Tensor, "c h w"]:
        """The picture as sRGB values, clipped to 0..1."""
        return srgb_encode(self.image).clamp(0, 1)

    def write(self, path: str | os.PathLike[str], bits: int = 8, transfer: Transfer = "srgb") -> None:
        """Writes the picture, with the notes and profile of the reference's file, see `fastweights.burst.images.write`.

        With transfer="linear" the values are linear light, in a TIFF; values of linear frames keep their scale there.
        Raises BurstError for linear light in another format, and as `fastweights.burst.images.write` does.
        """
        images.check_output(path, bits, (), self.image.shape[0], transfer)
        details = self.burst.details[self.reference]
        if self.burst.linear != (transfer == "linear"):
            # A profile also says how values encode light.
            details = images.Details(details.exif)
        scale = self.burst.scale if self.burst.linear and self.burst.bits == bits else 1
        images.write(path, self.image * scale if transfer == "linear" else srgb_encode(self.image), bits, details)


def denoise(
    frames: Files | Arrays | Burst,
    *,
    model: str | os.PathLike[str] | nn.Module = "gated",
    reference: int | None = None,
    align: bool = True,
    strength: float = 1.0,
    precision: Precision | None = None,
    tile: int = 448,
    progress: bool = False,
) -> Result:
    """One clean picture from 2 to 32 noisy ones of the same scene.

    Frames are linearised (sRGB), brought onto the reference (`fastweights.burst.registration`: shake, turns, moving
    things, drifting light; what does not fit is left out), averaged into the network's slots if there are more, and
    denoised tile by tile: beside the frames themselves, as their files hold them, and the
    picture, memory does not grow with the picture's size. Red, green and blue are denoised together; any other channel
    (a grey picture's, a microscope's) is a plane of its own, shown to the network as a grey picture.

    Args:
        frames: a folder, a list of files, or an array (N, H, W, 3) or (N, 3, H, W) of sRGB values: 0..1 if floating
            point, else 8 or 16 bits; or what `fastweights.burst.load` makes of these, which takes linear values too.
        model: a shipped network ("gated", "kpn"), a .safetensors file, or a module called like
            `fastweights.burst.models.CameraDenoiser`, with its attribute `reach`.
        reference: number of the frame whose view and moment the picture shows; None takes the sharpest.
        align: whether to look for motion; without it the frames are taken as they lie.
        strength: s of 0..1: the picture is mean + s (network - mean), at 0 the mean of the frames.
        precision: of the network's convolutions; None takes what is fastest on this processor for the networks of this
            package (see `fastweights.burst.precision.fastest`), and float32 for any other module or device.
        tile: largest side of a tile in pixels; smaller ones need less memory. It changes no value beyond rounding.
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
    >>> result = denoise(noisy, model=Mean(), reference=0)
    >>> result.image.shape, result.shifts.round().abs().sum().item()
    (torch.Size([3, 64, 80]), 0.0)
    """
    burst = load(frames)
    if reference is not None and not -len(burst) <= reference < len(burst):
        raise BurstError(f"the reference is frame {reference}, but the burst has frames 0 to {len(burst) - 1}")
    if not 0 <= strength <= 1:
        raise BurstError(f"strength is {strength}: expected 0 (mean of the frames) to 1 (the network's picture)")
    network = model if isinstance(model, nn.Module) else _camera(weights.load(model), model)
    reach = getattr(network, "reach", None)
    if not isinstance(reach, int):
        raise BurstError(
            f"the network's reach is {reach}: expected an attribute `reach` that says how many pixels away a frame can "
            "change its result"
        )
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    if precision is None:
        own = isinstance(network, models.CameraDenoiser) and device.type == "cpu"
        precision = precisions.fastest() if own else "float32"
    slots = network.config.frames if isinstance(network, models.CameraDenoiser) else SLOTS
    with torch.no_grad(), _bar(progress) as done:
        start = time.perf_counter()
        reference = sharpest(burst.greys()) if reference is None else reference % len(burst)
        registration = register(burst, reference) if align else unregistered(len(burst), reference)
        aligned = Aligned(burst, registration)
        noise = estimate_noise(*aligned.samples())

        def make(rows: slice, columns: slice) -> Float[Tensor, "c y x"]:
            _give_back()
            light = aligned.light(rows, columns).to(device)
            mean = light.mean(0)
            if strength == 0:
                return mean.cpu()
            frames, counts = to_slots(light, slots)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                picture = _apply(network, frames, counts, burst.colour)
            return (picture if strength == 1 else mean + strength * (picture - mean)).cpu()

        image = by_tiles(make, burst.size, burst.window, tile, reach, done)
        return Result(image, registration, noise, reference, precision, time.perf_counter() - start, burst)


def mean_of(result: Result, tile: int = 448) -> Float[Tensor, "c h w"]:
    """The mean of the aligned frames of a result, in linear light: what its picture would be with strength 0."""
    aligned = Aligned(result.burst, result.registration)
    return by_tiles(lambda *part: aligned.light(*part).mean(0), result.burst.size, result.burst.window, tile, 0)


def _apply(
    network: nn.Module, frames: Float[Tensor, "t c h w"], counts: Float[Tensor, " t"], colour: bool
) -> Float[Tensor, "c h w"]:
    """Colours together, any other plane by itself as a grey picture."""
    planes = [frames[:, :3]] if colour else []
    planes += [plane.unsqueeze(1).expand(-1, 3, -1, -1) for plane in frames[:, 3 * colour :].unbind(1)]
    made = [network(plane[None], counts[None])[0].to(frames) for plane in planes]
    return torch.cat([part if colour and not index else part.mean(0, True) for index, part in enumerate(made)])


def _give_back() -> None:
    """Memory that was freed goes back to the system: glibc would keep some 400 MiB of it."""
    with suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def _camera(network: nn.Module, name: str | os.PathLike[str]) -> nn.Module:
    if isinstance(network, models.PaperDenoiser):
        raise BurstError(f"the network {str(name)!r} is for grey bursts of known noise: give one of the camera task")
    return network


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A function that is told (pixels done, pixels in all)."""
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task("denoising", total=None)
        yield lambda pixels, total: progress.update(task, completed=pixels, total=total)
