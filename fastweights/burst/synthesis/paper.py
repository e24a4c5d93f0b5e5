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
# sigma_read and sigma_shot by gain, as stored in the released test set (Mildenhall et al. 2018).
GAINS = {1: (10**-2.2, 0.0520), 2: (10**-1.8, 0.0789), 4: (10**-1.44, 0.1196), 8: (10**-1.07, 0.1814)}
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

    1. Photo / 255 to the power 2.2, mean of R, G, B. Every photo gives 4 random patches of (patch + 2 shifts[1]) *
       upscale pixels and every patch 2 bursts, in a shuffled order that is drawn anew when all are used up. A smaller
       photo is first padded with zeros, equally on both sides.
    2. Frame 0 is the patch's centre. p = min(Poisson(1.5) / 8, 1) a burst; each other frame is moved by whole pixels,
       uniform in +-shifts[1] upscale with probability p, otherwise in +-shifts[0] upscale, rows and columns alike.
    3. Area-reduced by upscale: shifts are multiples of 1 / upscale.
    4. Times a white level 10^U(-1, 0); sigma_read = 10^U(-3, -1.5), sigma_shot = 10^U(-2, -1);
       noisy = t + sigma_shot sqrt(t) n1 + sigma_read n2 with n1, n2 ~ N(0, 1), not clipped.
       With `gain` 1, 2, 4 or 8 instead: white level 1 and the noise of the papers' test set at that gain.

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
        shifts: tuple[int, int] = (2, 16),
        gain: int | None = None,
        length: int = 1 << 40,
    ) -> None:
        for i, photo in enumerate(photos):
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
                raise BurstError(f"photo {i} is {photo.dtype} {photo.shape}: expected uint8 (H, W, 3)")
        if not photos or min(patch, upscale, frames) < 1 or not 0 <= shifts[0] <= shifts[1] or seed < 0:
            raise BurstError(
                "need photos, patch, upscale and frames of at least 1, rising shifts of at least 0 and seed >= 0, "
                f"got {len(photos)} photos, {patch=}, {upscale=}, {frames=}, {shifts=}, {seed=}"
            )
        self.photos, self.seed, self.patch, self.upscale = photos, seed, patch, upscale
        if gain is not None and gain not in GAINS:
            raise BurstError(f"gain is {gain}: the papers' test set has the gains {', '.join(map(str, GAINS))}")
        self.gain = gain
        self.frames, self.shifts, self.length = frames, shifts, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> PaperBurst:
        if not 0 <= number < self.length:
            raise IndexError(f"burst {number} of a set of {self.length}")
        one_thread_in_worker()
        rng = np.random.Generator(np.random.PCG64([self.seed, number, 1]))
        white_level, read, shot = 10 ** rng.uniform([-1, -3, -2], [0, -1.5, -1])
        if self.gain is not None:
            white_level, (read, shot) = 1.0, GAINS[self.gain]
        moves = self._moves(rng)
        clean = np.float32(white_level) * self._frames(self._patch(number), moves)
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
        return _random_crop(self.photos[photo], (self.patch + 2 * self.shifts[1]) * self.upscale, rng)

    def _moves(self, rng: np.random.Generator) -> np.ndarray:
        big = rng.random(self.frames) < min(rng.poisson(1.5) / 8, 1)
        reach = np.where(big, *reversed(self.shifts))[:, None] * self.upscale
        moves = rng.integers(-reach, reach + 1, (self.frames, 2))
        moves[0] = 0
        return moves

    def _frames(self, patch: np.ndarray, moves: np.ndarray) -> np.ndarray:
        size, margin = self.patch * self.upscale, self.shifts[1] * self.upscale
        crops = (patch[margin + dy : margin + dy + size, margin + dx : margin + dx + size] for dy, dx in moves)
        return np.stack([cv2.resize(c, (self.patch, self.patch), interpolation=cv2.INTER_AREA) for c in crops])


def _random_crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Grey linear crop of size x size; where the photo is smaller, zeros fill both sides equally."""
    height, width, _ = photo.shape
    top, left = rng.integers(max(height - size, 0) + 1), rng.integers(max(width - size, 0) + 1)
    crop = cv2.LUT(photo[top : top + size, left : left + size], _LINEAR)
    grey = cv2.transform(crop, np.full((1, 3), 1 / 3))
    rows, columns = size - grey.shape[0], size - grey.shape[1]
    return np.pad(grey, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)))
