import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fastweights.burst.synthesis.demosaic import METHODS, bilinear, malvar, mosaic, sites

even = st.integers(4, 12).map(lambda k: 2 * k)
inside = np.s_[3:-3, 3:-3]
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
phases = pytest.mark.parametrize("phase", range(4))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def affine(height, width, slopes):
    """Each colour an affine function of the pixel's position, within 0.2..0.8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([0.5 + 0.15 * (a * (2 * y / height - 1) + b * (2 * x / width - 1)) for a, b in slopes], -1).astype(
        "f4"
    )


@given(even, even, st.integers(0, 3))
def test_a_mosaic_keeps_each_pixels_own_colour(height, width, phase):
    rgb = picture(height, width)
    raw = mosaic(np.stack([rgb, 1 - rgb]), phase)
    pattern = {(row, column): colour for row, column, colour in sites(phase)}
    for y in range(height):
        for x in range(width):
            assert raw[0, y, x] == rgb[y, x, pattern[y % 2, x % 2]]
    np.testing.assert_allclose(raw[1], 1 - raw[0], atol=1e-6)
    assert sorted(pattern.values()) == [0, 1, 1, 2]


@methods
@phases
def test_the_colour_measured_at_a_pixel_stays(method, phase):
    raw = picture(30, 22)[..., 0]
    again = mosaic(method(raw, phase), phase)
    np.testing.assert_allclose(again[inside], raw[inside], atol=4e-5)


@methods
@phases
def test_one_colour_everywhere_comes_back(method, phase):
    flat = np.broadcast_to(np.float32([0.7, 0.2, 0.4]), (20, 16, 3))
    np.testing.assert_allclose(method(mosaic(flat, phase), phase)[inside], flat[inside], atol=4e-5)


@pytest.mark.parametrize("method", [bilinear, malvar])
@phases
def test_affine_colours_come_back(method, phase):
    grey = affine(24, 32, [(1, -1)] * 3)
    np.testing.assert_allclose(method(mosaic(grey, phase), phase)[inside], grey[inside], atol=6e-5)
    free = affine(24, 32, [(1, 0.5), (-1, 0.2), (0.3, -1)])
    np.testing.assert_allclose(method(mosaic(free, phase), phase)[inside], free[inside], atol=6e-5)


@methods
@phases
def test_phases_are_one_method_seen_from_the_next_pixel(method, phase):
    raw = picture(30, 26)[..., 1]
    # Dropping the first column swaps RGGB with GRBG and GBRG with BGGR, dropping the first row RGGB with GBRG.
    np.testing.assert_allclose(
        method(raw, phase)[:, 1:][inside], method(np.ascontiguousarray(raw[:, 1:]), phase ^ 1)[inside], atol=1e-6
    )
    np.testing.assert_allclose(
        method(raw, phase)[1:][inside], method(np.ascontiguousarray(raw[1:]), phase ^ 2)[inside], atol=1e-6
    )


@phases
def test_malvar_is_its_formula_at_each_kind_of_site(phase):
    """Equations of the article: bilinear interpolation plus a gain times the Laplacian of the colour that is there."""
    raw = picture(16, 16)[..., 2].astype(np.float64)
    out = malvar(raw.astype(np.float32), phase)
    pattern = {(row, column): colour for row, column, colour in sites(phase)}
    for y in range(4, 12):
        for x in range(4, 12):
            here = pattern[y % 2, x % 2]
            cross = raw[y - 1, x] + raw[y + 1, x] + raw[y, x - 1] + raw[y, x + 1]
            far = raw[y - 2, x] + raw[y + 2, x] + raw[y, x - 2] + raw[y, x + 2]
            diagonal = raw[y - 1, x - 1] + raw[y - 1, x + 1] + raw[y + 1, x - 1] + raw[y + 1, x + 1]
            laplacian = raw[y, x] - far / 4
            if here != 1:
                assert out[y, x, 1] == pytest.approx(cross / 4 + laplacian / 2, abs=1e-6)
                assert out[y, x, 2 - here] == pytest.approx(diagonal / 4 + 3 / 4 * laplacian, abs=1e-6)
            else:
                row = pattern[y % 2, (x + 1) % 2]
                for colour, beside, along, across in (
                    (row, raw[y, x - 1] + raw[y, x + 1], raw[y, x - 2] + raw[y, x + 2], raw[y - 2, x] + raw[y + 2, x]),
                    (
                        2 - row,
                        raw[y - 1, x] + raw[y + 1, x],
                        raw[y - 2, x] + raw[y + 2, x],
                        raw[y, x - 2] + raw[y, x + 2],
                    ),
                ):
                    correction = 5 * raw[y, x] - along - diagonal + across / 2
                    assert out[y, x, colour] == pytest.approx(beside / 2 + correction / 8, abs=1e-6)
