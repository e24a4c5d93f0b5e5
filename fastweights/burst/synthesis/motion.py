"""Camera shake: random displacements of the frames of a burst, and a picture displaced by a fraction of a pixel."""

import cv2
import numpy as np

TAPS = 4
FARTHEST = 16
_STATIC, _RESIDUAL, _STRAY = 0.5, 0.6, 2.4


def draw_shifts(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 2) displacements in pixels (down, right) of a hand-held burst after a rough alignment.

    All zero for half of the bursts. Otherwise frame 0 has a random sub-pixel position, so that every frame is equally
    interpolated, and the others stray from it by N(0, 0.6) per axis; in a fifth of these bursts (10 % of all) each
    other frame is with probability 0.3, at least one of them surely, up to 13 px farther off. Never beyond 16 px.

    Example
    -------
    >>> draw_shifts(np.random.default_rng(3), 8).shape
    (8, 2)
    """
    kind = rng.random()
    if kind < _STATIC:
        return np.zeros((count, 2))
    common = rng.uniform(-0.5, 0.5, 2)
    stray = np.clip(rng.normal(0, _RESIDUAL, (count, 2)), -_STRAY, _STRAY)
    stray[0] = 0
    if kind >= 1 - (1 - _STATIC) / 5 and count > 1:
        far = rng.random(count) < 0.3
        far[0], far[rng.integers(1, count)] = False, True
        stray[far] += rng.uniform(-13, 13, (int(far.sum()), 2))
    return common + stray


def displaced(scene: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
    """The middle size x size of a scene (H, W, 3), looked at `shift` pixels farther down and right.

    out[y, x] = scene[y + shift[0], x + shift[1]], by a windowed sinc of 8 taps an axis (Lanczos); zero copies.
    The scene must reach |shift| + 4 pixels beyond what is cut out.

    Example
    -------
    >>> ramp = np.broadcast_to(np.arange(20.0)[:, None, None], (20, 20, 3))
    >>> displaced(ramp, np.array([1.0, 0.0]), 4)[:, 0, 0].round(6).tolist()
    [9.0, 10.0, 11.0, 12.0]
    """
    start = (np.array(scene.shape[:2]) - size) // 2
    if not shift.any():
        return scene[start[0] : start[0] + size, start[1] : start[1] + size]
    whole = np.floor(shift).astype(int)
    top, left = start + whole - TAPS
    area = scene[top : top + size + 2 * TAPS, left : left + size + 2 * TAPS]
    rows, columns = (_lanczos(fraction) for fraction in shift - whole)
    return cv2.sepFilter2D(area, -1, columns, rows)[TAPS:-TAPS, TAPS:-TAPS]


def _lanczos(fraction: float) -> np.ndarray:
    distance = np.arange(-TAPS, TAPS + 1) - fraction
    taps = np.where(np.abs(distance) < TAPS, np.sinc(distance) * np.sinc(distance / TAPS), 0)
    return taps / taps.sum()
