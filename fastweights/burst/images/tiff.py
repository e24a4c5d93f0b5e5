"""TIFF files in: 8 to 16 bits or floating point, any number of channels, one frame or many."""

import io
import logging
import logging.handlers
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile

from fastweights.burst.errors import BurstError
from fastweights.burst.images.picture import MOST_PIXELS, Details, Picture, exif_within

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Axes of a stack that may count frames (time, depth, image, unnamed); channels are C or, interleaved, S.
_FRAME_AXES, _PLANE_AXES = "TZIQ", "CS"
_COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
_GREYS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
_PROFILE, _ORIENTATION, _NOISE = 34675, 274, 51041
# Quarter turns and mirroring that bring a picture of each orientation upright.
_TURNS = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True)}
_TURNS[8] = (1, False)


def read(content: bytes) -> list[Picture]:
    """All frames of a TIFF file: its pages, or the axis of time or depth of a stack as microscopes write it.

    RGB is colour; grey values and channels of a stack are planes of their own, and so are channels beyond RGB.
    Transparency and reduced copies of a page are dropped. Raises BurstError for what it can tell, and what the parser
    raises for a broken file.
    """
    with _quiet() as messages, tifffile.TiffFile(io.BytesIO(content)) as file:
        # The parser's search for stacks does not end where a page is none.
        pages = [file.pages[index] for index in range(len(file.pages))]
        if not all(page.shape and all(page.shape) and page.dataoffsets for page in pages):
            raise BurstError("the picture is broken or cut off (a page without pixels)")
        details = Details(exif_within(content), _tag(file.pages.first, _PROFILE) or b"")
        series = [one for one in file.series if not one.keyframe.is_reduced]
        pictures = [picture for one in series for picture in _frames(one, len(content), details)]
    # Of a file cut off in its middle, the parser only says that it found no page at an offset.
    if any("invalid page offset" in message for message in messages):
        raise BurstError("the picture is broken or cut off (pages are missing)")
    return pictures


def noise_profile(content: bytes) -> tuple[tuple[float, float], ...]:
    """Pairs (S, O) of a DNG file's tag NoiseProfile, see `Details`; none where the file has no such tag.

    Raises BurstError for a file that ends before its pixels do, which the library that reads them does not notice.
    """
    try:
        with _quiet(), tifffile.TiffFile(io.BytesIO(content)) as file:
            pages = [page for top in file.pages for page in (top, *(top.pages or ()))]
            found = next((tag for page in pages if (tag := _tag(page, _NOISE))), ())
            noise = tuple((float(shot), float(read)) for shot, read in zip(found[::2], found[1::2], strict=False))
            ends = [end for page in pages for end in _ends(page)]
    except Exception:
        # Not every raw file is a TIFF structure; only this note is missing.
        return ()
    if ends and max(ends) > len(content):
        raise BurstError("the picture is broken or cut off (pixels beyond its end)")
    return noise


def _ends(page: Any) -> list[int]:
    return [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]


def _frames(series: tifffile.TiffPageSeries, size: int, details: Details) -> Iterator[Picture]:
    page = series.keyframe
    count = math.prod(series.shape)
    if math.prod(page.shape[:2] if page.axes[-1] == "S" else page.shape[-2:]) > MOST_PIXELS:
        raise BurstError(f"pages of the shape {page.shape}: more than {MOST_PIXELS} pixels are no photo")
    if page.photometric not in (*_COLOURS, *_GREYS, tifffile.PHOTOMETRIC.PALETTE):
        raise BurstError(f"colours of the kind {getattr(page.photometric, 'name', page.photometric)}: save it as RGB")
    for one in series.pages:
        ends = [] if one is None else _ends(one)
        if not ends or max(ends) > size:
            raise BurstError("the picture is broken or cut off (pixels beyond its end)")
    axes, shape = series.axes, series.shape
    frames = [axis for axis, length in zip(axes, shape, strict=True) if axis not in "YX" and length > 1]
    frames = [axis for axis in frames if axis not in _PLANE_AXES]
    if len(frames) > 1 or any(axis not in _FRAME_AXES for axis in frames) or axes.count("Y") * axes.count("X") != 1:
        named = " x ".join(f"{length} {axis}" for axis, length in zip(axes, shape, strict=True))
        raise BurstError(f"a stack of {named}: expected one axis of frames beside height Y, width X and channels C, S")
    values = series.asarray()
    if values.size != count:
        raise BurstError(f"the picture is broken: {values.size} values, expected {count}")
    order = [*(i for i, axis in enumerate(axes) if axis not in "YXCS"), axes.index("Y"), axes.index("X")]
    order += [i for i, axis in enumerate(axes) if axis in _PLANE_AXES]
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    number = shape[axes.index(frames[0])] if frames else 1
    for pixels in values.transpose(order).reshape(number, height, width, -1):
        yield _picture(page, pixels, details)


def _picture(page: Any, pixels: np.ndarray, details: Details) -> Picture:
    colour = page.photometric in _COLOURS
    samples = page.samplesperpixel if pixels.shape[2] % page.samplesperpixel == 0 else 1
    alpha = [samples - len(page.extrasamples) + n for n, kind in enumerate(page.extrasamples) if kind in _ALPHA]
    pixels = np.delete(pixels, alpha, axis=2) if alpha and pixels.shape[2] == samples else pixels
    pixels, white = _values(page, pixels)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        colour, white = True, 65535.0
        pixels = np.asarray(page.colormap, np.uint16).T[pixels[..., 0]]
    elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = pixels.dtype.type(white) - pixels
    turns, mirrored = _TURNS.get(_tag(page, _ORIENTATION) or 1, (0, False))
    pixels = np.rot90(pixels, turns)
    pixels = pixels[:, ::-1] if mirrored else pixels
    return Picture(np.ascontiguousarray(pixels), white, colour and pixels.shape[2] >= 3, details=details)


def _values(page: Any, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Values as uint8, uint16 or float32, and white: 1 for floating point, else all bits set."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255), 255.0
    if pixels.dtype in (np.uint8, np.uint16):
        bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * pixels.itemsize
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False), 2.0**bits - 1
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return pixels.astype(np.float32), 1.0
    raise BurstError(f"its values are {pixels.dtype}, expected 8 or 16 bit whole numbers or floating point")


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """What tifffile would print while it reads."""
    logger, messages = logging.getLogger("tifffile"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
