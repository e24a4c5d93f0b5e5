import cv2
import numpy as np
import pytest
import torch

from fastweights.burst import baselines, images
from fastweights.burst.baselines import NoiseCurve
from fastweights.burst.losses import psnr
from fastweights.burst.noise import estimate_noise
from fastweights.burst.transfer import kpn_encode, srgb_decode

READ, SHOT = 0.01, 0.05


@pytest.fixture(scope="module")
def photo():
    return srgb_decode(images.read(images.SAMPLE))[:, 60:188, 180:308]


def noisy(clean, frames=8, seed=0, read=READ, shot=SHOT):
    generator = torch.Generator().manual_seed(seed)
    std = (read**2 + shot**2 * clean.clamp(min=0)).sqrt()
    return clean + std * torch.randn(frames, *clean.shape, generator=generator)


def grey(photo):
    return photo.mean(0, keepdim=True)


def quality(picture, clean):
    return psnr(picture[None], clean[None], clip=True, encode=kpn_encode).item()


def test_stabilised_noise_has_std_one_at_every_level_and_goes_back():
    curve = NoiseCurve.of_sensor(READ, SHOT, 1.0)
    for level in (0.02, 0.2, 0.8):
        frames = noisy(torch.full((1, 200, 200), level), 1)[0]
        values = curve.stabilise(frames)
        assert values.std().item() == pytest.approx(1, abs=0.03)
        torch.testing.assert_close(curve.restore(values), frames, atol=2e-5, rtol=0)


def test_an_estimated_curve_is_close_to_the_true_one(photo):
    frames = noisy(photo.clamp(0.01, 0.9))
    estimated = NoiseCurve.estimated(estimate_noise(frames)).at(torch.full((3, 1, 1), 0.1)).flatten()
    assert estimated.tolist() == pytest.approx([(READ**2 + SHOT**2 * 0.1) ** 0.5] * 3, rel=0.1)


def test_frames_are_moved_back_by_parts_of_a_pixel_and_misfits_are_dropped(photo):
    clean = grey(photo)
    moves = [(0, 0), (1.5, -2.25), (-3.0, 0.75)]
    matrices = [np.array([[1, 0, -right], [0, 1, -down]], np.float32) for down, right in moves]
    moved = [
        torch.from_numpy(cv2.warpAffine(clean[0].numpy(), matrix, (128, 128), flags=cv2.INTER_LANCZOS4))[None]
        for matrix in matrices
    ]
    frames = torch.stack([noisy(frame, 1, seed)[0] for seed, frame in enumerate([*moved, torch.zeros_like(clean)])])
    curve = NoiseCurve.of_sensor(READ, SHOT, 1.0)
    aligned = baselines.align(frames, curve)
    assert len(aligned) == 3
    inside = aligned[..., 8:-8, 8:-8].mean(0) - clean[..., 8:-8, 8:-8]
    assert inside.abs().mean() < 0.75 * noisy(clean, 1).sub(clean).abs().mean()


def merged_by_hand(frames, sigma):
    """The released merge, one tile and one frame at a time."""
    count, height, width = frames.shape
    axis = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(16) + 0.5) / 16)
    out = np.zeros((height, width))
    for down in (0, 8):
        for right in (0, 8):
            rolled = np.roll(frames, (-down, -right), (1, 2))
            total = np.zeros((height, width))
            for y in range(0, height, 16):
                for x in range(0, width, 16):
                    spectra = [np.fft.fft2(axis[:, None] * axis * f[y : y + 16, x : x + 16]) for f in rolled]
                    merge = 0
                    for spectrum in spectra:
                        difference = spectra[0] - spectrum
                        power = np.abs(difference) ** 2
                        merge = merge + spectrum + power / (power + 10**2.25 * sigma**2) * difference
                    total[y : y + 16, x : x + 16] = np.fft.ifft2(merge / count).real
            out += np.roll(total, (down, right), (0, 1))
    return out


def test_the_merge_is_the_released_one(photo):
    frames = noisy(grey(photo)[:, :32, :48], 4).double()
    curve = NoiseCurve.of_sensor(READ, SHOT, 1.0)
    sigma = curve.at(frames[0].clamp(min=0)).mean().item()
    expected = merged_by_hand(frames[:, 0].numpy(), sigma)
    np.testing.assert_allclose(baselines.hdr_plus(frames, curve)[0].numpy(), expected, atol=1e-12)


def test_nlm_is_better_than_one_frame(photo):
    for clean in (grey(photo), photo):
        frames = noisy(clean, read=0.05)
        curve = NoiseCurve.of_sensor(0.05, SHOT, 1.0)
        if len(clean) == 3:
            curve = NoiseCurve.estimated(estimate_noise(frames))
        found = baselines.nlm(frames, curve)
        assert found.shape == clean.shape
        assert quality(found, clean) > quality(frames[0], clean) + (2 if len(clean) == 1 else 1)


def test_the_power_spectrum_of_correlated_noise_is_measured():
    white = torch.randn(33, 1, 96, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frames = (white + torch.roll(white, 1, -1)) / 2**0.5
    found = torch.from_numpy(baselines._power_spectrum(frames)[..., 0])
    expected = 96 * 80 * (1 + torch.cos(2 * torch.pi * torch.arange(80) / 80))
    # correlations are tapered with the distance: at 1 by cos^2(pi / 12)
    expected = 96 * 80 + (expected - 96 * 80) * np.cos(np.pi / 12) ** 2
    assert (found.mean(0) / expected).sub(1).abs().median() < 0.05


@pytest.mark.parametrize("spectrum", [False, True])
def test_bm3d_is_better_than_the_mean(photo, spectrum):
    pytest.importorskip("bm3d")
    clean = grey(photo)
    frames = noisy(clean, read=0.05)
    found = baselines.bm3d(frames, NoiseCurve.of_sensor(0.05, SHOT, 1.0), spectrum=spectrum)
    assert quality(found, clean) > quality(frames.mean(0), clean) + 2


def test_bm3d_without_its_package_says_which_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bm3d", None)
    with pytest.raises(baselines.BurstError, match=r"fastweights\[baselines\]"):
        baselines.bm3d(torch.zeros(8, 1, 16, 16), NoiseCurve.of_sensor(0.05, SHOT, 1.0))
