"""One colour a pixel and back: the Bayer mosaic of a sensor, and three ways to fill in the missing colours."""

from collections.abc import Callable

import cv2
import numpy as np

# Colour (0 red, 1 green, 2 blue) at (0, 0), (0, 1), (1, 0), (1, 1) of the four phases.
PATTERNS = ((0, 1, 1, 2), (1, 0, 2, 1), (1, 2, 0, 1), (2, 1, 1, 0))
_NAMES = ("RGGB", "GRBG", "GBRG", "BGGR")


def _kernel(sixteenths: str) -> np.ndarray:
    return np.array(sixteenths.split(), np.float32).reshape(5, 5) / 16


# Malvar, He, Cutler 2004, Fig. 2.
_GREEN = _kernel("0 0 -2 0 0  0 0 4 0 0  -2 4 8 4 -2  0 0 4 0 0  0 0 -2 0 0")
_IN_ROW = _kernel("0 0 1 0 0  0 -2 0 -2 0  -2 8 10 8 -2  0 -2 0 -2 0  0 0 1 0 0")
_DIAGONAL = _kernel("0 0 -3 0 0  0 4 0 4 0  -3 0 12 0 -3  0 4 0 4 0  0 0 -3 0 0")

# OpenCV's own methods take 16-bit integers: this affine map leaves room for noise below black and above white.
_LOW, _HIGH = -0.5, 3.0


def sites(phase: int) -> tuple[tuple[int, int, int], ...]:
    """(row, column, colour) of the four sites of a 2 x 2 Bayer cell; phase 0..3 is RGGB, GRBG, GBRG, BGGR.

    Example
    -------
    >>> sites(0)
    ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2))
    """
    return tuple((k // 2, k % 2, colour) for k, colour in enumerate(PATTERNS[phase]))


def mosaic(rgb: np.ndarray, phase: int) -> np.ndarray:
    """Keep one colour a pixel: (..., H, W, 3) -> (..., H, W).

    Example
    -------
    >>> mosaic(np.arange(12).reshape(2, 2, 3), 0).tolist()
    [[0, 4], [7, 11]]
    """
    out = np.empty(rgb.shape[:-1], rgb.dtype)
    for row, column, colour in sites(phase):
        out[..., row::2, column::2] = rgb[..., row::2, column::2, colour]
    return out


def bilinear(raw: np.ndarray, phase: int) -> np.ndarray:
    """Mean of the nearest neighbours of each colour, by OpenCV: (H, W) float32 -> (H, W, 3), range -0.5..3."""
    return _opencv(raw, f"COLOR_Bayer{_NAMES[phase]}2RGB")


def edge_aware(raw: np.ndarray, phase: int) -> np.ndarray:
    """Green along the smaller gradient, by OpenCV: (H, W) float32 -> (H, W, 3), range -0.5..3."""
    return _opencv(raw, f"COLOR_Bayer{_NAMES[phase]}2RGB_EA")


def malvar(raw: np.ndarray, phase: int) -> np.ndarray:
    """Gradient-corrected linear interpolation: (H, W) float32 -> (H, W, 3).

    Source: Malvar, He, Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color images",
    ICASSP 2004. Exact on colours that are affine in the pixel position, two pixels away from the border.
    """
    green, in_row = cv2.filter2D(raw, -1, _GREEN), cv2.filter2D(raw, -1, _IN_ROW)
    in_column, diagonal = cv2.filter2D(raw, -1, _IN_ROW.T), cv2.filter2D(raw, -1, _DIAGONAL)
    out = np.empty((*raw.shape, 3), np.float32)
    for row, column, colour in sites(phase):
        here = np.s_[row::2, column::2]
        if colour == 1:
            beside = PATTERNS[phase][2 * row + 1 - column]
            out[*here, beside] = in_row[here]
            out[*here, 2 - beside] = in_column[here]
        else:
            out[*here, 1] = green[here]
            out[*here, 2 - colour] = diagonal[here]
        out[*here, colour] = raw[here]
    return out


METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "bilinear": bilinear,
    "malvar": malvar,
    "edge_aware": edge_aware,
}


def _opencv(raw: np.ndarray, code: str) -> np.ndarray:
    scale = 65535 / (_HIGH - _LOW)
    integers = np.clip(raw * np.float32(scale) + np.float32(0.5 - _LOW * scale), 0, 65535).astype(np.uint16)
    return cv2.demosaicing(integers, getattr(cv2, code)).astype(np.float32) * np.float32(1 / scale) + np.float32(_LOW)
