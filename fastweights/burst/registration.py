"""What moved between the frames of a burst: the whole view, single things in it, and the light.

All is found on frames reduced to about a megapixel and a half; `aligned` applies it where somebody looks.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from fastweights.burst.align import estimate_shifts
from fastweights.burst.frames import Burst
from fastweights.burst.noise import Noise, estimate_noise
from fastweights.burst.transfer import srgb_encode

_PIXELS = 1_500_000
_STEPS, _TOLERANCE, _BLUR = 60, 1e-5, 11
# Pixels at the corners below which a turn is not believed; pixels and degrees beyond which a search went astray.
_TURNED, _ASTRAY, _LARGEST_TURN = 0.5, 4.0, 5.0
# Side in pixels over which frames are compared, and of what is averaged before flow is looked for.
_WINDOW, _SOFT = 15, 2.0
# A place misfits where the squared difference is this many times what noise and a shift of part of a pixel explain.
_MISFIT, _FRACTION = 3.0, 0.8
# Flow is believed where it leaves less than this part of the difference.
_BETTER, _FARTHEST, _SMALLEST = 0.7, 24, 64
# Changes of light that are errors of measurement.
_STEADY = 0.005
# A frame of which less than this fits is left out altogether, and one with less than this part of the detail.
_LEAST, _BLURRED = 0.4, 0.6
# Less detail than this part of a frame's fine contrast is not measurable: the rest is noise.
_MEASURABLE = 0.05
# Correlation of the coarse pictures of one scene, and the least contrast, against the fine one, that can show it.
_ALIKE, _STRUCTURE = 0.5, 0.05


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
        """(down, right) if that is all that moved."""
        turned = self.flow is not None or (self.matrix[:, :2] != np.eye(2)).any()
        return None if turned else (float(self.matrix[1, 2]), float(self.matrix[0, 2]))

    def places(self, rows: slice, columns: slice) -> tuple[Float[Tensor, "y x"], Float[Tensor, "y x"]]:
        """x and y in the frame of what the reference shows in a window."""
        y = torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None]
        x = torch.arange(columns.start, columns.stop, dtype=torch.float32)
        across, down = (a * x + b * y + t for a, b, t in self.matrix.tolist())
        if self.flow is not None and self.flows is not None:
            small_y, small_x = self._small(rows, columns)
            moved = self.flows[small_y[:, None], small_x]
            across = across + moved * self.flow[0, small_y[:, None], small_x]
            down = down + moved * self.flow[1, small_y[:, None], small_x]
        return across, down

    def fitting(self, rows: slice, columns: slice) -> Bool[Tensor, "y x"]:
        """Where the frame fits, in a window."""
        if self.fits is None:
            return torch.ones(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
        small_y, small_x = self._small(rows, columns)
        return self.fits[small_y[:, None], small_x]

    def _small(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        assert self.fits is not None
        height, width = self.fits.shape
        y = torch.arange(rows.start, rows.stop) // self.step
        x = torch.arange(columns.start, columns.stop) // self.step
        return y.clamp(max=height - 1), x.clamp(max=width - 1)


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


def register(burst: Burst, reference: int = 0) -> Registration:
    """Find shake, turns, moving things and drifting light of a burst, and the frames that do not fit.

    1. Every frame's shift and rotation by the enhanced correlation coefficient (OpenCV; `estimate_shifts` starts it).
    2. The light of each frame is scaled to the reference's.
    3. Dense flow of what is left (OpenCV's DIS, Kroeger et al. 2016), believed where it lowers the difference much.
    4. A frame does not fit where it still differs from the reference by more than noise and a shift of most of a pixel
       explain. Frames of which less than two fifths fit are left out, and so are blurred ones, with less than three
       fifths of the detail that the others agree on. Two frames are always kept.

    Example
    -------
    >>> from fastweights.burst import frames, images
    >>> photo = images.read(images.SAMPLE)
    >>> shots = torch.stack([photo[:, 10:210, 100:300], photo[:, 13:213, 95:295], torch.zeros(3, 200, 200)])
    >>> found = register(frames.load(shots))
    >>> found.kept, found.shifts[1].round().tolist()
    ([0, 1], [-3.0, 5.0])
    """
    step = max(1, round((burst.size[0] * burst.size[1] / _PIXELS) ** 0.5))
    small = [burst.reduced(index, step) for index in range(len(burst))]
    shifts = step * estimate_shifts([torch.from_numpy(_grey(frame)) for frame in small], reference)
    target = small[reference]
    noise = estimate_noise(_roughly_moved(small, shifts / step))
    motions, fine = [], []
    for index in range(len(burst)):
        if index == reference:
            motions.append(Motion(STILL))
            fine.append(_fine(target))
            continue
        motion, moved = _motion(target, small[index], shifts[index].numpy(), step, noise)
        shifts[index] = torch.from_numpy(_at_middle(motion.matrix, burst.size)).float()
        motions.append(motion)
        fine.append(_fine(moved))
    fitting = torch.stack([torch.ones(()) if one.fits is None else one.fits.float().mean() for one in motions])
    order = [reference, *(index for index in range(len(burst)) if index != reference)]
    there = [index for index in order if fitting[index] >= _LEAST]
    detail = torch.full_like(fitting, torch.nan)
    detail[there] = _detail(torch.stack([fine[index] for index in there]))
    kept = [index for index in there if index == reference or not detail[index] < _BLURRED]
    if len(kept) < 2:
        # A network wants two frames: what the second does not show as the reference does, it takes from it.
        kept.append(max(order[1:], key=lambda index: fitting[index].item()))
    turns = torch.tensor([_degrees(one.matrix) for one in motions])
    gains = torch.tensor([one.gain for one in motions])
    return Registration(kept, [_cautious(motions[index]) for index in kept], shifts, turns, gains, fitting, detail)


def _motion(
    target: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"], shift: np.ndarray, step: int, noise: Noise
) -> tuple[Motion, Float[Tensor, "c h w"]]:
    """The motion of a frame, and its small copy moved."""
    small = _whole_frame(_grey(target), _grey(frame), shift / step)
    height, width = target.shape[-2:]
    window = slice(0, height), slice(0, width)
    x, y = Motion(small).places(*window)
    whole = fetch(frame, x, y)
    gain = _gain(target, whole)
    flow = _flow(target, gain * whole)
    shaken = fetch(frame, x + flow[0], y + flow[1])
    misfits = [_misfit(target, gain * one, noise) for one in (whole, shaken)]
    flows = misfits[1] < _BETTER * misfits[0]
    moved = gain * torch.where(flows, shaken, whole)
    inside = within(x + flows * flow[0], y + flows * flow[1], (height, width))
    fits = (torch.where(flows, misfits[1], misfits[0]) < _MISFIT) & inside & _same_scene(target, moved)
    matrix = small.astype(np.float64)
    centre = (step - 1) / 2
    matrix[:, 2] = step * matrix[:, 2] + centre - matrix[:, :2] @ [centre, centre]
    if flows.any():
        return Motion(matrix, step * flow, flows, fits, gain, step), moved
    return Motion(matrix, None, None, fits, gain, step), moved


def fetch(frame: Float[Tensor, "c h w"], x: Float[Tensor, "y x"], y: Float[Tensor, "y x"]) -> Float[Tensor, "c y x"]:
    """The frame at places between its pixels (Lanczos); beyond the border the border's pixels."""
    across, down = (np.ascontiguousarray(at.numpy(), np.float32) for at in (x, y))
    planes = [
        cv2.remap(np.ascontiguousarray(plane), across, down, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
        for plane in frame.numpy()
    ]
    return torch.from_numpy(np.stack(planes)).clamp(min=0)


def within(x: Float[Tensor, "y x"], y: Float[Tensor, "y x"], size: tuple[int, int]) -> Bool[Tensor, "y x"]:
    """Whether places lie in a frame of height and width `size`."""
    return (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)


def _roughly_moved(frames: list[Tensor], shifts: Float[Tensor, "t 2"]) -> Float[Tensor, "t c h w"]:
    moves = zip(frames, shifts.round().int().tolist(), strict=True)
    return torch.stack([torch.roll(frame, (-down, -right), (-2, -1)) for frame, (down, right) in moves])


def _grey(frame: Float[Tensor, "c h w"]) -> np.ndarray:
    return np.ascontiguousarray(srgb_encode(frame.mean(0)).numpy())


def _whole_frame(target: np.ndarray, moved: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The matrix (2, 3) that takes a pixel (x, y) of the reference to its place in the frame."""
    start = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _STEPS, _TOLERANCE)
    try:
        score, found = cv2.findTransformECC(target, moved, start.copy(), cv2.MOTION_EUCLIDEAN, criteria, None, _BLUR)
    except cv2.error:  # no convergence: the shift alone stays
        return start
    turn = abs(np.radians(_degrees(found)))
    # A turn that moves no corner by half a pixel is an error of measurement.
    seen = turn * np.hypot(*target.shape) / 2 > _TURNED
    astray = np.abs(_at_middle(found, target.shape) - shift).max() > _ASTRAY or np.degrees(turn) > _LARGEST_TURN
    return found if seen and not astray and score > 0 else start


def _degrees(matrix: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))


def _at_middle(matrix: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2, 1])
    return (matrix.astype(np.float64) @ middle - middle[:2])[::-1].copy()


def _gain(reference: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"]) -> float:
    """What a frame's light has to be multiplied by: the median over coarse means that are neither dark nor clipped."""
    size = min(_WINDOW, *reference.shape[-2:])
    ours, theirs = (F.avg_pool2d(x.mean(0, keepdim=True), size).flatten() for x in (reference, frame))
    bright = F.max_pool2d(torch.maximum(reference, frame).amax(0, keepdim=True), size).flatten()
    good = (torch.minimum(ours, theirs) > 0.01) & (bright < 0.98)
    if int(good.sum()) < 8:
        return 1.0
    gain = (ours[good] / theirs[good]).median().item()
    return gain if 0.5 < gain < 2 and abs(gain - 1) > _STEADY else 1.0


def _flow(reference: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"]) -> Float[Tensor, "2 h w"]:
    """Displacement (right, down) that the whole-frame motion leaves, coarse: of what is softened first."""
    if min(reference.shape[-2:]) < _SMALLEST:
        return torch.zeros(2, *reference.shape[-2:])
    soft = [
        np.ascontiguousarray((cv2.GaussianBlur(_grey(one), (0, 0), _SOFT).clip(0, 1) * 255).round().astype(np.uint8))
        for one in (reference, frame)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(2)
    flow = torch.from_numpy(search.calc(soft[0], soft[1], None))
    return flow.permute(2, 0, 1).clamp(-_FARTHEST, _FARTHEST)


def _misfit(reference: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"], noise: Noise) -> Float[Tensor, "h w"]:
    """Mean squared difference around every pixel in units of what noise and part of a pixel's shift explain."""
    soft = _box((reference + frame) / 2, 5)
    variance = noise.of(soft).square()
    down, right = torch.gradient(soft, dim=(1, 2))
    explained = 2 * variance + _FRACTION**2 * (down.square() + right.square())
    return _box((frame - reference).square() / explained.clamp(min=1e-8), _WINDOW).mean(0)


def _same_scene(reference: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"]) -> bool:
    """Whether coarse pictures correlate, or hold nothing that could: two frames alone do not tell noise from misfit."""
    grey = srgb_encode(reference).mean(0, keepdim=True)
    ours, theirs = _box(grey, _WINDOW), _box(srgb_encode(frame).mean(0, keepdim=True), _WINDOW)
    contrast = ours.var()
    if contrast <= _STRUCTURE * (grey - ours).square().mean():
        return True
    together = ((ours - ours.mean()) * (theirs - theirs.mean())).mean()
    return bool(together > _ALIKE * (contrast * theirs.var()).sqrt())


def _fine(frame: Float[Tensor, "c h w"]) -> Float[Tensor, "h w"]:
    grey = srgb_encode(frame).mean(0, keepdim=True)
    return (_box(grey, 3) - _box(grey, 9))[0]


def _detail(fine: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Fine contrast that a frame shares with the mean of the others, against the median frame's: free of noise."""
    unknown = torch.full((len(fine),), torch.nan)
    if len(fine) < 3:
        return unknown
    others = (fine.sum(0) - fine) / (len(fine) - 1)
    shared = (fine * others).mean((1, 2))
    middle = shared.median()
    return shared / middle if middle > _MEASURABLE * fine.square().mean() else unknown


def _cautious(motion: Motion) -> Motion:
    """Only places around which all fits: a window saw its misfits from half its side. Fits everywhere: no map."""
    if motion.fits is None or motion.fits.all():
        return motion if motion.flow is not None else Motion(motion.matrix, gain=motion.gain)
    grown = cv2.erode(motion.fits.to(torch.uint8).numpy(), np.ones((_WINDOW, _WINDOW), np.uint8))
    return Motion(motion.matrix, motion.flow, motion.flows, torch.from_numpy(grown) > 0, motion.gain, motion.step)


def _box(x: Tensor, size: int) -> Tensor:
    """Means over size x size pixels, mirrored at the borders; torch's pooling takes ten times as long."""
    planes = [cv2.blur(plane, (size, size)) for plane in x.contiguous().numpy()]
    return torch.from_numpy(np.stack(planes))
