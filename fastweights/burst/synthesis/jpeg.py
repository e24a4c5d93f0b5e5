"""JPEG as cameras write it: frames through the real encoder and back."""

import cv2
import numpy as np

_GRID = 8
_QUALITY = (80, 99)


def draw_jpeg(rng: np.random.Generator, share: float) -> tuple[int, int, int]:
    """Quality, and where the first full block begins (down, right): quality 80..98 with probability `share`, else 0.

    Example
    -------
    >>> draw_jpeg(np.random.default_rng(0), 0.0)
    (0, 0, 0)
    """
    if rng.random() >= share:
        return 0, 0, 0
    down, right = rng.integers(_GRID, size=2)
    return int(rng.integers(*_QUALITY)), int(down), int(right)


def compressed(frames: np.ndarray, quality: int, down: int = 0, right: int = 0) -> np.ndarray:
    """Frames (N, H, W, 3) uint8 after JPEG of a quality 1..100, blocks beginning at (down, right); 0 changes nothing.

    Colour is halved in either direction, as most cameras do.

    Example
    -------
    >>> frames = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    >>> compressed(frames, 90, 3, 5).shape, bool((compressed(frames, 90) == frames).all())
    ((2, 20, 30, 3), False)
    """
    if not quality:
        return frames
    above, before = -down % _GRID, -right % _GRID
    # Blocks that begin above the picture are filled up with its mirror image.
    large = np.pad(frames, ((0, 0), (above, 0), (before, 0), (0, 0)), mode="symmetric")
    return np.stack([_through(frame, quality)[above:, before:] for frame in large])


def _through(frame: np.ndarray, quality: int) -> np.ndarray:
    # OpenCV takes the first channel for blue.
    _, data = cv2.imencode(".jpg", frame[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert back is not None
    return back[..., ::-1]
