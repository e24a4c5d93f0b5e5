import cv2
import numpy as np
import pytest

from fastweights.burst.synthesis.jpeg import compressed, draw_jpeg

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 37, 45, 3), dtype=np.uint8)


def test_quality_zero_changes_nothing():
    assert compressed(FRAMES, 0) is FRAMES


def test_better_quality_is_nearer():
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in FRAMES])
    errors = [np.abs(compressed(soft, quality).astype(float) - soft).mean() for quality in (30, 80, 98)]
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, 5), (7, 1)])
def test_blocks_begin_where_they_are_told(down, right):
    """At a low quality a block of grey noise keeps its mean alone: it is flat inside."""
    grey = np.random.default_rng(1).normal(128, 3, (1, 40, 48, 1)).round().astype(np.uint8).repeat(3, 3)
    grey[:, :, :] += (np.arange(40) // 8 % 2 * 60).astype(np.uint8)[:, None, None]
    shifted = np.roll(grey, (down, right), (1, 2))
    made = compressed(shifted, 5, down, right)[0, ..., 0].astype(float)
    steps = np.abs(np.diff(made[down : down + 32], axis=0)).max(1)
    assert steps[7::8].min() > 20
    assert max(change for place, change in enumerate(steps) if place % 8 != 7) < 3


def test_colours_keep_their_order():
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(compressed(red, 95)[0, 5, 5], [200, 0, 0], atol=4)


def test_its_share_of_draws_is_compressed():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_jpeg(rng, 0.4) for _ in range(2000)])
    taken = drawn[drawn[:, 0] > 0]
    assert abs(len(taken) / len(drawn) - 0.4) < 0.04
    assert taken[:, 0].min() == 80
    assert taken[:, 0].max() == 98
    assert set(taken[:, 1]) == set(range(8))
