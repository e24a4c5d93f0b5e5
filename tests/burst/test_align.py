"""Alignment: known shifts are found under noise, and frames moved back show the reference's content."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastweights.burst import images
from fastweights.burst.align import estimate_shifts, shift_frames
from fastweights.burst.demo import synthesise

PHOTO = images.read(images.SAMPLE)
SHIFTS = [(0, 0), (17, -17), (-17, 3), (-5, 16), (1, -1), (0, 9)]


def burst(shifts, *, noise=0.0, height=220, width=261, gain=1.0):
    """Windows on the photo whose content is displaced by the shifts against window 0."""
    windows = [PHOTO[:, 80 - down : 80 - down + height, 60 - right : 60 - right + width] for down, right in shifts]
    frames = torch.stack(windows)
    frames[1:] *= gain
    return (frames + noise * torch.randn(frames.shape, generator=torch.manual_seed(0))).clamp(0, 1)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("reference", [0, 1])
def test_whole_shifts_up_to_17_pixels_are_found(noise, reference):
    found = estimate_shifts(burst(SHIFTS, noise=noise), reference)
    expected = torch.tensor(SHIFTS) - torch.tensor(SHIFTS[reference])
    assert torch.equal(found.round().int(), expected.int())
    assert (found - expected).abs().max() < 0.3


def test_brightness_may_change():
    assert torch.equal(estimate_shifts(burst(SHIFTS, noise=0.03, gain=0.7)).round().int(), torch.tensor(SHIFTS).int())


def test_camera_noise_and_parts_of_a_pixel():
    frames, _ = synthesise(PHOTO)
    rng = np.random.default_rng(0)
    expected = rng.uniform(-6, 6, (8, 2)) * (np.arange(8) > 0)[:, None]
    assert (estimate_shifts(frames) - torch.from_numpy(expected)).abs().max() < 0.1


@pytest.mark.parametrize(
    "frames",
    [
        torch.full((3, 3, 64, 64), 0.5),
        torch.rand(3, 3, 50, 70, generator=torch.manual_seed(0)),
        torch.rand(2, 3, 16, 16, generator=torch.manual_seed(0)),
        torch.zeros(2, 3, 1, 1),
    ],
    ids=["flat", "noise alone", "tiny", "one pixel"],
)
def test_without_a_match_nothing_moves_far(frames):
    shifts = estimate_shifts(frames)
    assert shifts.isfinite().all()
    assert (shifts.abs() < 0.25 * torch.tensor(frames.shape[-2:])).all()
    assert shifts[0].tolist() == [0, 0]


def test_moved_frames_show_the_reference():
    frames = burst(SHIFTS)
    aligned = shift_frames(frames, torch.tensor(SHIFTS))
    assert torch.equal(aligned, frames[:1].expand_as(frames))


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_every_value_comes_from_a_frame_that_saw_the_place(moves, height, width):
    moves = [*moves, (0, 0)]
    frames = torch.rand(len(moves), 2, height, width)
    aligned = shift_frames(frames, torch.tensor(moves))
    for t in range(len(moves)):
        for y in range(height):
            for x in range(width):
                places = [
                    (index % len(moves), y + moves[index % len(moves)][0], x + moves[index % len(moves)][1])
                    for index in range(t, t + len(moves))
                ]
                index, row, column = next(p for p in places if 0 <= p[1] < height and 0 <= p[2] < width)
                assert torch.equal(aligned[t, :, y, x], frames[index, :, row, column])


def test_the_noise_at_the_border_stays_what_it_is():
    frames = torch.randn(8, 3, 64, 64)
    moves = torch.tensor([[0, 0]] + [[(-1) ** t * t, t] for t in range(1, 8)])
    aligned = shift_frames(frames, moves)
    # Seen by frame 0 and some others only; repeated values keep their variance, up to (n - 1) / n.
    assert 0.6 < aligned[..., 3:61, 58:61].var(0).mean().sqrt() < 1.05


def test_a_reference_is_needed():
    with pytest.raises(ValueError, match="stay where it is"):
        shift_frames(torch.zeros(2, 4, 4), torch.ones(2, 2, dtype=torch.int32))
