"""Grey bursts of the kernel prediction papers: linear light, shifts, a white level, read and shot noise."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from fastweights.burst.errors import BurstError
from fastweights.burst.synthesis.workers import one_thread_in_worker

_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_PATCHES_A_PHOTO, _BURSTS_A_PATCH = 4, 2


class PaperBurst(NamedTuple):
    """Noisy frames, frame 0 the reference, and the reference's truth; both times the white level, nothing clipped."""

    frames: Float[Tensor, "t h w"]
    truth: Float[Tensor, "h w"]
    white_level: Float[Tensor, ""]
    sigma_read: Float[Tensor, ""]
    sigma_shot: Float[Tensor, ""]


def noise_map(
    frame0: Float[Tensor, "*b h w"], sigma_read: Float[Tensor, "*b"], sigma_shot: Float[Tensor, "*b"]
) -> Float[Tensor, "*b h w"]:
    """Standard deviation a pixel, as the network gets it: sqrt(sigma_read^2 + max(0, frame0) sigma_shot^2).

    sigma_shot^2 is the variance per unit of light. Source: Mildenhall et al. 2018, github.com/google/burst-denoising.

    Example
    -------
    >>> noise_map(torch.tensor([[-1.0, 4.0]]), torch.tensor(0.3), torch.tensor(0.2))
    tensor([[0.3000, 0.5000]])
    """
    read, shot = sigma_read[..., None, None], sigma_shot[..., None, None]
    return (read**2 + frame0.clamp(min=0) * shot**2).sqrt()


class PaperBursts(Dataset[PaperBurst]):
    """Bursts by the released protocol, from sRGB photos (H, W, 3) uint8; burst n is a pure function of (seed, n).

    1. Photo / 255 to the power 2.2, mean of R, G, B. Every photo gives 4 random patches of (patch + 2 max_shift) *
       upscale pixels and every patch 2 bursts, in a shuffled order that is drawn anew when all are used up. A smaller
       photo is first padded with zeros, equally on both sides.
    2. Frame 0 is the patch's centre. p = min(Poisson(1.5) / 8, 1) a burst; each other frame is moved by whole pixels,
       uniform in +-max_shift upscale with probability p, otherwise in +-small_shift upscale, rows and columns alike.
    3. Area-reduced by upscale: shifts are multiples of 1 / upscale.
    4. Times a white level 10^U(-1, 0); sigma_read = 10^U(-3, -1.5), sigma_shot = 10^U(-2, -1);
       noisy = t + sigma_shot sqrt(t) n1 + sigma_read n2 with n1, n2 ~ N(0, 1), not clipped.

    Raises BurstError for photos of another type and IndexError past `length`.
    Source: Mildenhall et al., "Burst denoising with kernel prediction networks", CVPR 2018, and its code.

    Example
    -------
    >>> photo = np.full((90, 100, 3), 128, np.uint8)
    >>> burst = PaperBursts([photo], seed=0, patch=32, upscale=2)[5]
    >>> tuple(burst.frames.shape), bool(burst.truth[16, 16].isclose(burst.white_level * (128 / 255) ** 2.2))
    ((8, 32, 32), True)
    """

    def __init__(
        self,
        photos: Sequence[np.ndarray],
        seed: int,
        *,
        patch: int = 128,
        upscale: int = 4,
        frames: int = 8,
        max_shift: int = 16,
        small_shift: int = 2,
        length: int = 1 << 40,
    ) -> None:
        for i, photo in enumerate(photos):
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
                raise BurstError(f"photo {i} is {photo.dtype} {photo.shape}: expected uint8 (H, W, 3)")
        if not photos or min(patch, upscale, frames) < 1 or not 0 <= small_shift <= max_shift or seed < 0:
            raise BurstError(
                "need photos, patch, upscale and frames of at least 1, 0 <= small_shift <= max_shift and seed >= 0, "
                f"got {len(photos)} photos, {patch=}, {upscale=}, {frames=}, {small_shift=}, {max_shift=}, {seed=}"
            )
        self.photos, self.seed, self.patch, self.upscale = photos, seed, patch, upscale
        self.frames, self.max_shift, self.small_shift, self.length = frames, max_shift, small_shift, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> PaperBurst:
        if not 0 <= number < self.length:
            raise IndexError(f"burst {number} of a set of {self.length}")
        one_thread_in_worker()
        rng = np.random.Generator(np.random.PCG64([self.seed, number, 1]))
        white_level, read, shot = 10 ** rng.uniform([-1, -3, -2], [0, -1.5, -1])
        shifts = self._shifts(rng)
        clean = np.float32(white_level) * self._frames(self._patch(number), shifts)
        noise = rng.standard_normal((2, *clean.shape), dtype=np.float32)
        noisy = clean + np.float32(shot) * np.sqrt(clean) * noise[0] + np.float32(read) * noise[1]
        scalars = torch.tensor([white_level, read, shot], dtype=torch.float32)
        return PaperBurst(torch.from_numpy(noisy), torch.from_numpy(clean[0]), *scalars)

    def _patch(self, number: int) -> np.ndarray:
        """The grey patch of burst n: two bursts of a round share it."""
        a_photo = _PATCHES_A_PHOTO * _BURSTS_A_PATCH
        round_, place = divmod(number, len(self.photos) * a_photo)
        order = np.random.Generator(np.random.PCG64([self.seed, round_, 2])).permutation(len(self.photos) * a_photo)
        patch, photo = divmod(int(order[place]) // _BURSTS_A_PATCH, len(self.photos))
        rng = np.random.Generator(np.random.PCG64([self.seed, round_, 3, patch, photo]))
        return _random_crop(self.photos[photo], (self.patch + 2 * self.max_shift) * self.upscale, rng)

    def _shifts(self, rng: np.random.Generator) -> np.ndarray:
        big = rng.random(self.frames) < min(rng.poisson(1.5) / 8, 1)
        reach = np.where(big, self.max_shift, self.small_shift)[:, None] * self.upscale
        shifts = rng.integers(-reach, reach + 1, (self.frames, 2))
        shifts[0] = 0
        return shifts

    def _frames(self, patch: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        size, margin = self.patch * self.upscale, self.max_shift * self.upscale
        crops = (patch[margin + dy : margin + dy + size, margin + dx : margin + dx + size] for dy, dx in shifts)
        return np.stack([cv2.resize(c, (self.patch, self.patch), interpolation=cv2.INTER_AREA) for c in crops])


def _random_crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Grey linear crop of size x size; where the photo is smaller, zeros fill both sides equally."""
    height, width, _ = photo.shape
    top, left = rng.integers(max(height - size, 0) + 1), rng.integers(max(width - size, 0) + 1)
    crop = cv2.LUT(photo[top : top + size, left : left + size], _LINEAR)
    grey = cv2.transform(crop, np.full((1, 3), 1 / 3))
    rows, columns = size - grey.shape[0], size - grey.shape[1]
    return np.pad(grey, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)))
