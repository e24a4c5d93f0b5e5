"""Bursts of a random camera: functions of seed and number, in slots, aligned, with the truth that is asked for."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from burst.scenes import SILENT, bursts, photo, scenes

from fastweights.burst.errors import BurstError
from fastweights.burst.slots import to_slots
from fastweights.burst.synthesis.camera import Camera, shoot
from fastweights.burst.synthesis.camera_bursts import CameraBursts
from fastweights.burst.transfer import srgb_encode


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
