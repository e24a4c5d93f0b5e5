"""A network applied to a large picture tile by tile, with the result of one application to the whole."""

import math
from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from fastweights.burst.errors import BurstError

# Pooling to a quarter sees the same cells in a tile as in the whole when tiles start at multiples of this.
_GRID = 8


def by_tiles(
    network: nn.Module,
    frames: Float[Tensor, "t 3 h w"],
    counts: Float[Tensor, " t"],
    tile: int,
    done: Callable[[int, int], None] = lambda pixels, total: None,
) -> Float[Tensor, "3 h w"]:
    """network(frames, counts) for one burst, in tiles of at most about tile x tile pixels and their surroundings.

    Every tile is computed with a border of network.reach pixels (an int: how far away a frame's pixel can change the
    result), which is discarded: the tiles join without seams. Tiles go to the network's device one at a time; `done`
    is told the finished pixels and their total. Raises BurstError for a network without reach and a tile below 8.

    Example
    -------
    >>> import torch
    >>> class Mean(nn.Module):
    ...     reach = 0
    ...     def forward(self, frames, counts):
    ...         return (frames * counts[:, :, None, None, None]).sum(1) / counts.sum()
    >>> by_tiles(Mean(), torch.ones(8, 3, 30, 50), torch.ones(8), tile=16).shape
    torch.Size([3, 30, 50])
    """
    reach = getattr(network, "reach", None)
    if not isinstance(reach, int) or tile < _GRID:
        raise BurstError(
            f"tile is {tile} and the network's reach {reach}: expected a tile of at least {_GRID} pixels, and an "
            "attribute `reach` of the network that says how many pixels away a frame can change its result"
        )
    device = next((parameter.device for parameter in network.parameters()), frames.device)
    border = math.ceil(reach / _GRID) * _GRID
    height, width = frames.shape[-2:]
    out = frames.new_empty(3, height, width)
    finished = 0
    for top, bottom in _intervals(height, tile):
        for left, right in _intervals(width, tile):
            up, before = max(0, top - border), max(0, left - border)
            piece = frames[None, :, :, up : bottom + border, before : right + border].to(device)
            clean = network(piece, counts[None].to(device))[0].to(out)
            out[:, top:bottom, left:right] = clean[:, top - up : bottom - up, left - before : right - before]
            finished += (bottom - top) * (right - left)
            done(finished, height * width)
    return out


def _intervals(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Pieces of nearly even length that start at multiples of the grid."""
    step = math.ceil(length / math.ceil(length / tile) / _GRID) * _GRID
    for start in range(0, length, step):
        yield start, min(start + step, length)
