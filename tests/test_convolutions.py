"""`shared_conv` and `separable_conv` against their references: values, gradients, strides, extra axes."""

import pytest
import torch

from fastweights import zoo
from fastweights.ops.separable_conv import separable_conv, separable_conv_reference
from fastweights.ops.shared_conv import shared_conv, shared_conv_reference


def assert_equal_with_gradients(fast, reference, *inputs):
    found = []
    for way in (fast, reference):
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = way(*leaves)
        torch.manual_seed(1)
        found.append((y, *torch.autograd.grad(y, leaves, torch.randn(y.shape, dtype=y.dtype))))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("extra", [(), (3,), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("f", [1, 2, 3])
@pytest.mark.parametrize("large", [0, 3_000_000])
def test_shared_conv_by_groups_and_image_by_image(extra, stride, f, large, monkeypatch):
    monkeypatch.setattr("fastweights.ops.shared_conv.LARGE", large)
    x = torch.randn(2, *extra, 3, 7, 6, dtype=torch.float64)
    weight = torch.randn(2, 4, 3, f, f, dtype=torch.float64)
    assert_equal_with_gradients(
        lambda x, w: shared_conv(x, w, stride=stride),
        lambda x, w: shared_conv_reference(x, w, stride=stride),
        x,
        weight,
    )


@pytest.mark.parametrize("extra", [(), (3,), (2, 3)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_separable_conv(extra, k):
    frames = torch.randn(2, *extra, 2, 4 + k - 1, 5 + k - 1, dtype=torch.float64)
    kernels = (torch.randn(2, 2, k, 4, 5, dtype=torch.float64) for _ in range(2))
    assert_equal_with_gradients(separable_conv, separable_conv_reference, frames, *kernels)


@pytest.mark.parametrize("batch", [0, 3])
def test_an_empty_batch_and_a_full_one(batch):
    for layer in (zoo.CondConv(2, 4, 3), zoo.DynamicConvolution2015(2, 4, 3)):
        assert layer(torch.zeros(batch, 2, 5, 6)).shape == (batch, 4, 5, 6)
