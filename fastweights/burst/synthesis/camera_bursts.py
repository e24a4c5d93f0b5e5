"""Bursts of random cameras with a known clean picture: photo, motion, camera, JPEG, alignment."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from fastweights.burst.errors import BurstError
from fastweights.burst.slots import to_slots
from fastweights.burst.synthesis.bias import with_bias
from fastweights.burst.synthesis.camera import MARGIN, Camera, draw_camera, shoot
from fastweights.burst.synthesis.jpeg import compressed, draw_jpeg
from fastweights.burst.synthesis.motion import FARTHEST, FOUND, TAPS, displaced, draw_found, draw_shifts
from fastweights.burst.synthesis.workers import one_thread_in_worker
from fastweights.burst.transfer import srgb_decode, srgb_encode

_DECODED = srgb_decode(torch.arange(256, dtype=torch.float64) / 255).float().numpy()
Truth = Literal["clean", "mean"]
# Gaussian std in pixels of what a lens adds: reduced photos are sharper than any camera's pixels.
_LENS = (0.2, 1.0)
# Pixels lost to moving frames back.
_ROOM = FOUND + TAPS
# Frames of the reference's scene drawn in addition where the truth is their expectation.
_EXTRA = 4


class CameraBurst(NamedTuple):
    """A burst in slots, linear light 0..1, frame 0 the reference; `to_slots` explains the counts.

    frames are what a denoiser sees: 8-bit sRGB frames, linearised. truth is the same development of the reference
    without rounding and without the noise that changes from frame to frame. single_error is the mean absolute
    difference in sRGB of one frame to the truth.
    """

    frames: Float[Tensor, "t 3 h w"]
    counts: Float[Tensor, " t"]
    truth: Float[Tensor, "3 h w"]
    single_error: Float[Tensor, ""]


class CameraBursts(Dataset[CameraBurst]):
    """Bursts of a random camera, made from clean sRGB photos (H, W, 3) uint8; burst n is a pure function of (seed, n).

    photo, reduced 1..3 times by area in linear light -> crop, lens blur of std 0.2..1.0 px, flips,
    quarter turns -> exposure and tint -> motion ->
    `shoot` with `draw_camera` -> linearised -> `to_slots`. Half of the bursts are static; 40 % have residual shifts of
    std 0.6 px an axis; in 10 % some frames are also up to 16 px off. The number of frames is `slots` with
    probability 0.7, otherwise uniform in 2..24. `camera` fixes the camera instead, `frames` their number.
    aligned is the share of the others of which alignment has moved the frames back onto the reference, by interpolation
    and up to its error (`draw_found`); all frames lie as they were shot at 0.
    jpeg is the share of bursts whose frames are compressed (`draw_jpeg`); the truth never is.
    truth="clean" is the reference without noise, but with the fixed pattern of the sensor where the burst is static:
    there nothing tells it from texture. truth="mean" is what the mean of very many frames shows (`with_bias`).

    One frame's noise in 8-bit sRGB has a std of about 1.5 to 25. A real ISO 3200 camera with noise correlations
    .52 .21 .12 (red), .30 .03 .06 (green), .48 .17 .10 (blue) at distances 1, 2, 3, .40 between channels, and a fixed
    pattern of .15 (highlights) to .37 (shadows) of the other noise's variance lies well inside.
    Raises BurstError for photos smaller than patch + 60 pixels and IndexError past `length`.

    Example
    -------
    >>> photo = np.random.default_rng(0).integers(0, 256, (120, 140, 3), dtype=np.uint8)
    >>> burst = CameraBursts([photo], seed=0, patch=48)[7]
    >>> tuple(burst.frames.shape), tuple(burst.truth.shape), int(burst.counts.sum())
    ((8, 3, 48, 48), (3, 48, 48), 8)
    """

    def __init__(  # noqa: PLR0913
        self,
        photos: Sequence[np.ndarray],
        seed: int,
        *,
        patch: int = 128,
        slots: int = 8,
        length: int = 1 << 40,
        camera: Camera | None = None,
        frames: int | None = None,
        truth: Truth = "clean",
        aligned: float = 0.0,
        jpeg: float = 0.0,
    ) -> None:
        needed = _outer(patch, FARTHEST)
        for i, photo in enumerate(photos):
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or min(photo.shape[:2]) < needed:
                raise BurstError(
                    f"photo {i} is {photo.dtype} {photo.shape}: a patch of {patch} needs uint8 (H, W, 3) "
                    f"with H and W at least {needed}; give larger photos or a smaller patch"
                )
        if not photos or patch < 2 or patch % 2 or seed < 0 or truth not in get_args(Truth):
            raise BurstError(
                f"need photos, an even patch, a seed >= 0 and truth 'clean' or 'mean', got {len(photos)} photos, "
                f"{patch=}, {seed=}, {truth=}"
            )
        self.photos, self.seed, self.patch, self.slots = photos, seed, patch, slots
        self.length, self.camera, self.frames, self.truth = length, camera, frames, truth
        self.aligned, self.jpeg = aligned, jpeg

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> CameraBurst:
        if not 0 <= number < self.length:
            raise IndexError(f"burst {number} of a set of {self.length}")
        one_thread_in_worker()
        rng = np.random.Generator(np.random.PCG64([self.seed, number]))
        camera = draw_camera(rng) if self.camera is None else self.camera
        count = self.frames or (self.slots if rng.random() < 0.7 else int(rng.integers(2, 25)))
        shifts = draw_shifts(rng, count)
        found = draw_found(rng, shifts, self.aligned) if self.aligned else np.zeros_like(shifts)
        quality = draw_jpeg(rng, self.jpeg) if self.jpeg else (0, 0, 0)
        room = _ROOM if found.any() else 0
        inner = self.patch + 2 * (MARGIN + room)
        reach = FARTHEST if np.abs(shifts).max() > FOUND else FOUND if shifts.any() else -TAPS
        scene = self._scene(rng, inner + 2 * (reach + TAPS))
        scenes = np.stack([displaced(scene, shift, inner) for shift in shifts])
        if self.truth == "mean":
            scenes = np.concatenate([scenes, np.repeat(scenes[:1], _EXTRA, 0)])
        # What all frames of a static burst have in common cannot be told from the scene.
        pixels, truth = shoot(scenes, camera, rng, keep_pattern=not shifts.any())
        if self.truth == "mean":
            truth = with_bias(truth, torch.from_numpy(_DECODED[pixels[count:]]).permute(0, 3, 1, 2))
        pixels = compressed(pixels[:count], *quality)
        light = _DECODED[pixels]
        part = slice(room, room + self.patch)
        truth = truth[:, part, part].contiguous()
        light = np.stack([displaced(one, -far, self.patch) for one, far in zip(light, found, strict=True)])
        frames = torch.from_numpy(np.maximum(light, 0)).permute(0, 3, 1, 2).contiguous()
        first = torch.from_numpy(pixels[0, part, part]).permute(2, 0, 1) / 255
        return CameraBurst(*to_slots(frames, self.slots), truth, (first - srgb_encode(truth)).abs().mean())

    def _scene(self, rng: np.random.Generator, size: int) -> np.ndarray:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        height, width, _ = photo.shape
        source = int(size * rng.uniform(1, min(3, min(height, width) / size)))
        top, left = rng.integers(height - source + 1), rng.integers(width - source + 1)
        crop = photo[top : top + source, left : left + source]
        light = cv2.resize(cv2.LUT(crop, _DECODED), (size, size), interpolation=cv2.INTER_AREA)
        light = cv2.GaussianBlur(light, (7, 7), rng.uniform(*_LENS))
        light = np.rot90(light, int(rng.integers(4)))[:, :: rng.choice([1, -1])]
        gain = np.exp(rng.uniform(np.log(0.15), np.log(1.4))) * np.exp(rng.normal(0, 0.1, 3))
        return np.multiply(light, gain, dtype=np.float32)


def _outer(patch: int, reach: int) -> int:
    return patch + 2 * (MARGIN + reach + TAPS)
