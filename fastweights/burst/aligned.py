"""Windows of a registered burst in linear light, made when they are asked for."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fastweights.burst.frames import Burst
from fastweights.burst.registration import Motion, Registration, fetch, within

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
        self._burst, self._registration = burst, registration

    def light(self, rows: slice, columns: slice) -> Float[Tensor, "t c h w"]:
        """A window of all frames."""
        pairs = zip(self._registration.kept, self._registration.motions, strict=True)
        parts, seen = zip(*(self._window(index, motion, rows, columns) for index, motion in pairs), strict=True)
        aligned = torch.stack(parts)
        for index, out in enumerate(aligned):
            missing = ~seen[index]
            for step in range(1, len(parts)):
                if not missing.any():
                    break
                other = (index + step) % len(parts)
                taken = missing & seen[other]
                out[..., taken] = aligned[other][..., taken]
                missing &= ~taken
        return aligned

    def samples(self) -> Iterator[Float[Tensor, "t c h w"]]:
        """The whole of a small burst, or 4 x 4 windows of 192 x 192 pixels, spread evenly over a large one."""
        for rows in _spread(self._burst.size[0]):
            for columns in _spread(self._burst.size[1]):
                yield self.light(rows, columns)

    def _window(
        self, index: int, motion: Motion, rows: slice, columns: slice
    ) -> tuple[Float[Tensor, "c y x"], Bool[Tensor, "y x"]]:
        """A window of a moved frame, and where it fits."""
        height, width = self._burst.size
        shift = motion.shift
        whole = shift is not None and all(abs(part - round(part)) < _WHOLE for part in shift)
        x, y = motion.places(rows, columns)
        if whole:
            x, y = x.round(), y.round()
        seen = within(x, y, (height, width)) & motion.fitting(rows, columns)
        top, bottom = _span(y, height, 0 if whole else _REACH)
        left, right = _span(x, width, 0 if whole else _REACH)
        part = self._burst.light(index, slice(top, bottom), slice(left, right))
        if whole:
            down, across = y[:, 0].long() - top, x[0].long() - left
            part = part[:, down.clamp(0, bottom - top - 1)[:, None], across.clamp(0, right - left - 1)]
        else:
            part = fetch(part, x - left, y - top)
        return (part if motion.gain == 1 else motion.gain * part), seen


def _span(places: Float[Tensor, "y x"], length: int, reach: int) -> tuple[int, int]:
    """The part of an axis that holds the places and what their interpolation needs; at least one pixel."""
    start = min(max(int(places.min()) - reach, 0), length - 1)
    return start, max(start + 1, min(int(places.max()) + reach + 2, length))


def _spread(length: int) -> list[slice]:
    if length <= _SIDE * _NUMBER:
        return [slice(0, length)]
    starts = [index * (length - _SIDE) // (_NUMBER - 1) for index in range(_NUMBER)]
    return [slice(start, start + _SIDE) for start in starts]
