"""Windows of a registered burst in linear light, made when they are asked for."""

import itertools
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fastweights.burst.frames import Burst
from fastweights.burst.motion import Motion, Registration, fetch, within
from fastweights.threads import each

# Side of the windows that are taken for samples, and how many by how many.
_SIDE, _NUMBER = 192, 4
# Fractions of a pixel that are not worth an interpolation, and how far an interpolation reaches.
_WHOLE, _REACH = 0.1, 5


class Aligned:
    """The frames that fit, moved onto the reference, which is the first.

    Frames that lie still or are off by whole pixels are taken as they are; others are interpolated (Lanczos). A place
    that a frame does not show, or where it does not fit, takes the value of the next frame that does: real noise, so
    that noise measured over the frames stays right there.
    """

    def __init__(self, burst: Burst, registration: Registration):
        self._burst = burst
        self._placed = list(zip(registration.kept, registration.motions, strict=True))
        self._whole: Tensor | None = None

    def light(self, rows: slice, columns: slice) -> Float[Tensor, "t c h w"]:
        """A window of all frames; a picture of a single window is kept, and is not to be written to."""
        if (rows.start, rows.stop, columns.start, columns.stop) != (0, self._burst.size[0], 0, self._burst.size[1]):
            return self._light(rows, columns)
        if self._whole is None:
            self._whole = self._light(rows, columns)
        return self._whole

    def _light(self, rows: slice, columns: slice) -> Float[Tensor, "t c h w"]:
        def window(placed: tuple[int, Motion]) -> tuple[Tensor, Tensor]:
            return self._window(*placed, rows, columns)

        parts, seen = zip(*each(window, self._placed), strict=True)
        aligned = torch.stack(parts)
        for index, out in enumerate(aligned):
            if seen[index].all():
                continue
            y, x = (~seen[index]).nonzero(as_tuple=True)
            for step in range(1, len(parts)):
                other = (index + step) % len(parts)
                there = seen[other][y, x]
                out[:, y[there], x[there]] = aligned[other][:, y[there], x[there]]
                y, x = y[~there], x[~there]
                if not len(y):
                    break
        return aligned

    def samples(self) -> Iterator[Float[Tensor, "t c h w"]]:
        """The windows of `spread`."""
        return (self.light(*window) for window in spread(self._burst.size))

    def _window(
        self, index: int, motion: Motion, rows: slice, columns: slice
    ) -> tuple[Float[Tensor, "c y x"], Bool[Tensor, "y x"]]:
        """A window of a moved frame, and where it fits."""
        shift = motion.shift
        if shift is not None and all(abs(part - round(part)) < _WHOLE for part in shift):
            down, right = (round(part) for part in shift)
            part, inside = self._copied(
                index, range(rows.start + down, rows.stop + down), range(columns.start + right, columns.stop + right)
            )
            flowing = motion.flowing(rows, columns)
            if flowing.any():
                fetched, there = self._fetched(index, *motion.places(rows, columns))
                part, inside = torch.where(flowing, fetched, part), torch.where(flowing, there, inside)
        else:
            part, inside = self._fetched(index, *motion.places(rows, columns))
        seen = inside if motion.fits is None else inside & motion.fitting(rows, columns)
        return (part if motion.gain == 1 else motion.gain * part), seen

    def _fetched(
        self, index: int, x: Float[Tensor, "y x"], y: Float[Tensor, "y x"]
    ) -> tuple[Float[Tensor, "c y x"], Bool[Tensor, "y x"]]:
        """What lies between the pixels of a frame, and where it lies inside."""
        height, width = self._burst.size
        window = _span(y, height), _span(x, width)
        part = self._burst.light(index, *window)
        return fetch(part, x - window[1].start, y - window[0].start), within(x, y, (height, width))

    def _copied(self, index: int, rows: range, columns: range) -> tuple[Float[Tensor, "c y x"], Bool[Tensor, "y x"]]:
        """Whole pixels of a frame, beyond its border the border's, and where they lie inside."""
        kept = [
            (min(max(at.start, 0), length - 1), max(min(at.stop, length), 1))
            for at, length in zip((rows, columns), self._burst.size, strict=True)
        ]
        part = self._burst.light(index, *(slice(*side) for side in kept))
        (y, in_y), (x, in_x) = (
            (torch.tensor(at).clamp(start, stop - 1) - start, [start <= place < stop for place in at])
            for at, (start, stop) in zip((rows, columns), kept, strict=True)
        )
        inside = torch.tensor(in_y)[:, None] & torch.tensor(in_x)
        return (part if inside.all() else part[:, y[:, None], x]), inside


def _span(places: Float[Tensor, "y x"], length: int) -> slice:
    """The part of an axis that holds the places and what their interpolation needs; at least one pixel."""
    start = min(max(int(places.min()) - _REACH, 0), length - 1)
    return slice(start, max(start + 1, min(int(places.max()) + _REACH + 2, length)))


def spread(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The whole of a small picture, or 4 x 4 windows of 192 x 192 pixels, spread evenly over a large one."""
    return itertools.product(_spread(size[0]), _spread(size[1]))


def _spread(length: int) -> list[slice]:
    if length <= _SIDE * _NUMBER:
        return [slice(0, length)]
    starts = [index * (length - _SIDE) // (_NUMBER - 1) for index in range(_NUMBER)]
    return [slice(start, start + _SIDE) for start in starts]
