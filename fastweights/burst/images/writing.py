"""One picture out: written whole or not at all, with what the frames' files said beside their pixels."""

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from jaxtyping import Float
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torch import Tensor

from fastweights.burst.errors import BurstError
from fastweights.burst.images.picture import ABOUT, EXIF_IFD, GPS_IFD, Details, PathLike

SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Formats that hold 16 bits a value, and those that hold floating point and any number of channels too.
DEEP_SUFFIXES = (".png", ".tif", ".tiff")
TIFF_SUFFIXES = (".tif", ".tiff")
# JPEG: hardly visible loss; WebP: above 100 is lossless.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_ENCODER = {".jpg": _JPEG, ".jpeg": _JPEG, ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}
_DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
_NOTHING = Details()
_RESOLUTION = (0x011A, 0x011B, 0x0128)


def check_output(
    path: PathLike, bits: int = 8, inputs: Sequence[PathLike] = (), channels: int = 3, transfer: str = "srgb"
) -> None:
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
    if bits not in _DTYPES:
        raise BurstError(f"a picture has 8 or 16 bits a value, or 32 in floating point, got {bits}")
    if bits == 16 and suffix not in DEEP_SUFFIXES:
        raise BurstError(f"a {suffix} file holds no 16-bit values: write {', '.join(DEEP_SUFFIXES)}, or 8 bits")
    if bits == 32 and suffix not in TIFF_SUFFIXES:
        raise BurstError(f"a {suffix} file holds no floating point: write {' or '.join(TIFF_SUFFIXES)}, or fewer bits")
    if channels not in (1, 3) and suffix not in TIFF_SUFFIXES:
        raise BurstError(f"a {suffix} file holds no {channels} channels: write {' or '.join(TIFF_SUFFIXES)}")
    if transfer == "linear" and suffix not in TIFF_SUFFIXES:
        raise BurstError(f"cannot write {path}: linear light is for TIFF, other formats' values are taken for sRGB")
    if not path.parent.is_dir():
        raise BurstError(f"cannot write {path}: the folder {path.parent} does not exist, make it first")
    if path.is_dir():
        raise BurstError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise BurstError(f"cannot write {path}: no permission to write into {path.parent}")
    if path.exists() and any(path.samefile(frame) for frame in inputs if Path(frame).exists()):
        raise BurstError(f"cannot write {path}: it is one of the burst's own frames, choose another name")


def write(path: PathLike, image: Float[Tensor, "c h w"], bits: int = 8, details: Details = _NOTHING) -> None:
    """Writes values 0..1 as 8 or 16 bits a value (clipped, rounded) or as 32-bit floating point (as they are).

    The suffix chooses the format; one channel is grey, three are colour, others only TIFF holds. EXIF data and the ICC
    profile of `details` go into the file. It appears whole or not at all (see `write_whole`). Raises BurstError as
    `check_output` does, and where the disk refuses.
    """
    channels, height, width = image.shape
    check_output(path, bits, channels=channels)
    suffix = Path(path).suffix.lower()
    values = image.detach().float()
    if bits < 32:
        values = (values.clamp(0, 1) * (2**bits - 1)).round()
    pixels = np.ascontiguousarray(values.cpu().numpy().astype(_DTYPES[bits]).transpose(1, 2, 0))
    if suffix in TIFF_SUFFIXES:
        content = _tiff(pixels, details)
    else:
        content = _photo(suffix, pixels, details)
    if not content:
        raise BurstError(f"cannot write {path}: {width} x {height} pixels do not fit the format")
    write_whole(path, content)


def write_whole(path: PathLike, content: bytes) -> None:
    """A file that appears whole or not at all: written under a temporary name beside its place and then renamed.

    Raises BurstError where the disk refuses.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(f"{folder}/a.txt", b"whole")
    ...     [(path.name, path.read_bytes()) for path in Path(folder).iterdir()]
    [('a.txt', b'whole')]
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise BurstError(f"cannot write {path}: {error.strerror}") from error
    finally:
        # Also after Ctrl-C.
        temporary.unlink(missing_ok=True)


def _photo(suffix: str, pixels: np.ndarray, details: Details) -> bytes:
    parts = ((cv2.IMAGE_METADATA_EXIF, details.exif), (cv2.IMAGE_METADATA_ICCP, details.profile))
    notes = [(kind, np.frombuffer(note, np.uint8)) for kind, note in parts if note]
    turned = pixels if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., ::-1])
    kinds, blocks = [kind for kind, _ in notes], [note for _, note in notes]
    try:
        done, content = cv2.imencodeWithMetadata(suffix, turned, kinds, blocks, _ENCODER.get(suffix, []))
    except cv2.error:
        return b""
    return content.tobytes() if done else b""


def _tiff(pixels: np.ndarray, details: Details) -> bytes:
    """tifffile writes no tables of exposure and place: they go to the file's end, their pointers take reserved tags."""
    exif = Image.Exif()
    exif.load(details.exif)
    tables = {pointer: table for pointer in (EXIF_IFD, GPS_IFD) if (table := dict(exif.get_ifd(pointer)))}
    texts = [(tag, "s", 0, text.encode("latin-1", "replace"), True) for tag in ABOUT if (text := _text(exif, tag))]
    reserved = [(pointer + 1, "I", 1, 0, True) for pointer in tables]
    density = [exif.get(tag) for tag in _RESOLUTION]
    file = io.BytesIO()
    colour = pixels.shape[2] == 3
    tifffile.imwrite(
        file,
        pixels if colour else np.ascontiguousarray(pixels.transpose(2, 0, 1)),
        byteorder="<",
        photometric="rgb" if colour else "minisblack",
        planarconfig=None if colour or pixels.shape[2] == 1 else "separate",
        compression="zlib",
        predictor=True,
        resolution=(float(density[0]), float(density[1])) if density[0] and density[1] else None,
        resolutionunit=density[2] if density[2] in (1, 2, 3) else None,
        iccprofile=details.profile or None,
        metadata=None,
        software=False,
        extratags=[*texts, *reserved],
    )
    file.seek(0)
    with tifffile.TiffFile(file) as written:
        entries = {pointer: written.pages.first.tags[pointer + 1].offset for pointer in tables}
    for pointer, table in tables.items():
        place = _append(file, pointer, table)
        file.seek(entries[pointer])
        file.write(struct.pack("<HHII", pointer, tifffile.DATATYPE.LONG, 1, place))
    return file.getvalue()


def _text(exif: Image.Exif, tag: int) -> str:
    value = exif.get(tag)
    return value if isinstance(value, str) else ""


def _append(file: io.BytesIO, pointer: int, table: dict[int, Any]) -> int:
    place = file.seek(0, io.SEEK_END)
    place += file.write(b"\0" * (place % 2))
    directory = ImageFileDirectory_v2(group=pointer)
    for tag, value in table.items():
        directory[tag] = value
    file.write(directory.tobytes(place))
    return place
