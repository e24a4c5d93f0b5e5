"""Whole-frame translation: where each frame's content lies against the reference, and frames moved back by it."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Halvings of the coarse-to-fine search: 16 px become 1 px, inside the reach of the gradient steps of every level.
_LEVELS = 4
_SMALLEST = 24
_STEPS = 50
_BLUR = 5
_TOLERANCE = 1e-4
# Half of the content has to stay in view; a larger result is a search gone astray.
_FARTHEST = 0.25


def estimate_shifts(
    frames: Float[Tensor, "t *c h w"] | Sequence[Float[Tensor, "*c h w"]], reference: int = 0
) -> Float[Tensor, "t 2"]:
    """Displacement (down, right) of every frame against the reference in pixels: frame[p + shift] shows reference[p].

    Maximises the enhanced correlation coefficient of the blurred grey pictures, coarse to fine, by gradient steps
    (OpenCV's findTransformECC). Brightness and contrast may differ between frames. Encoded values are wanted, in which
    the noise is more even. Frames are asked for one at a time, colours are averaged. A frame without a plausible match
    (flat pictures, more than a quarter of a side off) gets 0.
    Source: Evangelidis, Psarakis, "Parametric image alignment using enhanced correlation coefficient maximization",
    IEEE Transactions on Pattern Analysis and Machine Intelligence 30 (10), 2008.

    Example
    -------
    >>> from fastweights.burst import images
    >>> photo = images.read(images.SAMPLE)
    >>> frames = torch.stack([photo[:, 10:310, 10:410], photo[:, 5:305, 13:413]])
    >>> estimate_shifts(frames).round().int().tolist()
    [[0, 0], [5, -3]]
    """
    target = _pyramid(frames[reference])
    shifts = [
        np.zeros(2) if index == reference else _search(target, _pyramid(frames[index])) for index in range(len(frames))
    ]
    return torch.from_numpy(np.stack(shifts)).float()


def shift_frames(frames: Float[Tensor, "t *c h w"], shifts: Int[Tensor, "t 2"]) -> Float[Tensor, "t *c h w"]:
    """Moves each frame back by its displacement in whole pixels: result[t, p] = frames[t, p + shifts[t]].

    Whole pixels, since interpolation would blur the noise unevenly. A place that a frame did not see takes the value of
    the next frame (in turn) that saw it: a real noisy value, so noise measured over the frames stays right there.
    At least one shift has to be zero (the reference's), so that every place is seen. Raises ValueError otherwise.

    Example
    -------
    >>> frames = torch.tensor([[[1.0, 2.0, 3.0]], [[0.0, 1.5, 2.5]]])
    >>> shift_frames(frames, torch.tensor([[0, 0], [0, 1]]))
    tensor([[[1.0000, 2.0000, 3.0000]],
    <BLANKLINE>
            [[1.5000, 2.5000, 3.0000]]])
    """
    height, width = frames.shape[-2:]
    everything = slice(0, height), slice(0, width)
    return shifted_window(lambda t, rows, columns: frames[t, ..., rows, columns], (height, width), shifts, *everything)


def shifted_window(
    read: Callable[[int, slice, slice], Float[Tensor, "*c y x"]],
    size: tuple[int, int],
    shifts: Int[Tensor, "t 2"],
    rows: slice,
    columns: slice,
) -> Float[Tensor, "t *c h w"]:
    """A window of what `shift_frames` gives, from the frames' pixels in and around it alone.

    read(t, rows, columns) gives a part, which may be empty, of frame t; size is a whole frame's height and width.

    Example
    -------
    >>> frames = torch.arange(24.0).reshape(2, 3, 4)
    >>> shifts = torch.tensor([[0, 0], [1, -2]])
    >>> window = slice(1, 3), slice(0, 2)
    >>> part = shifted_window(lambda t, y, x: frames[t, y, x], (3, 4), shifts, *window)
    >>> torch.equal(part, shift_frames(frames, shifts)[:, *window])
    True
    """
    moves = shifts.tolist()
    if [0, 0] not in moves:
        raise ValueError(f"one frame has to stay where it is, got the shifts {moves}: subtract the reference's shift")
    target = rows.stop - rows.start, columns.stop - columns.start
    parts, seen = [], []
    for index, (down, right) in enumerate(moves):
        (source_y, place_y), (source_x, place_x) = _overlap(rows, down, size[0]), _overlap(columns, right, size[1])
        part = read(index, source_y, source_x)
        mask = torch.zeros(target, dtype=torch.bool, device=part.device)
        mask[place_y, place_x] = True
        if part.shape[-2:] != target:
            whole = part.new_zeros(*part.shape[:-2], *target)
            whole[..., place_y, place_x] = part
            part = whole
        parts.append(part)
        seen.append(mask)
    aligned = torch.stack(parts)
    for index, out in enumerate(aligned):
        unseen = ~seen[index]
        for step in range(1, len(moves)):
            if not unseen.any():
                break
            other = (index + step) % len(moves)
            taken = unseen & seen[other]
            out[..., taken] = aligned[other][..., taken]
            unseen &= ~taken
    return aligned


def _overlap(window: slice, shift: int, length: int) -> tuple[slice, slice]:
    """Where a window that was shifted lies in a frame, and that part's place in the window; both may be empty."""
    start = min(max(window.start + shift, 0), length)
    stop = max(min(window.stop + shift, length), start)
    return slice(start, stop), slice(start - shift - window.start, stop - shift - window.start)


def _pyramid(frame: Float[Tensor, "*c h w"]) -> list[np.ndarray]:
    grey = frame.detach().float().reshape(-1, *frame.shape[-2:]).mean(0)
    levels = [np.ascontiguousarray(grey.cpu().numpy())]
    while len(levels) <= _LEVELS and min(levels[-1].shape) >= 2 * _SMALLEST:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def _search(target: list[np.ndarray], moved: list[np.ndarray]) -> np.ndarray:
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _STEPS, _TOLERANCE)
    shift = np.zeros(2)
    for level in reversed(range(len(target))):
        # pyrDown keeps pixel 0 in place, so a position doubles exactly from one level to the next.
        shift = 2 * shift
        warp = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], np.float32)
        try:
            _, warp = cv2.findTransformECC(
                target[level], moved[level], warp, cv2.MOTION_TRANSLATION, criteria, None, _BLUR
            )
        except cv2.error:
            # No convergence on this level (no texture): the next one starts from the last good estimate.
            continue
        found = warp[::-1, 2].astype(np.float64)
        if (np.abs(found) < _FARTHEST * np.array(target[level].shape)).all():
            shift = found
    return shift
