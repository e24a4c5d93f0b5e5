"""Raw files of cameras in (extra `raw`): black and white level, demosaicing and colours by LibRaw, in linear light."""

import io
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastweights.burst.errors import BurstError
from fastweights.burst.images import tiff
from fastweights.burst.images.picture import MOST_PIXELS, Details, Picture, exif_within

SUFFIXES = (
    ".3fr",
    ".arw",
    ".cr2",
    ".cr3",
    ".dng",
    ".erf",
    ".iiq",
    ".nef",
    ".nrw",
    ".orf",
    ".pef",
    ".raf",
    ".rw2",
    ".srw",
)


def read(content: bytes, balance: tuple[float, ...] = ()) -> Picture:
    """A raw file developed to 16 bits of linear light with sRGB's primaries, upright, white = the sensor's white level.

    Values below black are cut off, as LibRaw does; brightness and the white level are never fitted to the picture, so
    that frames of a burst stay comparable. EXIF data are kept where the file has them as a TIFF does (DNG, NEF, CR2,
    ARW, ...), the noise profile where it is a DNG.

    Args:
        content: of the file.
        balance: multipliers of the white balance, of the burst's first file (see `white_balance`).

    Raises BurstError without rawpy and for a picture too large, and what rawpy raises for a broken file.
    """
    noise = tiff.noise_profile(content)
    with _open(content) as file:
        if file.sizes.raw_width * file.sizes.raw_height > MOST_PIXELS:
            raise BurstError(f"{file.sizes.raw_width} x {file.sizes.raw_height} raw pixels are no photo")
        pixels = file.postprocess(
            user_wb=list(balance or _balance(file)),
            no_auto_bright=True,
            adjust_maximum_thr=0,
            gamma=(1, 1),
            output_bps=16,
        )
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    details = Details(exif_within(content), noise=noise)
    return Picture(np.ascontiguousarray(pixels), 65535.0, pixels.shape[2] == 3, True, details)


def white_balance(content: bytes) -> tuple[float, ...]:
    """Multipliers of red, green, blue and second green as the camera chose them, or for daylight."""
    with _open(content) as file:
        return _balance(file)


def _balance(file: Any) -> tuple[float, ...]:
    chosen = [float(value) for value in file.camera_whitebalance]
    if min(chosen[:3]) <= 0:
        chosen = [float(value) for value in file.daylight_whitebalance]
    return tuple(chosen) if min(chosen[:3]) > 0 else (1.0, 1.0, 1.0, 1.0)


def _open(content: bytes) -> Any:
    if find_spec("rawpy") is None:
        raise BurstError("raw files need the extra `raw`: pip install 'fastweights[raw]'")
    import rawpy

    return rawpy.imread(io.BytesIO(content))
