"""Image files in and out: frames as float tensors, one picture written whole or not at all."""

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

# NASA's portrait of Eileen Collins, 512 x 512, public domain (see data/README.md).
SAMPLE = Path(__file__).parent / "data" / "astronaut.png"
# What a folder's other files (notes, thumbnails, raw files) are told apart by.
SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Formats that hold 16 bits a value.
DEEP_SUFFIXES = (".png", ".tif", ".tiff")
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
# JPEG: hardly visible loss; WebP: above 100 is lossless.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_ENCODER = {".jpg": _JPEG, ".jpeg": _JPEG, ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}

PathLike = str | os.PathLike[str]


def read(path: PathLike) -> Float[Tensor, "3 h w"]:
    """One picture, red green blue, encoded values 0..1 as the file has them.

    8 or 16 bits a value, PNG, JPEG, WebP or TIFF. A grey picture fills all three channels, transparency is dropped and
    the camera's orientation tag is applied. Raises BurstError for a file that is missing, broken or no picture.

    Example
    -------
    >>> read(SAMPLE).shape
    torch.Size([3, 512, 512])
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BurstError(f"cannot read {path}: {error.strerror}") from error
    _check(path, content)
    # Pillow cuts 16-bit colour to 8 bits; OpenCV's own RGB order is wrong for 16-bit TIFF, so BGR is turned here.
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise BurstError(f"cannot read {path}: not a PNG, JPEG, WebP or TIFF picture")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BurstError(f"cannot read {path}: its values are {pixels.dtype}, expected 8 or 16 bit whole numbers")
    scaled = pixels[..., ::-1].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def _check(path: Path, content: bytes) -> None:
    """Lets Pillow read the file first: it is strict and silent where OpenCV prints warnings or fills in grey."""
    if not content:
        raise BurstError(f"cannot read {path}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as picture:
                picture.verify()
            # A picture that was verified has to be opened anew before its pixels can be read.
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
    except Image.UnidentifiedImageError as error:
        raise BurstError(f"cannot read {path}: not a picture, or broken at its start") from error
    except _UNREADABLE as error:
        raise BurstError(f"cannot read {path}: the picture is broken or cut off ({error})") from error


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


def read_burst(paths: Sequence[PathLike]) -> Float[Tensor, "t 3 h w"]:
    """Frames of one size, encoded values 0..1. Raises BurstError as `read` does, and for sizes that differ."""
    first = read(paths[0])
    frames = first.new_empty((len(paths), *first.shape))
    frames[0] = first
    for index, path in enumerate(paths[1:], 1):
        frame = read(path)
        if frame.shape != first.shape:
            raise BurstError(
                f"{path} is {frame.shape[2]} x {frame.shape[1]} pixels, but {paths[0]} is "
                f"{first.shape[2]} x {first.shape[1]}: a burst's frames have one size"
            )
        frames[index] = frame
    return frames


def check_output(path: PathLike, bits: int = 8, inputs: Sequence[PathLike] = ()) -> None:
    """Raises BurstError now for what `write` would refuse after minutes of work, and for an input it would replace.

    Example
    -------
    >>> check_output("clean.jpg", bits=16)
    Traceback (most recent call last):
    fastweights.burst.errors.BurstError: a .jpg file holds no 16-bit values: write .png, .tif, .tiff, or 8 bits
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BurstError(f"cannot write {path}: unknown suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    if bits not in (8, 16):
        raise BurstError(f"a picture has 8 or 16 bits a value, got {bits}")
    if bits == 16 and suffix not in DEEP_SUFFIXES:
        raise BurstError(f"a {suffix} file holds no 16-bit values: write {', '.join(DEEP_SUFFIXES)}, or 8 bits")
    if not path.parent.is_dir():
        raise BurstError(f"cannot write {path}: the folder {path.parent} does not exist, make it first")
    if path.is_dir():
        raise BurstError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise BurstError(f"cannot write {path}: no permission to write into {path.parent}")
    if path.exists() and any(path.samefile(frame) for frame in inputs if Path(frame).exists()):
        raise BurstError(f"cannot write {path}: it is one of the burst's own frames, choose another name")


def write(path: PathLike, image: Float[Tensor, "3 h w"], bits: int = 8) -> None:
    """Writes encoded values 0..1 (clipped, rounded) as 8 or 16 bits a value; the suffix chooses the format.

    The file appears whole or not at all: it is written under a temporary name beside its place and then renamed.
    Raises BurstError as `check_output` does, and where the disk refuses.
    """
    check_output(path, bits)
    path = Path(path)
    dtype = np.uint8 if bits == 8 else np.uint16
    peak = np.iinfo(dtype).max
    values = (image.detach().float().clamp(0, 1) * peak).round().cpu().numpy().astype(dtype)
    suffix = path.suffix.lower()
    pixels = np.ascontiguousarray(values[::-1].transpose(1, 2, 0))
    done, content = cv2.imencode(suffix, pixels, _ENCODER.get(suffix, []))
    if not done:
        raise BurstError(f"cannot write {path}: {image.shape[2]} x {image.shape[1]} pixels do not fit the format")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content.tobytes())
        os.replace(temporary, path)
    except OSError as error:
        raise BurstError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
