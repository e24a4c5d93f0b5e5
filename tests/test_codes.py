"""Lazy codes: their dense form against torch's own interpolation, and what commutes with it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastweights.codes import Separable, Sliced, Upsampled, dense, pointwise

sizes = st.integers(1, 9)


@given(height=sizes, width=sizes, factor=st.integers(1, 4))
def test_half_pixel_rule_is_interpolation_by_the_factor_then_a_crop(height, width, factor):
    torch.manual_seed(0)
    code = torch.randn(2, 3, -(-height // factor), -(-width // factor), dtype=torch.float64)
    full = F.interpolate(code, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsampled(code, factor, (height, width)).dense(), full[..., :height, :width])


@given(height=sizes, width=sizes, factor=st.integers(1, 4))
def test_legacy_rule_takes_source_as_destination_over_factor(height, width, factor):
    torch.manual_seed(0)
    code = torch.randn(1, 2, -(-height // factor), -(-width // factor), dtype=torch.float64)
    full = Upsampled(code, factor, (height, width), rule="legacy").dense()
    for y in range(height):
        for x in range(width):
            rows = min(y // factor, code.shape[-2] - 1), min(y // factor + 1, code.shape[-2] - 1)
            columns = min(x // factor, code.shape[-1] - 1), min(x // factor + 1, code.shape[-1] - 1)
            a, b = y / factor % 1, x / factor % 1
            top = (1 - b) * code[..., rows[0], columns[0]] + b * code[..., rows[0], columns[1]]
            bottom = (1 - b) * code[..., rows[1], columns[0]] + b * code[..., rows[1], columns[1]]
            torch.testing.assert_close(full[..., y, x], (1 - a) * top + a * bottom)


def test_affine_maps_commute_with_interpolation():
    torch.manual_seed(0)
    head = torch.nn.Conv2d(3, 5, 1).double()
    for rule in ("half_pixel", "legacy"):
        code = Upsampled(torch.randn(2, 3, 4, 5, dtype=torch.float64), 2, (7, 9), rule)
        torch.testing.assert_close(dense(pointwise(head, code)), head(dense(code)))


def test_separable_kernels_are_outer_products():
    torch.manual_seed(0)
    vertical, horizontal = torch.randn(2, 2 * 3, 4, 5), torch.randn(2, 2 * 3, 4, 5)
    kernels = Separable(vertical, horizontal, frames=2).dense().view(2, 2, 3, 3, 4, 5)
    for t in range(2):
        for u in range(3):
            for v in range(3):
                torch.testing.assert_close(kernels[:, t, u, v], vertical[:, 3 * t + u] * horizontal[:, 3 * t + v])


def test_a_pixel_in_the_middle_of_a_cell_reads_that_cell():
    torch.manual_seed(0)
    grid = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    for z in range(3):
        guide = torch.full((2, 5, 6), (z + 0.5) / 3, dtype=torch.float64)
        torch.testing.assert_close(Sliced(grid, guide).dense(), grid[:, z])


def test_affine_maps_commute_with_slicing():
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 1, 1, dtype=torch.float64)

    def head(numbers):
        return torch.einsum("jk,...khw->...jhw", weight, numbers) + bias

    code = Sliced(torch.randn(2, 2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 7, 9, dtype=torch.float64))
    torch.testing.assert_close(dense(pointwise(head, code)), head(dense(code)))


def test_wrong_sizes_are_one_sentence(unchecked_shapes):
    with pytest.raises(ValueError, match=r"expected \(4, 5\)"):
        Upsampled(torch.zeros(1, 2, 4, 4), 2, (7, 9))
    with pytest.raises(ValueError, match="'half_pixel' or 'legacy'"):
        Upsampled(torch.zeros(1, 2, 4, 4), 2, (7, 8), rule="nearest")
    with pytest.raises(ValueError, match=r"shape \(3, 2, 2\), expected \(B, k, h, w\)"):
        Upsampled(torch.ones(3, 2, 2), 2, (4, 4))
    with pytest.raises(ValueError, match=r"vertical \(4, 2, 2\) .* must have one shape \(B, T K, H, W\)"):
        Separable(torch.ones(4, 2, 2), torch.ones(4, 2, 2), frames=2)
    with pytest.raises(ValueError, match="T = 0 frames"):
        Separable(torch.ones(1, 4, 2, 2), torch.ones(1, 4, 2, 2), frames=0)
    with pytest.raises(ValueError, match="T = 3 frames"):
        Separable(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), frames=3)
    with pytest.raises(ValueError, match="with one B"):
        Sliced(torch.zeros(1, 2, 3, 4, 4), torch.zeros(2, 5, 5))
    with pytest.raises(TypeError, match="pair of codes"):
        pointwise(torch.neg, (torch.zeros(2), torch.zeros(3)))
