"""The photos bursts are made from: loading them, and a fixed part held back for validation."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from fastweights.burst.errors import BurstError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
_HELD_BACK_EVERY, _HELD_BACK_FIRST = 10, 4

Item = TypeVar("Item")


def list_photos(folder: str | Path) -> list[Path]:
    """Image files of a folder (png, jpg, webp, tif, bmp), sorted by name; subfolders are not entered.

    Raises BurstError if there is no such folder or no photo in it.

    Example
    -------
    >>> list_photos("no such folder")
    Traceback (most recent call last):
        ...
    fastweights.burst.errors.BurstError: no folder of photos at 'no such folder': give the path of an existing folder
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BurstError(f"no folder of photos at {str(folder)!r}: give the path of an existing folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise BurstError(f"no photo in {str(folder)!r}: expected files ending in {' '.join(sorted(_SUFFIXES))}")
    return paths


def load_photos(source: str | Path | Iterable[str | Path]) -> list[np.ndarray]:
    """Photos as uint8 arrays (H, W, 3), sRGB, from a folder (sorted by name) or from a list of files (in its order).

    A megapixel takes 3 MB; every burst converts only its own crop to linear light.
    Raises BurstError for a folder without photos and for a file that is not a readable image.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (5, 3), "red").save(f"{folder}/a.png")
    ...     load_photos(folder)[0].shape
    (3, 5, 3)
    """
    paths = list_photos(source) if isinstance(source, str | Path) else source
    return [_load(Path(path)) for path in paths]


def split(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Training and held-back photos by a fixed rule: of every ten in order, the fifth is held back for validation.

    Works on paths and on loaded photos alike; with the order of `list_photos` the split is the same on every machine.
    Of wikipedia38 four photos are held back, of 400 BSDS500 photos forty.

    Example
    -------
    >>> train, held_back = split(range(38))
    >>> held_back, len(train)
    ([4, 14, 24, 34], 34)
    """
    train = [item for i, item in enumerate(items) if i % _HELD_BACK_EVERY != _HELD_BACK_FIRST]
    held_back = [item for i, item in enumerate(items) if i % _HELD_BACK_EVERY == _HELD_BACK_FIRST]
    return train, held_back


def _load(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise BurstError(f"cannot read the photo {str(path)!r}: {error}") from error
