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
from PIL import Image, ImageOps
from torch import Tensor

from fastweights.burst.errors import BurstError
from fastweights.burst.images import raw, tiff
from fastweights.burst.images.picture import Details, PathLike, Picture, keep_exif

# NASA's portrait of Eileen Collins, 512 x 512, public domain (see data/README.md).
SAMPLE = Path(__file__).parents[1] / "data" / "astronaut.png"
# What a folder's other files (notes, films) are told apart by.
SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", *raw.SUFFIXES)
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_GREY = ("1", "L", "LA", "La")
# A PNG file starts with its mark; its bits a value follow the size.
_PNG, _PNG_BITS = b"\x89PNG\r\n\x1a\n", 24


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
    """PNG, JPEG, WebP: Pillow reads them, but for 16 bits of colour, which it cuts to 8."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as picture:
                picture.verify()
            # A picture that was verified has to be opened anew before its pixels can be read.
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                pixels = _pixels(picture, content)
                profile = picture.info.get("icc_profile")
                details = Details(_exif(picture), profile if isinstance(profile, bytes) else b"")
    except Image.UnidentifiedImageError as error:
        raise BurstError("not a picture, or broken at its start") from error
    except _UNREADABLE as error:
        raise error if isinstance(error, BurstError) else BurstError(f"broken or cut off ({error})") from error
    white = float(np.iinfo(pixels.dtype).max)
    return Picture(pixels.reshape(*pixels.shape[:2], -1), white, pixels.ndim == 3, details=details)


def _pixels(picture: Image.Image, content: bytes) -> np.ndarray:
    """Upright: (h, w) for grey, (h, w, 3) for colour; uint8 or uint16."""
    mode = picture.mode
    if mode == "CMYK":
        raise BurstError("its colours are a printer's (CMYK), convert it to RGB")
    if content.startswith(_PNG) and content[_PNG_BITS] == 16 and not mode.startswith("I"):
        kind = cv2.IMREAD_GRAYSCALE if mode in _GREY else cv2.IMREAD_COLOR
        read = cv2.imdecode(np.frombuffer(content, np.uint8), kind | cv2.IMREAD_ANYDEPTH)
        if read is None or read.dtype != np.uint16:
            raise BurstError("the picture is broken")
        return read if mode in _GREY else np.ascontiguousarray(read[..., ::-1])
    upright = ImageOps.exif_transpose(picture)
    if mode.startswith("I;16"):
        return np.asarray(upright).astype(np.uint16)
    if mode in ("F", "I"):
        raise BurstError("expected 8 or 16 bits a value")
    return np.asarray(upright.convert("L" if mode in _GREY else "RGB"))


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
