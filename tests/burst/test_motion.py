import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from fastweights.burst.synthesis.motion import FARTHEST, FOUND, TAPS, displaced, draw_found, draw_shifts


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 6))
def test_whole_pixels_are_copied(down, right, size):
    scene = np.random.default_rng(0).random((40, 33, 3), np.float32)
    top, left = (40 - size) // 2 + down, (33 - size) // 2 + right
    out = displaced(scene, np.array([down, right], float), size)
    np.testing.assert_allclose(out, scene[top : top + size, left : left + size], atol=1e-6)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_a_slow_wave_moves_by_the_fraction(down, right):
    def wave(y, x):
        return np.stack([np.sin(0.7 * y + 0.3 * x), np.cos(0.5 * x), np.cos(0.9 * y)], -1)

    y, x = np.mgrid[:40, :40].astype(float)
    out = displaced(wave(y, x), np.array([down, right]), 12)
    np.testing.assert_allclose(out, wave(y[14:26, 14:26] + down, x[14:26, 14:26] + right), atol=0.02)


def test_half_of_the_bursts_stand_still_and_a_tenth_has_frames_far_off():
    rng = np.random.default_rng(0)
    shifts = np.stack([draw_shifts(rng, 8) for _ in range(4000)])
    assert np.abs(shifts).max() < FARTHEST
    away = shifts - shifts[:, :1]
    still = ~shifts.any((1, 2))
    far = (np.abs(away) > 2.4).any((1, 2))
    assert abs(still.mean() - 0.5) < 0.04
    assert abs(far.mean() - 0.1) < 0.02
    residual = away[~still & ~far][:, 1:]
    assert abs(residual.std() - 0.6) < 0.02
    assert np.abs(shifts[:, 0]).max() <= 0.5
    # What the farthest frame needs of the scene is there.
    assert np.floor(shifts).min() >= -FARTHEST
    assert TAPS >= 4


def test_a_single_frame_has_no_far_ones():
    rng = np.random.default_rng(0)
    assert all(np.abs(draw_shifts(rng, 1)).max() <= 0.5 for _ in range(100))


def test_alignment_finds_its_share_of_the_near_ones():
    rng = np.random.default_rng(0)
    pairs = [(shifts, draw_found(rng, shifts, 0.75)) for shifts in (draw_shifts(rng, 8) for _ in range(2000))]
    near = [pair for pair in pairs if 0 < np.abs(pair[0] - pair[0][0]).max() <= 2.4]
    found = [pair for pair in near if pair[1].any()]
    assert abs(len(found) / len(near) - 0.75) < 0.05
    assert sum(at.any() for _, at in pairs) == len(found)
    missed = np.array([at[1:] - (shifts - shifts[0])[1:] for shifts, at in found])
    assert 0.03 < np.median(missed.std((1, 2))) < 0.06
    assert all(not at[0].any() and np.abs(at).max() <= FOUND for _, at in found)
