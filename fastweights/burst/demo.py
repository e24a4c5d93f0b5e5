"""The demonstration: a noisy burst made from a photo that ships, denoised by every network that ships."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from fastweights import cost
from fastweights.burst import images, weights
from fastweights.burst.losses import psnr
from fastweights.burst.pipeline import SLOTS, denoise
from fastweights.burst.synthesis.camera import Camera, shoot
from fastweights.burst.transfer import srgb_decode, srgb_encode

# Noise of one frame: std 13 of 255 at mid grey, correlated over pixels and colours as in the files of a camera.
CAMERA = Camera(shot=8e-3, read=5e-3, gains=(1.9, 1.6), smooth_colour=1.0)
FRAMES = 8
SEED = 0
_SHAKE = 6
_MARGIN = 10
# The face, in the middle of smooth and textured parts: left, top, side.
_DETAIL = (150, 60, 128)
_PANEL = 384
_LABEL = 44


@dataclass(frozen=True)
class Entry:
    """One way to a picture: its result in linear light, PSNR in dB against the truth, seconds, largest feature map."""

    name: str
    picture: Float[Tensor, "3 h w"]
    psnr: float
    seconds: float | None = None
    largest: str = ""


def synthesise(photo: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "t 3 h w"], Float[Tensor, "3 h w"]]:
    """Eight hand-held noisy frames (sRGB values) of a photo (sRGB values) and the clean picture in linear light.

    Frame 0 is in place, the others are off by up to 6 pixels in fractions. The same bytes at every call.

    Example
    -------
    >>> frames, truth = synthesise(images.read(images.SAMPLE)[:, :40, :60])
    >>> tuple(frames.shape), tuple(truth.shape)
    ((8, 3, 40, 60), (3, 40, 60))
    """
    rng = np.random.default_rng(SEED)
    light = srgb_decode(photo).permute(1, 2, 0).numpy()
    border = _MARGIN + _SHAKE + 4
    wide = cv2.copyMakeBorder(light, border, border, border, border, cv2.BORDER_REFLECT_101)
    size = (photo.shape[2] + 2 * _MARGIN, photo.shape[1] + 2 * _MARGIN)
    offset = border - _MARGIN
    shifts = rng.uniform(-_SHAKE, _SHAKE, (FRAMES, 2)) * (np.arange(FRAMES) > 0)[:, None]
    moves = [np.array([[1, 0, right - offset], [0, 1, down - offset]], np.float32) for down, right in shifts]
    scenes = [cv2.warpAffine(wide, move, size, flags=cv2.INTER_LANCZOS4) for move in moves]
    frames, truth = shoot(np.stack(scenes), CAMERA, rng, _MARGIN)
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, truth


def run(names: Sequence[str] | None = None, photo: Float[Tensor, "3 h w"] | None = None) -> list[Entry]:
    """One frame, the mean of the aligned frames, each network (by default all that ship), and the truth, as entries.

    Seconds are those of alignment, noise estimate and network, or of alignment and mean; the truth has infinite PSNR.
    """
    frames, truth = synthesise(images.read(images.SAMPLE) if photo is None else photo)

    def entry(name: str, picture: Tensor, seconds: float | None = None, largest: str = "") -> Entry:
        figure = psnr(picture[None], truth[None], clip=True, encode=srgb_encode)
        return Entry(name, picture, figure.item(), seconds, largest)

    mean = denoise(frames, model=Mean(), reference=0)
    entries = [entry("one frame", srgb_decode(frames[0])), entry("mean of 8", mean.image, mean.seconds)]
    for name in weights.available() if names is None else names:
        network = weights.load(name)
        # The first run compiles what is compiled on first use.
        largest = cost.measure(network, srgb_decode(frames)[None, :SLOTS], torch.ones(1, SLOTS))
        result = denoise(frames, model=network, reference=0)
        shape = " x ".join(map(str, largest.largest))
        entries.append(entry(name, result.image, result.seconds, f"{shape} ({largest.largest_bytes / 2**20:.0f} MiB)"))
    return [*entries, entry("truth", truth)]


class Mean(nn.Module):
    """The plain mean of a burst, as a network."""

    reach = 0

    def forward(self, frames: Float[Tensor, "b t 3 h w"], counts: Float[Tensor, "b t"]) -> Float[Tensor, "b 3 h w"]:
        """Mean of all real frames, in linear light."""
        return torch.einsum("btchw,bt->bchw", frames, counts / counts.sum(1, keepdim=True))


def comparison(entries: Sequence[Entry]) -> Float[Tensor, "3 h w"]:
    """One labelled picture: every entry whole, and a detail of it magnified three times below, as sRGB values.

    Example
    -------
    >>> entry = Entry("grey", torch.full((3, 512, 512), 0.2), 40.0)
    >>> comparison([entry, entry]).shape
    torch.Size([3, 812, 768])
    """
    left, top, side = _DETAIL
    sheet = Image.new("RGB", (_PANEL * len(entries), _LABEL + 2 * _PANEL), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(22)
    for number, entry in enumerate(entries):
        levels = (srgb_encode(entry.picture).clamp(0, 1) * 255).round().byte()
        picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
        figure = "" if np.isinf(entry.psnr) else f"  {entry.psnr:.2f} dB"
        draw.text((number * _PANEL + 8, _LABEL // 2), entry.name + figure, "black", font, anchor="lm")
        whole = picture.resize((_PANEL, _PANEL), Image.Resampling.BOX)
        detail = picture.crop((left, top, left + side, top + side)).resize((_PANEL, _PANEL), Image.Resampling.NEAREST)
        sheet.paste(whole, (number * _PANEL, _LABEL))
        sheet.paste(detail, (number * _PANEL, _LABEL + _PANEL))
    return torch.from_numpy(np.asarray(sheet).copy()).permute(2, 0, 1) / 255
