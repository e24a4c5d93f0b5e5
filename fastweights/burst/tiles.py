"""A large picture made tile by tile, with the result of making the whole at once."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.errors import BurstError

# Pooling to a quarter sees the same cells in a tile as in the whole when tiles start at multiples of this.
_GRID = 8


def by_tiles(
    make: Callable[[slice, slice], Float[Tensor, "c y x"]],
    size: tuple[int, int],
    window: tuple[slice, slice],
    tile: int,
    reach: int,
    done: Callable[[int, int], None] = lambda pixels, total: None,
) -> Float[Tensor, "c h w"]:
    """The window of a picture of height and width `size`, in tiles of at most about tile x tile pixels.

    make(rows, columns) makes a part of the picture by itself. Every tile is made with a border of `reach` pixels, how
    far away a pixel can change the result, which is discarded: the tiles join without seams, and what a tile holds
    does not depend on its size or on the window. `done` is told the finished pixels and their total. Raises BurstError
    for a tile below 8.

    Example
    -------
    >>> import torch
    >>> picture = torch.rand(3, 30, 50)
    >>> part = by_tiles(lambda rows, columns: picture[:, rows, columns], (30, 50), (slice(3, 20), slice(9, 50)), 16, 0)
    >>> torch.equal(part, picture[:, 3:20, 9:50])
    True
    """
    if tile < _GRID:
        raise BurstError(f"tile is {tile}: expected at least {_GRID} pixels")
    rows, columns = window
    height, width = rows.stop - rows.start, columns.stop - columns.start
    out: Tensor | None = None
    finished = 0
    for top, bottom in _intervals(rows, tile):
        for left, right in _intervals(columns, tile):
            wide_rows, wide_columns = _widened(top, bottom, reach, size[0]), _widened(left, right, reach, size[1])
            made = make(wide_rows, wide_columns)
            if out is None:
                out = torch.empty(made.shape[0], height, width, dtype=made.dtype)
            up, before = wide_rows.start, wide_columns.start
            kept = made[:, top - up : bottom - up, left - before : right - before]
            out[:, top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = kept
            finished += (bottom - top) * (right - left)
            done(finished, height * width)
    assert out is not None
    return out


def _widened(start: int, stop: int, reach: int, length: int) -> slice:
    """At least `reach` more on either side, to the next multiples of the grid, within the picture."""
    return slice(max(0, (start - reach) // _GRID * _GRID), min(length, math.ceil((stop + reach) / _GRID) * _GRID))


def _intervals(window: slice, tile: int) -> Iterator[tuple[int, int]]:
    """Pieces of nearly even length; all but the first start at multiples of the grid."""
    length = window.stop - window.start
    step = math.ceil(length / math.ceil(length / tile) / _GRID) * _GRID
    start = window.start
    while start < window.stop:
        stop = min((start + step) // _GRID * _GRID, window.stop)
        yield start, stop
        start = stop
