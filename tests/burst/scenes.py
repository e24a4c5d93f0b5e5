"""A camera without noise, and small photos, scenes and bursts for the tests of the synthesis."""

import numpy as np

from fastweights.burst.synthesis.camera import Camera
from fastweights.burst.synthesis.camera_bursts import CameraBursts

SILENT = Camera(shot=0.0, read=0.0)


def photo(height=140, width=150, seed=0):
    """Smooth colours with edges: noise blurred by summing, and a bright square."""
    noise = np.random.default_rng(seed).random((height + 8, width + 8, 3))
    smooth = sum(noise[i : i + height, i : i + width] for i in range(8)) / 8
    smooth[40:70, 40:70] += 0.3
    return (smooth.clip(0, 1) * 255).astype(np.uint8)


def scenes(n=1, height=60, width=48, level=0.2):
    return np.full((n, height, width, 3), level, np.float32)


def bursts(seed=0, **settings):
    return CameraBursts([photo(), photo(seed=1)], seed, patch=32, **settings)
