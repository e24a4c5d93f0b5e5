"""Slots: a burst of any length as the fixed number of frames a network takes, with counts."""

import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.errors import BurstError


def to_slots(
    frames: Float[Tensor, "n *image"], slots: int = 8
) -> tuple[Float[Tensor, "t *image"], Float[Tensor, " t"]]:
    """Average n frames of linear light into `slots` frames, and say how many frames stand behind each.

    Frame 0, the reference, opens slot 0. More frames than slots: counts differ by at most one, and slot 0 is the last
    to get another frame, so it stays the pure reference below 2 x slots frames. Fewer: the empty slots have count 0 and
    hold the mean of all frames. In both cases sum(counts) = n and sum(counts * frames) / n is the mean of the burst.

    Raises BurstError for an empty burst or fewer than one slot.

    Example
    -------
    >>> import torch
    >>> frames, counts = to_slots(torch.arange(10.0).reshape(10, 1, 1, 1))
    >>> counts.int().tolist()
    [1, 2, 2, 1, 1, 1, 1, 1]
    >>> frames.flatten().tolist()
    [0.0, 4.5, 5.5, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    n = frames.shape[0]
    if n < 1 or slots < 1:
        raise BurstError(f"cannot spread {n} frames over {slots} slots: give at least one frame and one slot")
    index = torch.arange(n)
    slot = torch.where(index < slots, index, (index + 1) % slots).to(frames.device)
    counts = torch.bincount(slot, minlength=slots).to(frames.dtype)
    if n == slots:
        return frames, counts
    mean = frames.mean(dim=0, keepdim=True)
    summed = frames.new_zeros(slots, *frames.shape[1:]).index_add_(0, slot, frames)
    column = counts.reshape(-1, *[1] * (frames.ndim - 1))
    return torch.where(column > 0, summed / column.clamp(min=1), mean), counts
