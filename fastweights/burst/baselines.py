"""What a burst's clean picture is without a network: aligned means, a frequency-domain merge, NLM and BM3D.

All take a burst (T, C, H, W) in linear light, frame 0 the reference, and its `NoiseCurve`, and give (C, H, W).
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from unittest import mock

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.align import estimate_shifts
from fastweights.burst.errors import BurstError
from fastweights.burst.noise import Noise
from fastweights.burst.transfer import kpn_encode, srgb_decode, srgb_encode

Burst = Float[Tensor, "t c h w"]
Picture = Float[Tensor, "c h w"]

_KNOTS = 512  # of a variance-stabilising curve
_TILE = 16
_TUNING = 10**2.25
# A frame whose coarse picture differs from the reference's by more than this many standard deviations does not fit.
_MISFIT = 2.0
_COARSE = 8
# Distances in pixels at which noise is still taken to be correlated.
_CORRELATED = 6


@dataclass(frozen=True)
class NoiseCurve:
    """Standard deviation of one frame's noise at some levels of linear light, rising; each (C, n).

    Example
    -------
    >>> NoiseCurve.of_sensor(0.01, 0.1, white=1.0).at(torch.tensor([[[0.0, 0.09]]])).flatten()
    tensor([0.0100, 0.0316])
    """

    levels: np.ndarray
    std: np.ndarray

    @classmethod
    def of_sensor(cls, read: float, shot: float, white: float) -> "NoiseCurve":
        """One channel with variance read^2 + shot^2 light, for light from 0 to white."""
        levels = white * np.linspace(0, 1, _KNOTS)[None] ** 2
        return cls(levels, np.sqrt(read**2 + shot**2 * levels))

    @classmethod
    def estimated(cls, noise: Noise) -> "NoiseCurve":
        """Three channels from `estimate_noise`."""
        levels = np.linspace(0, 1, _KNOTS) ** 2
        channels = np.tile(levels, (3, 1))
        std = noise.of(torch.from_numpy(channels)[:, None]).squeeze(1).numpy()
        return cls(channels, np.maximum(std, 1e-4))

    def at(self, light: Picture) -> Picture:
        """Std at every pixel of a picture."""
        pairs = zip(light.numpy(), self.levels, self.std, strict=True)
        return torch.from_numpy(np.stack([np.interp(plane, x, y) for plane, x, y in pairs])).to(light)

    def stabilise(self, light: Picture) -> Picture:
        """Values in which the noise of one frame has std 1: the integral of 1 / std."""
        return self._map(light, back=False)

    def restore(self, values: Picture) -> Picture:
        """The inverse of `stabilise`."""
        return self._map(values, back=True)

    def _map(self, picture: Picture, back: bool) -> Picture:
        planes = []
        for plane, x, std in zip(picture.double().numpy(), self.levels, self.std, strict=True):
            steps = np.diff(x) * (1 / std[1:] + 1 / std[:-1]) / 2
            y = np.concatenate([[0], np.cumsum(steps)])
            # Straight on beyond the ends, where noise carries values.
            wide = np.array([x[0] - 10 * std[0], *x, x[-1] + 10 * std[-1]])
            tall = np.array([y[0] - 10, *y, y[-1] + 10])
            planes.append(np.interp(plane, tall, wide) if back else np.interp(plane, wide, tall))
        return torch.from_numpy(np.stack(planes)).to(picture)


def align(frames: Burst, noise: NoiseCurve) -> Float[Tensor, "s c h w"]:
    """The frames moved onto frame 0 by parts of a pixel, without those that do not fit it.

    Whole-frame translation (`estimate_shifts`), Lanczos interpolation. A frame is dropped where the median difference
    of its means over 8 x 8 pixels to the reference's exceeds twice what noise explains.
    """
    height, width = frames.shape[-2:]
    seen = frames if frames.shape[1] == 3 else frames.expand(-1, 3, -1, -1)
    white = noise.levels.max()
    encode = srgb_encode if frames.shape[1] == 3 else kpn_encode
    shifts = estimate_shifts(encode(seen / white).clamp(0, 1)).numpy()
    moved = [frames[0]]
    for frame, (down, right) in zip(frames[1:], shifts[1:], strict=True):
        matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
        flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
        planes = [
            cv2.warpAffine(plane, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for plane in frame.numpy()
        ]
        moved.append(torch.from_numpy(np.stack(planes)))
    values = torch.stack([noise.stabilise(frame) for frame in moved])
    coarse = torch.nn.functional.avg_pool2d(values, min(_COARSE, height, width))
    expected = np.sqrt(2) / _COARSE * 0.6745  # the median of |difference|
    fits = [
        index == 0 or (one - coarse[0]).abs().median().item() < _MISFIT * expected * _correlated(frames)
        for index, one in enumerate(coarse)
    ]
    return torch.stack([frame for frame, kept in zip(moved, fits, strict=True) if kept])


def _correlated(frames: Burst) -> float:
    # Means over blocks of a demosaiced picture keep more noise than those of independent pixels.
    return 2.0 if frames.shape[1] == 3 else 1.0


def hdr_plus(frames: Burst, noise: NoiseCurve) -> Picture:
    """The merge of Hasinoff et al. 2016 as released with the KPN: tile by tile, frequency by frequency.

    Tiles of 16, four tilings half a tile apart under a raised-cosine window, D_z = FFT(reference) - FFT(frame_z),
    A_z = |D_z|^2 / (|D_z|^2 + c sigma^2), c = 10^2.25, sigma the mean noise; the mean over z of frame_z + A_z D_z. No
    alignment. Source: hdrplus_tiled of github.com/google/burst-denoising.

    Example
    -------
    >>> flat = torch.full((8, 1, 40, 50), 0.5)
    >>> hdr_plus(flat, NoiseCurve.of_sensor(0.01, 0.0, 1.0)).allclose(flat[0])
    True
    """
    height, width = frames.shape[-2:]
    sigma = noise.at(frames[0].clamp(min=0)).mean().item()
    pad = (0, -width % _TILE, 0, -height % _TILE)
    padded = torch.nn.functional.pad(frames, pad, mode="replicate")
    axis = 0.5 - 0.5 * torch.cos(2 * torch.pi * (torch.arange(_TILE).to(frames) + 0.5) / _TILE)
    merged = torch.zeros_like(padded[0])
    for offset in itertools.product((0, _TILE // 2), repeat=2):
        rolled = torch.roll(padded, (-offset[0], -offset[1]), (-2, -1))
        tiles = rolled.unfold(-2, _TILE, _TILE).unfold(-2, _TILE, _TILE) * (axis[:, None] * axis)
        spectra = torch.fft.fft2(tiles)
        difference = spectra[:1] - spectra
        power = difference.abs().square()
        merge = (spectra + power / (power + _TUNING * sigma**2) * difference).mean(0)
        blocks = torch.fft.ifft2(merge).real.transpose(-3, -2)
        merged += torch.roll(blocks.reshape(padded.shape[1:]), offset, (-2, -1))
    return merged[..., :height, :width]


def nlm(frames: Burst, noise: NoiseCurve, strength: float = 1.0) -> Picture:
    """OpenCV's fastNlMeansDenoisingMulti on 7 aligned frames of 8 bit; h = strength x the mean noise there.

    With fewer than 8 fitting frames the largest odd number. Values are clipped to 0..1.
    """
    white = float(noise.levels.max())
    encode = srgb_encode if frames.shape[1] == 3 else kpn_encode
    aligned = align(frames, noise)
    number = len(aligned) - 1 + len(aligned) % 2
    # The middle one of the window is denoised: the reference.
    order = [*range(1, number // 2 + 1), 0, *range(number // 2 + 1, number)]
    encoded = encode(aligned[order] / white).clamp(0, 1)
    pixels = [np.ascontiguousarray((255 * one).round().byte().permute(1, 2, 0).numpy()) for one in encoded]
    level = aligned.mean(0).clamp(0, white)
    std = noise.at(level)
    h = 255 * strength * (encode((level + std) / white) - encode((level - std).clamp(min=0) / white)).mean().item() / 2
    if len(pixels[0].shape) == 3 and pixels[0].shape[2] == 3:
        clean = cv2.fastNlMeansDenoisingColoredMulti(pixels, number // 2, number, None, h, h, 7, 21)
    else:
        clean = cv2.fastNlMeansDenoisingMulti([one[..., 0] for one in pixels], number // 2, number, None, h, 7, 21)[
            ..., None
        ]
    found = torch.from_numpy(clean).permute(2, 0, 1) / 255
    return white * (srgb_decode(found) if frames.shape[1] == 3 else _kpn_decode(found))


def bm3d(frames: Burst, noise: NoiseCurve, *, spectrum: bool = False, strength: float = 1.0) -> Picture:
    """Align, drop misfits, average, stabilise the variance, BM3D (Dabov et al. 2007; Mäkinen et al. 2020), and back.

    spectrum=True gives BM3D the noise's power spectrum, measured on the differences of the aligned frames; otherwise
    the noise counts as white. strength scales the standard deviation. Colour goes through BM3D's opponent colours.
    Raises BurstError without the extra `baselines`.
    """
    try:
        import bm3d as package
    except ImportError as error:
        raise BurstError("BM3D needs the extra `baselines`: pip install 'fastweights[baselines]'") from error
    aligned = align(frames, noise)
    values = noise.stabilise(aligned.mean(0))
    sigma = strength / len(aligned) ** 0.5
    image = values.permute(1, 2, 0).double().numpy()
    psd: float | np.ndarray = sigma
    if spectrum and len(aligned) > 1:
        psd = sigma**2 * _power_spectrum(torch.stack([noise.stabilise(frame) for frame in aligned]))
    with _with_trapz():
        if frames.shape[1] == 3:
            clean = package.bm3d_rgb(image, psd if spectrum else [sigma] * 3)
        else:
            clean = package.bm3d(image, psd)
    clean = np.asarray(clean).reshape(image.shape)
    return noise.restore(torch.from_numpy(clean).permute(2, 0, 1).to(frames))


def _power_spectrum(values: Burst) -> np.ndarray:
    """(H, W, C), E |FFT(noise of a frame)|^2 from differences of frames, smoothed: no correlation beyond 6 pixels."""
    height, width = values.shape[-2:]
    noise = (values[1:] - values[:-1]).double() / 2**0.5
    noise = noise - noise.mean((-2, -1), keepdim=True)
    correlation = torch.fft.ifft2(torch.fft.fft2(noise).abs().square().mean(0)).real
    fold = [np.minimum(np.arange(n), n - np.arange(n)) for n in (height, width)]
    window = np.prod(
        np.meshgrid(*(np.cos(np.pi / 2 * np.minimum(f / _CORRELATED, 1)) ** 2 for f in fold), indexing="ij"), 0
    )
    psd = torch.fft.fft2(correlation * torch.from_numpy(window)).real
    return cast(np.ndarray, psd.clamp(min=1e-6 * psd.max().item()).permute(1, 2, 0).numpy())


@contextmanager
def _with_trapz() -> Iterator[None]:
    """bm3d calls numpy.trapz, which numpy 2.4 knows as trapezoid alone."""
    with mock.patch.object(np, "trapz", np.trapezoid, create=True):
        yield


def _kpn_decode(encoded: Tensor) -> Tensor:
    """The inverse of `kpn_encode` on 0..1, from a table."""
    light = torch.linspace(0, 1, 1 << 14, dtype=torch.float64)
    found = np.interp(encoded.double().numpy(), kpn_encode(light).numpy(), light.numpy())
    return torch.from_numpy(found).to(encoded)
