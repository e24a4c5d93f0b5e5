import math

import numpy as np
import pytest
import torch

from fastweights.burst.errors import BurstError
from fastweights.burst.synthesis.paper import PaperBursts, noise_map


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_truth_is_the_protocol_written_out():
    # The patch needs (16 + 2 * 4) * 4 = 96 pixels: 90 rows are padded by 3 above and below.
    small = photo(90, 96)
    bursts = PaperBursts([small], 3, patch=16, shifts=(2, 4))
    for number in (0, 11):
        burst = bursts[number]
        grey = ((small / 255.0) ** 2.2).mean(2)
        patch = np.zeros((96, 96))
        patch[3:93] = grey
        reduced = patch[16:80, 16:80].reshape(16, 4, 16, 4).mean((1, 3))
        np.testing.assert_allclose(burst.truth / burst.white_level, reduced, atol=1e-6)


def test_frames_are_whole_pixel_shifts_of_the_patch_under_read_and_shot_noise():
    # A bright ramp: its mean moves by the shift, a multiple of 1 / upscale; the noise averages out.
    ramp = np.repeat(np.linspace(100, 250, 160).astype(np.uint8)[None, :, None], 160, 0).repeat(3, 2)
    bursts = PaperBursts([ramp], 0, patch=32, upscale=4, shifts=(1, 4))
    grey = ((ramp / 255.0) ** 2.2).mean(2)
    for number in range(20):
        burst = bursts[number]
        rng = np.random.Generator(np.random.PCG64([0, number, 1]))
        rng.uniform(size=3)
        shifts = bursts._moves(rng)
        for frame, (dy, dx) in zip(burst.frames, shifts, strict=True):
            crop = (
                grey[16 + dy : 144 + dy, 16 + dx : 144 + dx].reshape(32, 4, 32, 4).mean((1, 3))
                * burst.white_level.item()
            )
            std = np.sqrt(burst.sigma_read.item() ** 2 + burst.sigma_shot.item() ** 2 * crop)
            normal = (frame.numpy() - crop) / std
            assert abs(normal.mean()) < 5 / 32
            assert abs(normal.std() - 1) < 5 / 32 / math.sqrt(2)


def test_shifts_have_two_sizes_and_the_reference_none():
    bursts = PaperBursts([photo(8, 8)], 0)
    rng = np.random.default_rng(0)
    shifts = np.stack([bursts._moves(rng) for _ in range(4000)])
    assert not shifts[:, 0].any()
    rest = shifts[:, 1:].reshape(-1, 2)
    assert rest.min() == -64
    assert rest.max() == 64
    # E[min(Poisson(1.5) / 8, 1)] = .1875; a big shift lies outside the small square 1 - (17 / 129)^2 of the time.
    share = (np.abs(rest) > 8).any(1).mean()
    expected = 0.1875 * (1 - (17 / 129) ** 2)
    assert abs(share - expected) < 5 * math.sqrt(expected / len(rest) * (1 + 7 * 0.15))
    small = rest[(np.abs(rest) <= 8).all(1)]
    assert abs(small.var(0) - (17**2 - 1) / 12).max() < 1


def test_levels_are_log_uniform_in_their_ranges():
    bursts = PaperBursts([photo(8, 8)], 1, patch=2, upscale=1, shifts=(1, 1))
    drawn = torch.stack([torch.stack(bursts[n][2:]) for n in range(2000)]).log10().double()
    low, high = torch.tensor([[-1.0, -3.0, -2.0], [0.0, -1.5, -1.0]], dtype=torch.float64)
    unit = (drawn - low) / (high - low)
    assert unit.min() > -1e-6
    assert unit.max() < 1 + 1e-6
    assert ((unit.mean(0) - 0.5).abs() < 5 / math.sqrt(12 * 2000)).all()
    assert ((unit.var(0) - 1 / 12).abs() < 0.01).all()


def test_every_photo_gives_four_patches_and_every_patch_two_bursts():
    photos = [photo(40, 50, seed) for seed in range(3)]
    bursts = PaperBursts(photos, 5, patch=4, upscale=2, shifts=(2, 2))
    rounds = [
        [(b.truth / b.white_level).numpy() for b in map(bursts.__getitem__, range(24 * r, 24 * r + 24))] for r in (0, 1)
    ]
    for truths in rounds:
        partners = [sum(np.allclose(a, b, atol=1e-6) for b in truths) for a in truths]
        assert partners == [2] * 24
    assert not any(np.allclose(a, b, atol=1e-6) for a in rounds[0] for b in rounds[1])


def test_a_burst_depends_on_seed_and_number_alone():
    photos = [photo(60, 60)]
    one, other = (PaperBursts(photos, seed, patch=8, upscale=2, shifts=(2, 3)) for seed in (0, 1))
    first = one[5]
    one[2]
    assert all(map(torch.equal, first, one[5]))
    assert not torch.equal(first.frames, one[4].frames)
    assert not torch.equal(first.frames, other[5].frames)
    assert all(x.dtype == torch.float32 for x in first)


def test_noise_map_is_its_formula_for_batches():
    frame0 = torch.randn(3, 5, 7, dtype=torch.float64)
    read, shot = torch.rand(2, 3, dtype=torch.float64)
    for b in range(3):
        expected = [[math.sqrt(read[b] ** 2 + max(0.0, x) * shot[b] ** 2) for x in row] for row in frame0[b].tolist()]
        torch.testing.assert_close(noise_map(frame0, read, shot)[b], torch.tensor(expected, dtype=torch.float64))


def test_a_data_loader_makes_batches_in_workers():
    bursts = PaperBursts([photo(30, 30)], 0, patch=6, upscale=1, shifts=(2, 2), length=8)
    (batch, again) = torch.utils.data.DataLoader(bursts, batch_size=4, num_workers=1)
    assert batch.frames.shape == (4, 8, 6, 6)
    assert torch.equal(again.truth[1], bursts[5].truth)
    assert torch.equal(again.sigma_shot, torch.stack([bursts[n].sigma_shot for n in range(4, 8)]))


def test_bad_settings_are_one_sentence():
    with pytest.raises(BurstError, match=r"photo 1 is uint8 \(8, 8\)"):
        PaperBursts([photo(8, 8), photo(8, 8)[..., 0]], 0)
    with pytest.raises(BurstError, match="0 photos"):
        PaperBursts([], 0)
    with pytest.raises(BurstError, match="upscale=0"):
        PaperBursts([photo(8, 8)], 0, upscale=0)
    with pytest.raises(IndexError, match="burst 4 of a set of 4"):
        PaperBursts([photo(8, 8)], 0, length=4)[4]
