"""Camera shake: random displacements of a burst's frames, what alignment finds of them, and a displaced picture."""

import cv2
import numpy as np

TAPS = 4
FARTHEST = 16
_STATIC, _RESIDUAL, _STRAY = 0.5, 0.6, 2.4
# Farthest that alignment moves a frame back: what strays from the reference without being far off.
FOUND = 3
# Std in pixels of what alignment misses, from burst to burst: `register` had .007 to .4, mostly .02.
_MISSED = (0.01, 0.2)


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


def draw_found(rng: np.random.Generator, shifts: np.ndarray, share: float) -> np.ndarray:
    """(count, 2): how far alignment believes each frame to be from the reference, frame 0; zeros where it does nothing.

    With probability `share` it finds every displacement but for an error of N(0, s) per axis, log s uniform between
    the logarithms of .01 and .2 pixels. It does nothing in static bursts and where a frame is far off.

    Example
    -------
    >>> shifts = np.array([[0.3, 0.0], [0.9, -0.4]])
    >>> draw_found(np.random.default_rng(0), shifts, 1.0).round(1).tolist()
    [[0.0, 0.0], [0.6, -0.4]]
    """
    away = shifts - shifts[0]
    if rng.random() >= share or not away.any() or np.abs(away).max() > _STRAY:
        return np.zeros_like(shifts)
    missed = np.exp(rng.uniform(*np.log(_MISSED)))
    found = np.clip(away + rng.normal(0, missed, shifts.shape), -FOUND, FOUND)
    found[0] = 0
    return found


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
