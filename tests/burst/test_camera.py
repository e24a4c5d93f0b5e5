import dataclasses

import cv2
import numpy as np
import pytest
import torch

from fastweights.burst.errors import BurstError
from fastweights.burst.slots import to_slots
from fastweights.burst.synthesis.camera import Camera, draw_camera, shoot
from fastweights.burst.synthesis.camera_bursts import CameraBursts
from fastweights.burst.synthesis.motion import draw_shifts
from fastweights.burst.transfer import srgb_decode, srgb_encode

SILENT = Camera(shot=0.0, read=0.0)


def photo(height=140, width=150, seed=0):
    """Smooth colours with edges: noise blurred by summing, and a bright square."""
    noise = np.random.default_rng(seed).random((height + 8, width + 8, 3))
    smooth = sum(noise[i : i + height, i : i + width] for i in range(8)) / 8
    smooth[40:70, 40:70] += 0.3
    return (smooth.clip(0, 1) * 255).astype(np.uint8)


def scenes(n=1, height=60, width=48, level=0.2):
    return np.full((n, height, width, 3), level, np.float32)


def bursts(seed=0, **settings):
    return CameraBursts([photo(), photo(seed=1)], seed, patch=32, **settings)


def correlation(noise, distance):
    noise = noise - noise.mean((1, 2), keepdims=True)
    pairs = (noise[:, distance:] * noise[:, :-distance]).mean() + (
        noise[:, :, distance:] * noise[:, :, :-distance]
    ).mean()
    return pairs / 2 / (noise**2).mean()


def test_a_burst_depends_on_seed_and_number_alone():
    one, other = bursts(0), bursts(1)
    first = one[5]
    one[2]
    assert all(map(torch.equal, first, one[5]))
    assert not torch.equal(first.frames, one[6].frames)
    assert not torch.equal(first.frames, other[5].frames)


def test_frames_are_linearised_bytes_in_slots_and_the_truth_is_in_range():
    lengths = set()
    many = bursts()
    for number in range(60):
        burst = many[number]
        lengths.add(int(burst.counts.sum()))
        assert burst.frames.shape == (8, 3, 32, 32)
        assert burst.truth.shape == (3, 32, 32)
        assert all(x.dtype == torch.float32 and x.isfinite().all() for x in burst)
        assert 0 <= burst.truth.min() <= burst.truth.max() <= 1
        if burst.counts[0] == 1:
            pixels = srgb_encode(burst.frames[0].double()) * 255
            torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
            torch.testing.assert_close(
                burst.single_error,
                (srgb_encode(burst.frames[0]) - srgb_encode(burst.truth)).abs().mean(),
                atol=1e-6,
                rtol=0,
            )
    assert 8 in lengths
    assert min(lengths) < 8 < max(lengths) <= 24


def test_the_slots_are_those_of_to_slots():
    few, many = bursts(), bursts(slots=24)
    # Where the number of frames is drawn, it does not depend on the slots.
    drawn = [n for n in range(30) if few[n].counts.sum() not in (8, 24)]
    checked = 0
    for number in drawn:
        everything, ones = many[number][:2]
        packed, counts = few[number][:2]
        n = int(counts.sum())
        if n == ones.sum():
            expected, expected_counts = to_slots(everything[:n])
            torch.testing.assert_close(packed, expected)
            assert torch.equal(counts, expected_counts)
            checked += 1
    assert checked > 2


def test_without_noise_a_frame_is_the_truth_rounded_to_bytes():
    rng = np.random.default_rng(0)
    for _ in range(30):
        camera = dataclasses.replace(draw_camera(rng), shot=0.0, read=0.0)
        height, width = 2 * rng.integers(20, 40, 2)
        scene = np.repeat(cv_photo(rng, height, width)[None], 3, 0)
        frames, truth = shoot(scene, camera, rng)
        expected = srgb_encode(truth).permute(1, 2, 0).numpy() * 255
        assert frames.shape == (3, height - 20, width - 20, 3)
        assert np.abs(frames - expected).max() < 0.5 + 0.12


def cv_photo(rng, height, width):
    noise = rng.random((height + 4, width + 4, 3), np.float32)
    return sum(noise[i : i + height, i : i + width] for i in range(4)) / 4


@pytest.mark.parametrize("demosaic", ["bilinear", "malvar", "edge_aware"])
def test_a_plain_camera_gives_the_scene_back(demosaic):
    y, x = np.mgrid[:60, :48].astype(np.float32)
    scene = np.stack([0.3 + 0.004 * x, 0.2 + 0.004 * y, 0.5 - 0.003 * x], -1)
    _, truth = shoot(scene[None], dataclasses.replace(SILENT, demosaic=demosaic), np.random.default_rng(0))
    # Edge-aware interpolation is not linear: a pixel's green follows one direction only.
    np.testing.assert_allclose(
        truth.permute(1, 2, 0), scene[10:-10, 10:-10], atol=0.006 if demosaic == "edge_aware" else 1e-4
    )


def test_light_beyond_white_is_white_and_black_stays_black():
    for level in (0.0, 1.0, 1.7):
        frames, truth = shoot(scenes(level=level), SILENT, np.random.default_rng(0))
        assert (frames == (255 if level else 0)).all()
        torch.testing.assert_close(truth, torch.full_like(truth, min(level, 1)))


@pytest.mark.parametrize("phase", range(4))
def test_noise_on_the_sensor_has_the_variance_of_its_settings(phase):
    camera = Camera(shot=2e-3, read=6e-3, gains=(2.0, 1.5), matrix=0.0, phase=phase, demosaic="bilinear")
    frames, truth = shoot(scenes(30, 84, 84), camera, np.random.default_rng(0))
    noise = srgb_decode(torch.from_numpy(frames).double() / 255).numpy() - truth.permute(1, 2, 0).double().numpy()
    start = (10 % 2, 10 % 2)
    for colour, gain in enumerate((2.0, 1.0, 1.5)):
        expected = 2e-3 * gain * 0.2 + (6e-3 * gain) ** 2
        # Bilinear leaves the measured sites as they are: only there the variance is the sensor's.
        for row, column, at in ((k // 2, k % 2, c) for k, c in enumerate(_pattern(phase))):
            if at == colour:
                measured = noise[:, (row - start[0]) % 2 :: 2, (column - start[1]) % 2 :: 2, colour].var()
                # Rounding to bytes adds a twelfth of a squared step.
                assert measured == pytest.approx(expected + (1 / 255 / 1.12) ** 2 / 12, rel=0.05)


def _pattern(phase):
    return ((0, 1, 1, 2), (1, 0, 2, 1), (1, 2, 0, 1), (2, 1, 1, 0))[phase]


@pytest.mark.parametrize("phase", range(4))
def test_the_fixed_pattern_has_the_variance_of_its_settings_and_is_one_for_all_frames(phase):
    """On green sites, whose gain is 1, untouched by bilinear demosaicing; sensitivity and black level add up."""
    camera = dataclasses.replace(SILENT, read=1e-9, matrix=0.0, demosaic="bilinear", phase=phase, pattern=(0.05, 1e7))
    level = 0.2
    frames, truth = shoot(scenes(2, 220, 220, level), camera, np.random.default_rng(0), margin=10)
    assert (frames[0] == frames[1]).all()
    row, column = (10, 11) if phase in (0, 3) else (10, 10)
    pattern = truth[1, row % 2 :: 2, column % 2 :: 2] - level
    assert pattern.var().sqrt().item() == pytest.approx(np.hypot(0.05 * level, 1e-9 * 1e7), rel=0.03)
    _, without = shoot(scenes(2, 220, 220, level), camera, np.random.default_rng(0), keep_pattern=False)
    torch.testing.assert_close(without, torch.full_like(without, level), rtol=1e-4, atol=0)


def test_the_truth_keeps_the_fixed_pattern_of_static_bursts_alone():
    patterned = dataclasses.replace(SILENT, read=1e-9, pattern=(0.1, 0.0))
    with_it, without = bursts(camera=patterned), bursts(camera=SILENT)
    kept = {True: [], False: []}
    for number in range(30):
        same = (with_it[number].truth - without[number].truth).abs().mean() < 1e-4
        shifts = draw_shifts_of(with_it, number)
        kept[bool(shifts.any())].append(bool(same))
    assert not any(kept[False])
    assert all(kept[True])
    assert len(kept[True]) > 5 < len(kept[False])


def draw_shifts_of(many, number):
    """The displacements of a burst of a fixed camera: the draws of `CameraBursts.__getitem__` in their order."""
    rng = np.random.Generator(np.random.PCG64([many.seed, number]))
    count = many.slots if rng.random() < 0.7 else int(rng.integers(2, 25))
    return draw_shifts(rng, count)


def test_blotches_are_low_frequency_noise_in_red_and_blue():
    plain = Camera(shot=0.0, read=0.02, matrix=0.0)
    noise = {}
    for blotches in (0.0, 0.5):
        frames, truth = shoot(
            scenes(20, 148, 148), dataclasses.replace(plain, blotches=blotches), np.random.default_rng(0)
        )
        noise[blotches] = srgb_decode(torch.from_numpy(frames) / 255).numpy() - truth.permute(1, 2, 0).numpy()
    for colour in (0, 2):
        assert abs(correlation(noise[0.0][..., colour], 6)) < 0.01
        assert correlation(noise[0.5][..., colour], 6) > 0.05


@pytest.mark.parametrize(
    ("change", "distance"), [({"smooth_colour": 1.0}, 2), ({"median_colour": 3}, 2), ({"blur": 0.6}, 1)]
)
def test_smoothing_makes_noise_smaller_and_wider(change, distance):
    noise = []
    for camera in (Camera(read=0.02, matrix=0.0), Camera(read=0.02, matrix=0.0, **change)):
        frames, truth = shoot(scenes(8, 100, 100), camera, np.random.default_rng(0))
        noise.append(frames[..., 0] - srgb_encode(truth[0]).numpy() * 255)
    assert noise[1].std() < noise[0].std()
    assert correlation(noise[1], distance) > correlation(noise[0], distance) + 0.015


def test_tone_is_increasing_and_keeps_black_and_white():
    scene = np.broadcast_to(np.linspace(0, 1, 200, dtype=np.float32)[None, :, None], (40, 200, 3))[None]
    rng = np.random.default_rng(0)
    for _ in range(40):
        tone = {key: getattr(draw_camera(rng), key) for key in ("shoulder", "contrast")}
        _, truth = shoot(scene, dataclasses.replace(SILENT, matrix=0.0, demosaic="bilinear", **tone), rng)
        line = truth[1, 5]
        assert (line.diff() > 0).all()
        white = shoot(scenes(level=1.0), dataclasses.replace(SILENT, **tone), rng)[1]
        torch.testing.assert_close(white, torch.ones_like(white))


def test_a_real_camera_lies_well_inside_the_random_ones():
    """Noise correlations of a real ISO 3200 camera at distances 1, 2, 3 in R, G, B, then between channels."""
    real = [0.52, 0.21, 0.12, 0.30, 0.03, 0.06, 0.48, 0.17, 0.10, 0.40, 0.40, 0.40]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(150):
        frames, _ = shoot(scenes(4, 84, 84, 0.25), draw_camera(rng), rng)
        noise = (frames[::2].astype(float) - frames[1::2]) / np.sqrt(2)
        between = np.corrcoef(noise.reshape(-1, 3).T)
        drawn.append(
            [correlation(noise[..., c], d) for c in range(3) for d in (1, 2, 3)]
            + [between[0, 1], between[1, 2], between[0, 2]]
        )
    share = (np.array(drawn) < np.array(real)).mean(0)
    assert share.min() > 0.05
    # Green at distance 3 is the one extreme: it comes with sharpening or blur of a kind few cameras have.
    assert np.delete(share, 5).max() < 0.9


def test_the_noise_of_one_frame_spans_mild_to_heavy():
    many = bursts()
    errors = torch.stack([many[n].single_error for n in range(120)]) * 255
    low, median, high = errors.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    assert 0.5 < low < 2
    assert 3 < median < 8
    assert 12 < high < 25


def test_the_truth_can_be_the_expectation_of_the_frames():
    rough = Camera(shot=2e-3, read=1e-2, contrast=0.5)
    clean, mean = (bursts(camera=rough, truth=truth) for truth in ("clean", "mean"))
    brighter = []
    for number in range(20):
        a, b = clean[number], mean[number]
        assert torch.equal(a.frames, b.frames)
        brighter.append((b.truth - a.truth)[a.truth < 0.02])
    assert torch.cat(brighter).mean() > 1e-4


def test_aligned_bursts_differ_from_the_reference_by_little_and_static_ones_are_copied():
    soft = cv2.GaussianBlur(photo(), (0, 0), 3)
    away = {}
    for share in (0.0, 1.0):
        many = CameraBursts([soft], 0, patch=32, camera=SILENT, frames=8, aligned=share)
        apart = [(burst.frames[1:] - burst.frames[:1]).abs().mean() for burst in (many[n] for n in range(60))]
        away[share] = torch.stack(apart).sort().values
    # Half stand still; a fifth of the others has frames that are far off, which nothing aligns.
    assert 20 < (away[1.0] == 0).sum() < 40
    moved = slice(34, 48)
    assert (away[1.0][moved] < 0.6 * away[0.0][moved]).all()
    assert away[1.0][moved].mean() < 0.4 * away[0.0][moved].mean()


def test_the_reference_of_an_aligned_burst_is_not_interpolated():
    many = bursts(camera=SILENT, frames=8, aligned=1.0)
    for burst in (many[n] for n in range(20)):
        code = srgb_encode(burst.frames[0]) * 255
        torch.testing.assert_close(code, code.round(), atol=1e-3, rtol=0)
        assert (srgb_encode(burst.truth) * 255 - code).abs().max() < 1.1


def test_another_truth_is_refused(unchecked_shapes):
    with pytest.raises(BurstError, match="truth='median'"):
        bursts(truth="median")


def test_a_fixed_camera_is_used():
    quiet = bursts(camera=dataclasses.replace(SILENT, demosaic="bilinear"))
    assert all(quiet[n].single_error * 255 < 0.3 for n in range(10))


def test_a_data_loader_makes_batches_in_workers_of_a_process_with_threads():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    # A worker that inherits OpenCV's threads by fork would wait for them forever.
    cv2.medianBlur(np.zeros((500, 500), np.float32), 5)
    (batch,) = torch.utils.data.DataLoader(bursts(length=3), batch_size=3, num_workers=1)
    assert batch.frames.shape == (3, 8, 3, 32, 32)
    assert batch.single_error.shape == (3,)
    assert torch.equal(batch.truth[2], bursts()[2].truth)
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(threads)


def test_bad_settings_are_one_sentence():
    with pytest.raises(BurstError, match=r"photo 1 is uint8 \(90, 200, 3\): a patch of 32 .* at least 92"):
        CameraBursts([photo(92, 92), photo(90, 200)], 0, patch=32)
    with pytest.raises(BurstError, match="patch=31"):
        CameraBursts([photo()], 0, patch=31)
    with pytest.raises(BurstError, match="0 photos"):
        CameraBursts([], 0)
    with pytest.raises(BurstError, match="even sizes, got 61 x 48"):
        shoot(scenes(height=61), Camera(), np.random.default_rng(0))
    with pytest.raises(IndexError, match="burst 3 of a set of 3"):
        bursts(length=3)[3]
