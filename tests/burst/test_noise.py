"""The noise estimate against noise of known strength, with few frames, moving content and rest shifts."""

import math

import numpy as np
import pytest
import torch

from fastweights.burst import images
from fastweights.burst.demo import CAMERA
from fastweights.burst.noise import Noise, estimate_noise
from fastweights.burst.synthesis.camera import shoot
from fastweights.burst.transfer import srgb_decode, srgb_encode

READ, SHOT = 0.004, 0.02


def strength(light):
    return (READ**2 + SHOT**2 * light.clamp(min=0)).sqrt()


def noisy(clean, frames=8, seed=0):
    generator = torch.manual_seed(seed)
    return torch.stack([clean + strength(clean) * torch.randn(clean.shape, generator=generator) for _ in range(frames)])


def ramp(height=160, width=240):
    """All intensities, with a scale of its own for each colour."""
    grey = srgb_decode(torch.linspace(0.02, 0.98, width)).expand(3, height, width)
    return grey * torch.tensor([1.0, 0.7, 0.4]).reshape(3, 1, 1)


def ratios(noise):
    """Estimated over true std wherever there is an estimate."""
    measured = noise.std.isfinite()
    assert torch.equal(measured, noise.intensities.isfinite())
    return (noise.std / strength(noise.intensities))[measured]


@pytest.mark.parametrize("frames", [2, 3, 8, 20])
def test_known_noise_at_all_intensities(frames):
    found = ratios(estimate_noise(noisy(ramp(), frames)))
    assert len(found) > 24
    assert (found - 1).abs().max() < 0.12
    assert abs(found.mean().item() - 1) < 0.02


def test_channels_have_their_own_noise():
    clean = torch.full((3, 96, 96), 0.3)
    scale = torch.tensor([0.01, 0.02, 0.04])
    frames = clean + scale.reshape(3, 1, 1) * torch.randn(6, *clean.shape)
    assert torch.allclose(estimate_noise(frames).at(0.3), scale, rtol=0.05)


def test_a_moving_object_and_hot_pixels_are_discounted():
    frames = noisy(ramp())
    for t in range(len(frames)):
        frames[t, :, 20:60, 10 + 20 * t : 50 + 20 * t] = 0.5
        frames[t, :, 7 + t :: 40, 5::40] = 1
    assert (ratios(estimate_noise(frames)) - 1).abs().max() < 0.2


def test_rest_shifts_of_half_a_pixel_are_discounted():
    photo = srgb_decode(images.read(images.SAMPLE))
    clean = torch.nn.functional.avg_pool2d(photo, 2, stride=1)
    moved = torch.nn.functional.avg_pool2d(photo, (2, 1), stride=1)[..., :-1]
    frames = torch.cat([noisy(clean, 4), noisy(moved, 4, seed=1)])
    plain = (frames.var(0).mean() / strength(clean).square().mean()).sqrt()
    assert plain > 1.3
    # Bins with nothing but texture keep a part of it.
    assert ratios(estimate_noise(frames)).median() < 1.05


def test_camera_frames_agree_with_their_distance_from_the_truth():
    light = srgb_decode(images.read(images.SAMPLE)).permute(1, 2, 0).expand(6, -1, -1, -1)
    levels, truth = shoot(light.contiguous().numpy(), CAMERA, np.random.default_rng(0))
    frames = srgb_decode(torch.from_numpy(levels).permute(0, 3, 1, 2) / 255)
    noise = estimate_noise(frames)
    for channel in range(3):
        near = (srgb_encode(truth[channel]) - 0.5).abs() < 0.02
        error = (frames[:, channel] - truth[channel])[:, near].std()
        assert noise.at(0.214)[channel] == pytest.approx(error.item(), rel=0.15)


@pytest.mark.parametrize("size", [(2, 2), (5, 9), (8, 8), (17, 40)])
def test_small_pictures(size):
    clean = torch.full((3, *size), 0.2)
    noise = estimate_noise(clean + 0.01 * torch.randn(8, *clean.shape))
    assert noise.at(0.2).isfinite().all()
    assert noise.std.isfinite().any(1).all()
    assert "nan" not in noise.summary()


def test_no_noise_is_none():
    assert estimate_noise(ramp().expand(4, -1, -1, -1)).std.nan_to_num().max() < 1e-6


def test_interpolation_between_and_past_the_measured_ends():
    intensities = torch.tensor([math.nan, 0.1, math.nan, 0.3, math.nan]).expand(3, 5)
    std = torch.tensor([math.nan, 0.01, math.nan, 0.03, math.nan]).expand(3, 5)
    noise = Noise(intensities, std)
    for light, expected in ((0.0, 0.01), (0.1, 0.01), (0.15, 0.015), (0.3, 0.03), (1.0, 0.03)):
        assert noise.at(light).tolist() == pytest.approx([expected] * 3)


def test_the_summary_is_in_8_bit_values():
    """A frame with noise of 5 of 255 in sRGB around mid grey."""
    encoded = 0.5 + 5 / 255 * torch.randn(8, 3, 128, 128)
    summary = estimate_noise(srgb_decode(encoded)).summary()
    value = float(summary.split()[0])
    assert value == pytest.approx(5, rel=0.05)
    assert "of 255" in summary
