"""What moved between the frames of a burst, undone: the whole view, single things in it, and the light.

Frames are moved by parts of a pixel, each place by its own displacement where needed, and left untouched where nothing
moved: a static burst keeps its noise as it was. What fits nowhere is left out.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from fastweights.burst.align import estimate_shifts
from fastweights.burst.noise import Noise, estimate_noise
from fastweights.burst.transfer import srgb_decode, srgb_encode

_STEPS, _TOLERANCE, _BLUR = 60, 1e-5, 11
# Pixels at the corners below which a turn is not believed; pixels and degrees beyond which a search went astray.
_TURNED, _ASTRAY, _LARGEST_TURN = 0.5, 4.0, 5.0
# Fractions of a pixel that are not worth an interpolation.
_WHOLE = 0.1
# Side in pixels over which frames are compared, and of what is averaged before flow is looked for.
_WINDOW, _SOFT = 15, 2.0
# A place misfits where the squared difference is this many times what noise and a shift of part of a pixel explain.
_MISFIT = 3.0
_FRACTION = 0.8
# Flow is believed where it explains this much of what the whole-frame motion leaves.
_BETTER = 0.7
# A frame of which less than this fits is left out altogether, and one with less than this part of the detail.
_LEAST = 0.4
_BLURRED = 0.6
# Less detail than this part of a frame's fine contrast is not measurable: the rest is noise.
_MEASURABLE = 0.05
_FARTHEST = 24
# Correlation of the coarse pictures of one scene, and the least contrast, against the fine one, that can show it.
_ALIKE, _STRUCTURE = 0.5, 0.05


@dataclass(frozen=True)
class Registered:
    """Frames of a burst brought onto the reference, in linear light, reference first.

    frames: those kept. kept: their numbers in the burst. shifts: displacement (down, right) of the middle of every
    frame of the burst in pixels; turns: its rotation in degrees; gains: what its light was multiplied by.
    fitting: the part of every frame that fits the reference, 0..1. detail: how much of the detail that the other
    frames agree on every frame has, about 1; NaN where there is too little.
    """

    frames: Float[Tensor, "n 3 h w"]
    kept: list[int]
    shifts: Float[Tensor, "t 2"]
    turns: Float[Tensor, " t"]
    gains: Float[Tensor, " t"]
    fitting: Float[Tensor, " t"]
    detail: Float[Tensor, " t"]


def register(frames: Float[Tensor, "t 3 h w"], reference: int = 0) -> Registered:
    """Undo shake, turns, moving things and drifting light of a burst of sRGB values.

    1. Every frame's shift and rotation by the enhanced correlation coefficient (OpenCV; `estimate_shifts` starts it).
    2. Dense flow of what is left (OpenCV's DIS, Kroeger et al. 2016), believed where it lowers the difference much.
    3. The light of each frame is scaled to the reference's.
    4. A place where a frame still differs from the reference by more than noise and a shift of half a pixel explain
       takes the next frame's value that fits there. Frames of which less than two fifths fit are left out, and so
       are blurred ones, with less than three fifths of the detail that the others agree on.

    Example
    -------
    >>> from fastweights.burst import images
    >>> photo = images.read(images.SAMPLE)
    >>> frames = torch.stack([photo[:, 10:210, 100:300], photo[:, 13:213, 95:295], torch.zeros(3, 200, 200)])
    >>> found = register(frames)
    >>> found.kept, found.shifts[1].round().tolist()
    ([0, 1], [-3.0, 5.0])
    """
    shifts = estimate_shifts(frames, reference)
    light = srgb_decode(frames)
    noise = estimate_noise(_by_whole_pixels(light, shifts))
    target = _grey(frames[reference])
    moved, fits, turns, gains = [], [], [], []
    for index, frame in enumerate(frames):
        if index == reference:
            moved.append(light[index])
            fits.append(torch.ones(frame.shape[1:], dtype=torch.bool))
            turns.append(0.0)
            gains.append(1.0)
            continue
        matrix = _whole_frame(target, _grey(frame), shifts[index].numpy())
        shifts[index] = torch.from_numpy(_at_middle(matrix, target.shape))
        whole = _field(matrix, target.shape)
        candidates = [_fetch(light[index], whole)]
        gain = _gain(light[reference], candidates[0])
        flow = _flow(frames[reference], srgb_encode(gain * candidates[0]))
        candidates.append(_fetch(light[index], whole + flow))
        misfits = [_misfit(light[reference], gain * candidate, noise) for candidate in candidates]
        better = misfits[1] < _BETTER * misfits[0]
        moved.append(gain * torch.where(better, candidates[1], candidates[0]))
        inside = _inside(torch.where(better[..., None], whole + flow, whole))
        same = _same_scene(light[reference], moved[-1])
        fits.append((torch.where(better, misfits[1], misfits[0]) < _MISFIT) & inside & same)
        turns.append(float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))))
        gains.append(gain)
    order = [reference, *(index for index in range(len(frames)) if index != reference)]
    fitting = torch.stack([one.float().mean() for one in fits])
    there = [index for index in order if fitting[index] >= _LEAST]
    detail = torch.full_like(fitting, torch.nan)
    detail[there] = _detail(torch.stack([moved[index] for index in there]))
    kept = [index for index in there if index == reference or not detail[index] < _BLURRED]
    filled = _fill([moved[index] for index in kept], [_grown(fits[index]) for index in kept])
    return Registered(filled, kept, shifts, torch.tensor(turns), torch.tensor(gains), fitting, detail)


def _grey(frame: Float[Tensor, "3 h w"]) -> np.ndarray:
    return np.ascontiguousarray(frame.mean(0).numpy())


def _by_whole_pixels(light: Tensor, shifts: Tensor) -> Tensor:
    moves = shifts.round().int().tolist()
    return torch.stack([torch.roll(frame, (-d, -r), (-2, -1)) for frame, (d, r) in zip(light, moves, strict=True)])


def _whole_frame(target: np.ndarray, moved: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The matrix (2, 3) that takes a pixel (x, y) of the reference to its place in the frame."""
    start = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _STEPS, _TOLERANCE)
    try:
        score, found = cv2.findTransformECC(target, moved, start.copy(), cv2.MOTION_EUCLIDEAN, criteria, None, _BLUR)
    except cv2.error:  # no convergence: the shift alone stays
        return start
    turn = abs(np.arctan2(found[1, 0], found[0, 0]))
    # A turn that moves no corner by half a pixel is an error of measurement.
    seen = turn * np.hypot(*target.shape) / 2 > _TURNED
    astray = np.abs(_at_middle(found, target.shape) - shift).max() > _ASTRAY or np.degrees(turn) > _LARGEST_TURN
    return found if seen and not astray and score > 0 else start


def _at_middle(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2, 1])
    return (matrix.astype(np.float64) @ middle - middle[:2])[::-1].copy()


def _field(matrix: np.ndarray, shape: tuple[int, ...]) -> Float[Tensor, "h w 2"]:
    """Displacement (right, down) of every pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    places = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T.astype(np.float32)
    return torch.from_numpy(places - np.stack([x, y], -1))


def _fetch(frame: Float[Tensor, "3 h w"], field: Float[Tensor, "h w 2"]) -> Float[Tensor, "3 h w"]:
    """The frame where the field points; beyond the border the border's pixels."""
    x, y = _places(field)
    height, width = field.shape[:2]
    if (field - field.round()).abs().max() < _WHOLE:
        return frame[:, y.clamp(0, height - 1), x.clamp(0, width - 1)]
    rows, columns = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)
    maps = [np.ascontiguousarray(at.numpy()) for at in (field[..., 0] + columns, field[..., 1] + rows)]
    pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
    found = cv2.remap(pixels, *maps, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(found).permute(2, 0, 1).clamp(0, 1)


def _inside(field: Float[Tensor, "h w 2"]) -> Bool[Tensor, "h w"]:
    x, y = _places(field)
    height, width = field.shape[:2]
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _places(field: Float[Tensor, "h w 2"]) -> tuple[Tensor, Tensor]:
    height, width = field.shape[:2]
    whole = field.round().long()
    return torch.arange(width) + whole[..., 0], torch.arange(height)[:, None] + whole[..., 1]


def _gain(reference: Float[Tensor, "3 h w"], frame: Float[Tensor, "3 h w"]) -> float:
    """What a frame's light has to be multiplied by: the median over coarse means that are neither dark nor clipped."""
    size = min(_WINDOW, *reference.shape[-2:])
    ours, theirs = (F.avg_pool2d(x.mean(0, keepdim=True), size).flatten() for x in (reference, frame))
    bright = F.max_pool2d(torch.maximum(reference, frame).amax(0, keepdim=True), size).flatten()
    good = (torch.minimum(ours, theirs) > 0.01) & (bright < 0.98)
    if int(good.sum()) < 8:
        return 1.0
    gain = (ours[good] / theirs[good]).median().item()
    return gain if 0.5 < gain < 2 else 1.0


def _flow(reference: Float[Tensor, "3 h w"], frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w 2"]:
    """Displacement (right, down) that the whole-frame motion leaves, coarse: of what is softened first."""
    if min(reference.shape[-2:]) < 64:
        return torch.zeros(*reference.shape[-2:], 2)
    soft = [
        np.ascontiguousarray((cv2.GaussianBlur(_grey(one), (0, 0), _SOFT).clip(0, 1) * 255).round().astype(np.uint8))
        for one in (reference, frame)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(2)
    flow = search.calc(soft[0], soft[1], None)
    return torch.from_numpy(flow).clamp(-_FARTHEST, _FARTHEST)


def _misfit(reference: Float[Tensor, "3 h w"], frame: Float[Tensor, "3 h w"], noise: Noise) -> Float[Tensor, "h w"]:
    """Mean squared difference around every pixel in units of what noise and part of a pixel's shift explain."""
    mean = (reference + frame) / 2
    soft = _box(mean, 5)
    variance = torch.stack([_std(noise, channel, plane) for channel, plane in enumerate(soft)]).square()
    down, right = torch.gradient(soft, dim=(1, 2))
    explained = 2 * variance + _FRACTION**2 * (down.square() + right.square())
    difference = (frame - reference).square()
    # Blocks of noise in a dark corner are judged in their own units, not the bright ones'.
    ratio = _box(difference / explained.clamp(min=1e-8), _WINDOW)
    return ratio.mean(0)


def _same_scene(reference: Float[Tensor, "3 h w"], frame: Float[Tensor, "3 h w"]) -> bool:
    """Whether coarse pictures correlate, or hold nothing that could: two frames alone do not tell noise from misfit."""
    ours, theirs = (_box(srgb_encode(one).mean(0, keepdim=True), _WINDOW) for one in (reference, frame))
    contrast = ours.var()
    if contrast < _STRUCTURE * (srgb_encode(reference).mean(0, keepdim=True) - ours).square().mean():
        return True
    together = ((ours - ours.mean()) * (theirs - theirs.mean())).mean()
    return bool(together > _ALIKE * (contrast * theirs.var()).sqrt())


def _detail(frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Fine contrast that a frame shares with the mean of the others, against the median frame's: free of noise."""
    if len(frames) < 3:
        return torch.full((len(frames),), torch.nan)
    grey = srgb_encode(frames).mean(1)
    fine = _box(grey, 3) - _box(grey, 9)
    others = (fine.sum(0) - fine) / (len(fine) - 1)
    shared = (fine * others).mean((1, 2))
    middle = shared.median()
    if middle < _MEASURABLE * fine.square().mean():
        return torch.full((len(frames),), torch.nan)
    return shared / middle


def _std(noise: Noise, channel: int, light: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    known = noise.intensities[channel].isfinite()
    levels, std = noise.intensities[channel][known].numpy(), noise.std[channel][known].numpy()
    return torch.from_numpy(np.interp(light.numpy(), levels, std)).to(light)


def _grown(fits: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The places around which all fits: a window saw its misfits from half its side."""
    size = _WINDOW // 2 * 2 + 1
    return F.max_pool2d((~fits).float()[None, None], size, stride=1, padding=size // 2)[0, 0] == 0


def _fill(frames: list[Tensor], seen: list[Tensor]) -> Float[Tensor, "n 3 h w"]:
    """Where a frame does not fit, the next one's value that does: real noise, so that noise measured stays right."""
    out = []
    for index, frame in enumerate(frames):
        filled, missing = frame.clone(), ~seen[index]
        for step in range(1, len(frames)):
            if not missing.any():
                break
            other = (index + step) % len(frames)
            taken = missing & seen[other]
            filled[:, taken] = frames[other][:, taken]
            missing &= ~taken
        out.append(filled)
    return torch.stack(out)


def _box(x: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False)
