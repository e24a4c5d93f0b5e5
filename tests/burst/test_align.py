"""Alignment: known shifts are found under noise, and frames moved back show the reference's content."""

import numpy as np
import pytest
import torch

from fastweights.burst import images
from fastweights.burst.align import estimate_shifts
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
