"""Whole-frame translation: where each frame's content lies against the reference."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.threads import each

# Halvings of the coarse-to-fine search: 16 px become 1 px, inside the reach of the gradient steps of every level.
_LEVELS = 4
_SMALLEST = 24
_STEPS = 50
_BLUR = 5
_TOLERANCE = 1e-4
# Half of the content has to stay in view; a larger result is a search gone astray.
_FARTHEST = 0.25


def estimate_shifts(
    frames: Float[Tensor, "t *c h w"] | Sequence[Float[Tensor, "*c h w"]], reference: int = 0
) -> Float[Tensor, "t 2"]:
    """Displacement (down, right) of every frame against the reference in pixels: frame[p + shift] shows reference[p].

    Maximises the enhanced correlation coefficient of the blurred grey pictures, coarse to fine, by gradient steps
    (OpenCV's findTransformECC). Brightness and contrast may differ between frames. Encoded values are wanted, in which
    the noise is more even. Frames are asked for one at a time, colours are averaged. A frame without a plausible match
    (flat pictures, more than a quarter of a side off) gets 0.
    Source: Evangelidis, Psarakis, "Parametric image alignment using enhanced correlation coefficient maximization",
    IEEE Transactions on Pattern Analysis and Machine Intelligence 30 (10), 2008.

    Example
    -------
    >>> from fastweights.burst import images
    >>> photo = images.read(images.SAMPLE)
    >>> frames = torch.stack([photo[:, 10:310, 10:410], photo[:, 5:305, 13:413]])
    >>> estimate_shifts(frames).round().int().tolist()
    [[0, 0], [5, -3]]
    """
    target = _pyramid(frames[reference])

    def shift(index: int) -> np.ndarray:
        return np.zeros(2) if index == reference else _search(target, _pyramid(frames[index]))

    shifts = each(shift, range(len(frames)))
    return torch.from_numpy(np.stack(shifts)).float()


def _pyramid(frame: Float[Tensor, "*c h w"]) -> list[np.ndarray]:
    grey = frame.detach().float().reshape(-1, *frame.shape[-2:]).mean(0)
    levels = [np.ascontiguousarray(grey.cpu().numpy())]
    while len(levels) <= _LEVELS and min(levels[-1].shape) >= 2 * _SMALLEST:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def _search(target: list[np.ndarray], moved: list[np.ndarray]) -> np.ndarray:
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _STEPS, _TOLERANCE)
    shift = np.zeros(2)
    for level in reversed(range(len(target))):
        # pyrDown keeps pixel 0 in place, so a position doubles exactly from one level to the next.
        shift = 2 * shift
        warp = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], np.float32)
        try:
            _, warp = cv2.findTransformECC(
                target[level], moved[level], warp, cv2.MOTION_TRANSLATION, criteria, None, _BLUR
            )
        except cv2.error:
            # No convergence on this level (no texture): the next one starts from the last good estimate.
            continue
        found = warp[::-1, 2].astype(np.float64)
        if (np.abs(found) < _FARTHEST * np.array(target[level].shape)).all():
            shift = found
    return shift
