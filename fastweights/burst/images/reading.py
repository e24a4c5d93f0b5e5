"""Frames in: which files a burst is made of, and their pixels."""

import dataclasses
import io
import os
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fastweights.burst.errors import BurstError
from fastweights.burst.images import raw, tiff
from fastweights.burst.images.picture import Details, PathLike, Picture, keep_exif

# NASA's portrait of Eileen Collins, 512 x 512, public domain (see data/README.md).
SAMPLE = Path(__file__).parents[1] / "data" / "astronaut.png"
# What a folder's other files (notes, films) are told apart by.
SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", *raw.SUFFIXES)
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_GREY = ("1", "F", "I", "L", "LA", "La")


def read(path: PathLike) -> Float[Tensor, "3 h w"]:
    """One picture, red green blue, encoded values as the file has them, 0..1 (beyond in floating point).

    The first frame of a file with several; a grey picture fills all three channels. Formats and errors as `read_frames`
    says; a picture of other channels raises BurstError.

    Example
    -------
    >>> read(SAMPLE).shape
    torch.Size([3, 512, 512])
    """
    picture = read_frames([path])[0]
    if picture.pixels.shape[2] not in (1, 3):
        raise BurstError(f"{path} has {picture.pixels.shape[2]} channels: expected grey, or red green blue")
    values = picture.pixels.astype(np.float32) / np.float32(picture.white)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).expand(3, -1, -1)


def read_frames(paths: Sequence[PathLike], most: int | None = None) -> list[Picture]:
    """All frames of some files, in their order; a TIFF file may hold several.

    PNG and TIFF with 8 or 16 bits a value, JPEG, WebP, TIFF in floating point, and cameras' raw files (extra `raw`,
    `fastweights.burst.images.raw`); what a file is, its content says, but raw files are told by their suffix. Grey
    pictures have one channel, colour three; TIFF may have more, see `fastweights.burst.images.tiff`. Transparency is
    dropped, a palette is looked up, and the camera's orientation tag is applied.

    Raises BurstError for a file that is missing, broken, no picture, in a printer's colours (CMYK), larger than 179
    million pixels, or with values that are not finite; and as soon as there are more than `most` frames.

    Example
    -------
    >>> [picture.pixels.shape for picture in read_frames([SAMPLE])]
    [(512, 512, 3)]
    """
    pictures: list[Picture] = []
    balance: tuple[float, ...] = ()
    for path in map(Path, paths):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BurstError(f"cannot read {path}: {error.strerror}") from error
        if not content:
            raise BurstError(f"cannot read {path}: the file is empty")
        try:
            if path.suffix.lower() in raw.SUFFIXES:
                balance = balance or raw.white_balance(content)
                found = [raw.read(content, balance)]
            elif content.startswith(tiff.MAGIC):
                found = tiff.read(content)
            else:
                found = [_read_photo(content)]
        except BurstError as error:
            raise BurstError(f"cannot read {path}: {error}") from error
        except Exception as error:
            # Parsers of other packages: what they raise for a broken file has no common class.
            raise BurstError(f"cannot read {path}: the picture is broken or cut off ({error})") from error
        for number, picture in enumerate(found):
            if not np.isfinite(picture.pixels).all():
                raise BurstError(f"cannot read {path}: it has values that are not finite (NaN or infinity)")
            name = str(path) if len(found) == 1 else f"{path}, frame {number}"
            pictures.append(dataclasses.replace(picture, name=name))
        if most is not None and len(pictures) > most:
            break
    return pictures


def _read_photo(content: bytes) -> Picture:
    """PNG, JPEG, WebP: Pillow checks them and reads what stands beside the pixels, OpenCV reads the pixels."""
    mode, details = _check(content)
    if mode == "CMYK":
        raise BurstError("its colours are a printer's (CMYK), convert it to RGB")
    # Pillow cuts 16-bit colour to 8 bits.
    kind = cv2.IMREAD_GRAYSCALE if mode in _GREY or mode.startswith("I;16") else cv2.IMREAD_COLOR
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), kind | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise BurstError("not a PNG, JPEG, WebP, TIFF or raw picture")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BurstError(f"its values are {pixels.dtype}, expected 8 or 16 bit whole numbers")
    white = float(np.iinfo(pixels.dtype).max)
    if kind == cv2.IMREAD_GRAYSCALE:
        return Picture(pixels.reshape(*pixels.shape[:2], 1), white, False, details=details)
    return Picture(np.ascontiguousarray(pixels[..., ::-1]), white, True, details=details)


def _check(content: bytes) -> tuple[str, Details]:
    """Lets Pillow read the file first: it is strict and silent where OpenCV prints warnings or fills in grey."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as picture:
                picture.verify()
            # A picture that was verified has to be opened anew before its pixels can be read.
            with Image.open(io.BytesIO(content)) as picture:
                mode = picture.mode
                picture.load()
                profile = picture.info.get("icc_profile")
                return mode, Details(_exif(picture), profile if isinstance(profile, bytes) else b"")
    except Image.UnidentifiedImageError as error:
        raise BurstError("not a picture, or broken at its start") from error
    except _UNREADABLE as error:
        raise BurstError(f"the picture is broken or cut off ({error})") from error


def _exif(picture: Image.Image) -> bytes:
    try:
        return keep_exif(picture.getexif())
    except Exception:
        # Notes of any camera or program there is; the pixels are sound.
        return b""


def find(source: PathLike | Sequence[PathLike]) -> list[Path]:
    """The frames' files: those of a folder in natural order (frame_2 before frame_10), or the given ones as they stand.

    A folder's files that are no pictures by their suffix are left out. Raises BurstError where there are none.

    Example
    -------
    >>> find(["b.png", "a.png"])
    [PosixPath('b.png'), PosixPath('a.png')]
    """
    if not isinstance(source, (str, os.PathLike)):
        paths = [Path(path) for path in source]
        return find(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
    folder = Path(source)
    if not folder.exists():
        raise BurstError(f"{folder} does not exist: give a folder of pictures or 2 to 32 files")
    if not folder.is_dir():
        return [folder]
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise BurstError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts], path.name
