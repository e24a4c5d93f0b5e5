"""Axes: sizes, borders and strides of patches against torch's convolutions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastweights import PredictedWeight, zoo
from fastweights.axes import Patches
from fastweights.structures import Direct, Gated


def shared(layer: PredictedWeight, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The layer's product with one weight (j, i) for every position."""
    return layer.product(weight.flatten()[None, :, None, None].expand(x.shape[0], -1, 1, 1), x)


@given(
    kernel_size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
)
def test_one_weight_for_all_positions_is_a_convolution(kernel_size, stride, padding, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn(2, 3 * kernel_size**2, dtype=torch.float64)
    layer = PredictedWeight(Direct(3 * kernel_size**2, 2), Patches(kernel_size, stride, padding), nn.Identity())
    expected = F.conv2d(x, weight.view(2, 3, kernel_size, kernel_size), stride=stride, padding=padding)
    torch.testing.assert_close(shared(layer, weight, x), expected)


@pytest.mark.parametrize(("out_kernel_size", "out_stride"), [(1, 1), (3, 1), (5, 1), (2, 2), (4, 2), (3, 3)])
@given(stride=st.integers(1, 3), size=st.tuples(st.integers(3, 8), st.integers(3, 8)))
def test_output_patches_are_a_transposed_convolution(out_kernel_size, out_stride, stride, size):
    torch.manual_seed(0)
    axes = Patches(3, stride, out_kernel_size=out_kernel_size, out_stride=out_stride)
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    v = torch.randn(4, 2 * 9, dtype=torch.float64)
    u = torch.randn(3 * out_kernel_size**2, 4, dtype=torch.float64)
    expected = F.conv_transpose2d(
        F.conv2d(x, v.view(4, 2, 3, 3), stride=stride, padding=1),
        u.T.reshape(4, 3, out_kernel_size, out_kernel_size),
        stride=out_stride,
        padding=(out_kernel_size - out_stride) // 2,
    )
    layer = PredictedWeight(Direct(18, 3 * out_kernel_size**2), axes, nn.Identity())
    torch.testing.assert_close(shared(layer, u @ v, x), expected)
    h, w = axes.positions(*size)
    assert expected.shape[-2:] == (h * out_stride, w * out_stride)
    gates = torch.randn(2, 4, h, w, dtype=torch.float64)
    gated = PredictedWeight(Gated(u, v), axes, nn.Identity())
    dense = torch.einsum("jk,bkhw,ki->bjihw", u, gates, v).flatten(1, 2)
    torch.testing.assert_close(gated.product(gates, x), layer.product(dense, x))


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate", "reflect", "circular"])
def test_borders(padding_mode):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode=padding_mode, bias=False).double()
    layer = PredictedWeight(Direct(18, 3), Patches(3, padding_mode=padding_mode), nn.Identity())
    torch.testing.assert_close(shared(layer, conv.weight.detach().flatten(1), x), conv(x).detach())


def test_wrong_settings_are_one_sentence(unchecked_shapes):
    with pytest.raises(ValueError, match="expected one of"):
        Patches(3, padding_mode="mirror")
    for padding in (-1, "same"):
        with pytest.raises(ValueError, match=f"padding is {padding!r}, expected a number of pixels or None"):
            Patches(3, padding=padding)
    for mode, width in (("reflect", 2), ("circular", 1)):
        layer = zoo.KernelPrediction(1, 5, predictor=nn.Identity(), padding_mode=mode)
        code, x = torch.ones(1, 25, 7, width), torch.ones(1, 1, 7, width)
        with pytest.raises(ValueError, match=f"2 pixels .* '{mode}' need an image of at least {width + 1} a side"):
            layer.product(code, x)
        code, x = torch.ones(1, 25, 7, width + 1), torch.ones(1, 1, 7, width + 1)
        torch.testing.assert_close(layer.product(code, x), torch.full_like(x, 25))
    with pytest.raises(ValueError, match="leave gaps or an odd border"):
        Patches(3, out_kernel_size=1, out_stride=2)
    with pytest.raises(ValueError, match="smaller than one patch"):
        Patches(5, padding=0).positions(4, 9)
