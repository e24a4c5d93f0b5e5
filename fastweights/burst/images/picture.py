"""One decoded picture: its pixels as the file holds them, and what the file says beside them."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

PathLike = str | os.PathLike[str]

# Larger pictures are taken for decompression bombs: Pillow's own limit, twice what it warns of.
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
# Maker, model, resolution and its unit, software, time, artist, copyright: what stays true of a denoised picture.
ABOUT = (0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
# The maker's notes and the interoperability table hold offsets into the old file, the sizes are the old picture's.
_STALE = (0x927C, 0xA005, 0xA002, 0xA003)

# A JPEG's segment holds 64 KiB.
_MOST_EXIF = 65_000


@dataclass(frozen=True)
class Details:
    """What a file says beside its pixels.

    exif: camera, time, exposure, place, as a TIFF structure without the mark "Exif"; orientation, thumbnail and maker's
    notes are left out. profile: the ICC profile. noise: pairs (S, O) of a DNG's noise profile, one or one a colour:
    variance = S x + O at a raw value x of 0..1.
    """

    exif: bytes = b""
    profile: bytes = b""
    noise: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Picture:
    """Pixels (height, width, channels), upright: uint8, uint16 or float32, with the value that is white.

    colour: the first three channels are red, green and blue; all others are planes of their own. linear: the file says
    that its values are linear light. name: the file's, and the number of the frame in it if it holds several.
    """

    pixels: np.ndarray
    white: float
    colour: bool
    linear: bool = False
    details: Details = Details()
    name: str = ""

    def kind(self) -> str:
        """What frames of one burst have in common, for messages."""
        raw = "raw " if self.linear else ""
        colour = "colour" if self.colour else "grey"
        return f"{raw}{colour} values up to {self.white:g}"


def exif_within(content: bytes) -> bytes:
    """What `keep_exif` keeps of a file that is a TIFF structure itself; nothing where it is none or broken."""
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(content)
            return keep_exif(exif)
    except Exception:
        # As in keep_exif; the pixels come from another parser.
        return b""


def keep_exif(exif: Image.Exif) -> bytes:
    """The part of a file's EXIF data that a picture made from it can carry; nothing if it cannot be written again.

    Example
    -------
    >>> exif = Image.Exif()
    >>> exif[0x010F], exif[0x0112] = "Camera maker", 6
    >>> kept = Image.Exif()
    >>> kept.load(keep_exif(exif))
    >>> dict(kept)
    {271: 'Camera maker'}
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept = Image.Exif()
            for tag, value in _known(exif):
                kept[tag] = value
            for table in (EXIF_IFD, GPS_IFD):
                entries = {tag: value for tag, value in exif.get_ifd(table).items() if tag not in _STALE}
                if entries:
                    kept.get_ifd(table).update(entries)
            has_any = bool(dict(kept)) or any(kept.get_ifd(table) for table in (EXIF_IFD, GPS_IFD))
            written = kept.tobytes().removeprefix(b"Exif\0\0") if has_any else b""
            return written if len(written) <= _MOST_EXIF else b""
    except Exception:
        # Tables written by any camera or program there is: what a parser makes of a broken one has no limits.
        return b""


def _known(exif: Image.Exif) -> Iterator[tuple[int, object]]:
    for tag in ABOUT:
        if exif.get(tag) is not None:
            yield tag, exif[tag]
