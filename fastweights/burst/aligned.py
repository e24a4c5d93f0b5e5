"""Windows of an aligned burst in linear light, made when they are asked for."""

from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor

from fastweights.burst.align import shifted_window
from fastweights.burst.frames import Burst

# Side of the windows that are taken for samples, and how many by how many.
_SIDE, _NUMBER = 192, 4


class Aligned:
    """A burst whose frames are moved back by whole pixels, the reference first (see `shift_frames`)."""

    def __init__(self, burst: Burst, shifts: Int[Tensor, "t 2"], reference: int):
        self._burst = burst
        self._order = [reference, *(index for index in range(len(burst)) if index != reference)]
        self._shifts = shifts[self._order]

    def light(self, rows: slice, columns: slice) -> Float[Tensor, "t c h w"]:
        """A window of all frames."""

        def read(index: int, *part: slice) -> Float[Tensor, "c y x"]:
            return self._burst.light(self._order[index], *part)

        return shifted_window(read, self._burst.size, self._shifts, rows, columns)

    def samples(self) -> Iterator[Float[Tensor, "t c h w"]]:
        """The whole of a small burst, or 4 x 4 windows of 192 x 192 pixels, spread evenly over a large one."""
        for rows in _spread(self._burst.size[0]):
            for columns in _spread(self._burst.size[1]):
                yield self.light(rows, columns)


def _spread(length: int) -> list[slice]:
    if length <= _SIDE * _NUMBER:
        return [slice(0, length)]
    starts = [index * (length - _SIDE) // (_NUMBER - 1) for index in range(_NUMBER)]
    return [slice(start, start + _SIDE) for start in starts]
