"""Costs against counts made by hand."""

import pytest
import torch
from torch import nn

from fastweights import cost, zoo
from fastweights.codes import Upsampled


def test_linear_and_convolution():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 20, 10))
    measured = cost.measure(network, torch.zeros(2, 3, 4, 5))
    assert measured.parameters == 8 * 27 + 8 + 1600 + 10
    assert measured.multiply_adds == 2 * (20 * 27 * 8 + 1600)
    assert (measured.largest, measured.largest_bytes) == ((2, 8, 4, 5), 2 * 8 * 20 * 4)


class Given(nn.Module):
    """A predictor that holds its code."""

    def __init__(self, code):
        super().__init__()
        self.given = code

    def forward(self, x):
        return self.given


@pytest.mark.parametrize("colours", [None, 3])
def test_local_convolution_counts_a_product_a_tap_and_never_holds_full_size_kernels(colours):
    code = Upsampled(torch.zeros(1, 2 * 9, 4, 4), 2, (8, 8))
    layer = zoo.KernelPrediction(2, 3, predictor=Given(code))
    x = torch.zeros(1, 2, 8, 8) if colours is None else torch.zeros(1, colours, 2, 8, 8)
    measured = cost.measure(layer, x)
    assert measured.multiply_adds == (colours or 1) * 2 * 9 * 64
    assert measured.largest_bytes <= 4 * max(18 * 16, 2 * (colours or 1) * 64)


def test_gates_hold_their_maps():
    layer = zoo.GatedKernelPrediction(2, 3, 16, predictor=Given(torch.zeros(1, 16, 8, 8)))
    measured = cost.measure(layer, torch.zeros(1, 2, 8, 8))
    assert measured.multiply_adds == 64 * 16 * (2 * 9 + 9)
    assert measured.largest_bytes == 4 * 16 * 64
    assert "16 x 8 x 8" in str(measured)
