"""What moved between the frames of a burst: the whole view, single things in it, and the light.

All is found on frames reduced to about a megapixel and a half; `aligned` applies it where somebody looks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.align import estimate_shifts
from fastweights.burst.aligned import spread
from fastweights.burst.frames import Burst
from fastweights.burst.motion import STILL, Motion, Registration, fetch, within
from fastweights.burst.noise import Noise, estimate_noise
from fastweights.burst.transfer import srgb_encode
from fastweights.threads import each

_PIXELS = 1_500_000
# Pixels of copies that are placed side by side.
_TOGETHER = 500_000
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

    def copy(index: int) -> _Copy:
        return _Copy(burst.reduced(index, step))

    small = each(copy, range(len(burst)))
    shifts = step * estimate_shifts([torch.from_numpy(one.grey) for one in small], reference)
    target = small[reference]
    noise = estimate_noise(*_samples([one.light for one in small], shifts / step))

    def place(index: int) -> tuple[Motion, Tensor]:
        if index == reference:
            return Motion(STILL), _fine(target)
        motion, moved = _motion(target, small[index], shifts[index].numpy(), step, noise)
        return motion, _fine(moved)

    # Large copies one after the other: side by side they would need more memory than the tiles do.
    places = each if target.grey.size < _TOGETHER else map
    motions, fine = zip(*places(place, range(len(burst))), strict=True)
    for index, motion in enumerate(motions):
        shifts[index] = torch.from_numpy(_at_middle(motion.matrix, burst.size)).float()
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


@dataclass(frozen=True)
class _Copy:
    """A small copy of a frame, its grey encoding made once."""

    light: Float[Tensor, "c h w"]

    @cached_property
    def grey(self) -> np.ndarray:
        return np.ascontiguousarray(srgb_encode(self.light.mean(0)).numpy())


def _motion(target: _Copy, frame: _Copy, shift: np.ndarray, step: int, noise: Noise) -> tuple[Motion, _Copy]:
    """The motion of a frame, and its small copy moved."""
    small = _whole_frame(target.grey, frame.grey, shift / step)
    height, width = target.light.shape[-2:]
    window = slice(0, height), slice(0, width)
    x, y = Motion(small).places(*window)
    # Cubic: faster than Lanczos, and for comparing alone.
    fetched = fetch(frame.light, x, y, cv2.INTER_CUBIC)
    gain = _gain(target.light, fetched)
    whole = _Copy(fetched.mul_(gain))
    flow = _flow(target.grey, whole.grey)
    shaken = fetch(frame.light, x + flow[0], y + flow[1], cv2.INTER_CUBIC).mul_(gain)
    explained = _explained(target.light, whole.light, noise)
    misfits = [_misfit(target.light, one, explained) for one in (whole.light, shaken)]
    flows = misfits[1] < _BETTER * misfits[0]
    moved = _Copy(torch.where(flows, shaken, whole.light)) if flows.any() else whole
    inside = within(x + flows * flow[0], y + flows * flow[1], (height, width))
    fits = (torch.where(flows, misfits[1], misfits[0]) < _MISFIT) & inside & _same_scene(target.grey, moved.grey)
    matrix = small.astype(np.float64)
    centre = (step - 1) / 2
    matrix[:, 2] = step * matrix[:, 2] + centre - matrix[:, :2] @ [centre, centre]
    if flows.any():
        return Motion(matrix, step * flow, flows, fits, gain, step), moved
    return Motion(matrix, None, None, fits, gain, step), moved


def _samples(frames: list[Tensor], shifts: Float[Tensor, "t 2"]) -> Iterator[Float[Tensor, "t c y x"]]:
    """Windows of all frames, moved by whole pixels; what lies beyond a border comes from the other side."""
    tall, wide = frames[0].shape[-2:]
    moves = list(zip(frames, shifts.round().int().tolist(), strict=True))
    for rows, columns in spread((tall, wide)):
        y, x = torch.arange(rows.start, rows.stop), torch.arange(columns.start, columns.stop)
        yield torch.stack(
            [frame[:, ((y + down) % tall)[:, None], (x + right) % wide] for frame, (down, right) in moves]
        )


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


def _flow(reference: np.ndarray, frame: np.ndarray) -> Float[Tensor, "2 h w"]:
    """Displacement (right, down) that the whole-frame motion leaves, coarse: of what is softened first."""
    if min(reference.shape) < _SMALLEST:
        return torch.zeros(2, *reference.shape)
    soft = [
        (cv2.GaussianBlur(grey, (0, 0), _SOFT).clip(0, 1) * 255).round().astype(np.uint8) for grey in (reference, frame)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(2)
    flow = torch.from_numpy(search.calc(soft[0], soft[1], None))
    return flow.permute(2, 0, 1).clamp(-_FARTHEST, _FARTHEST)


def _explained(reference: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"], noise: Noise) -> Tensor:
    """The squared difference that noise and part of a pixel's shift explain."""
    soft = _box((reference + frame) / 2, 5)
    down, right = torch.gradient(soft, dim=(1, 2))
    slopes = down.square_().add_(right.square_())
    return noise.of(soft).square_().mul_(2).add_(slopes, alpha=_FRACTION**2).clamp_(min=1e-8)


def _misfit(reference: Float[Tensor, "c h w"], frame: Float[Tensor, "c h w"], explained: Tensor) -> Tensor:
    """Mean squared difference around every pixel in units of what is explained."""
    return _box((frame - reference).square_().div_(explained).mean(0, keepdim=True), _WINDOW)[0]


def _same_scene(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether coarse pictures correlate, or hold nothing that could: two frames alone do not tell noise from misfit."""
    coarse, other = (cv2.blur(grey, (_WINDOW, _WINDOW)) for grey in (ours, theirs))
    contrast = coarse.var()
    if contrast <= _STRUCTURE * np.square(ours - coarse).mean():
        return True
    together = ((coarse - coarse.mean()) * (other - other.mean())).mean()
    return bool(together > _ALIKE * np.sqrt(contrast * other.var()))


def _fine(copy: _Copy) -> Float[Tensor, "h w"]:
    return torch.from_numpy(cv2.blur(copy.grey, (3, 3)) - cv2.blur(copy.grey, (9, 9)))


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
