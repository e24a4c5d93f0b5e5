"""Where the frames of a burst lie: what was found of their motion, and pictures fetched from between the pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Motion:
    """Where one frame shows what the reference shows, for a picture and for its copy `step` times smaller.

    matrix: takes a place (x, y, 1) of the reference to the frame's. flow: displacement (right, down) to be added where
    `flows`, and where the frame `fits` the reference, each for every pixel of the small copy; None is nowhere and
    everywhere. gain: what the frame's light has to be multiplied by.
    """

    matrix: np.ndarray
    flow: Float[Tensor, "2 h w"] | None = None
    flows: Bool[Tensor, "h w"] | None = None
    fits: Bool[Tensor, "h w"] | None = None
    gain: float = 1.0
    step: int = 1

    @property
    def shift(self) -> tuple[float, float] | None:
        """(down, right) of all that does not flow, None if the frame is turned."""
        turned = (self.matrix[:, :2] != np.eye(2)).any()
        return None if turned else (float(self.matrix[1, 2]), float(self.matrix[0, 2]))

    def places(self, rows: slice, columns: slice) -> tuple[Float[Tensor, "y x"], Float[Tensor, "y x"]]:
        """x and y in the frame of what the reference shows in a window."""
        y = torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None]
        x = torch.arange(columns.start, columns.stop, dtype=torch.float32)
        across, down = (a * x + b * y + t for a, b, t in self.matrix.tolist())
        if self.flow is not None:
            moved = self.flowing(rows, columns)
            flow = self._part(self.flow, rows, columns)
            across, down = across + moved * flow[0], down + moved * flow[1]
        return across, down

    def flowing(self, rows: slice, columns: slice) -> Bool[Tensor, "y x"]:
        """Where the flow is added, in a window."""
        return self._flags(self.flows, False, rows, columns)

    def fitting(self, rows: slice, columns: slice) -> Bool[Tensor, "y x"]:
        """Where the frame fits, in a window."""
        return self._flags(self.fits, True, rows, columns)

    def _flags(self, small: Tensor | None, common: bool, rows: slice, columns: slice) -> Bool[Tensor, "y x"]:
        """A window of flags, most of which hold the common value throughout; None holds it everywhere."""
        if small is not None:
            y, x = (slice(at.start // self.step, (at.stop - 1) // self.step + 1) for at in (rows, columns))
            seen = small[y, x]
            # Empty: all lies beyond the copy, whose last row or column stands for it.
            if (seen != common).any() or not seen.numel():
                return self._part(small, rows, columns)
        return torch.full((rows.stop - rows.start, columns.stop - columns.start), common)

    def _part(self, small: Tensor, rows: slice, columns: slice) -> Tensor:
        """A window of what is known for the pixels of the small copy; what that left over is as its border."""
        y, x = (
            (torch.arange(at.start, at.stop) // self.step).clamp(max=length - 1)
            for at, length in zip((rows, columns), small.shape[-2:], strict=True)
        )
        return small[..., y[:, None], x]


STILL = np.eye(2, 3)


@dataclass(frozen=True)
class Registration:
    """How the frames of a burst lie.

    kept: numbers of the frames that fit, the reference first; motions: theirs. shifts: displacement (down, right) of
    the middle of every frame of the burst in pixels; turns: its rotation in degrees; gains: what its light is
    multiplied by. fitting: the part of every frame that fits the reference. detail: how much of the detail that the
    others agree on every frame has, about 1; NaN where there is too little to say, or the frame was left out before.
    """

    kept: list[int]
    motions: list[Motion]
    shifts: Float[Tensor, "t 2"]
    turns: Float[Tensor, " t"]
    gains: Float[Tensor, " t"]
    fitting: Float[Tensor, " t"]
    detail: Float[Tensor, " t"]


def unregistered(number: int, reference: int) -> Registration:
    """Frames taken as they lie."""
    kept = [reference, *(index for index in range(number) if index != reference)]
    zeros, ones = torch.zeros(number), torch.ones(number)
    return Registration(kept, [Motion(STILL)] * number, torch.zeros(number, 2), zeros, ones, ones, ones)


def fetch(
    frame: Float[Tensor, "c h w"],
    x: Float[Tensor, "y x"],
    y: Float[Tensor, "y x"],
    interpolation: int = cv2.INTER_LANCZOS4,
) -> Float[Tensor, "c y x"]:
    """The frame at places between its pixels (OpenCV's interpolation); beyond the border the border's pixels."""
    across, down = (np.ascontiguousarray(at.numpy(), np.float32) for at in (x, y))
    planes = [
        cv2.remap(np.ascontiguousarray(plane), across, down, interpolation, borderMode=cv2.BORDER_REPLICATE)
        for plane in frame.numpy()
    ]
    return torch.from_numpy(np.stack(planes)).clamp(min=0)


def within(x: Tensor, y: Tensor, size: tuple[int, int]) -> Bool[Tensor, "y x"]:
    """Whether places lie in a frame of height and width `size`."""
    return (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)
