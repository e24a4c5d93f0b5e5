"""Gates of halves between fixed layers are one predicted weight: values and gradients in float64, and refusals."""

import pytest
import torch
from test_equivalences import assert_same, double
from torch import nn

from fastweights import zoo
from fastweights.axes import Channels, Patches
from fastweights.equivalences import absorb
from fastweights.split_gates import between
from fastweights.structures import Gated


def shaken(unit):
    with torch.no_grad():
        for p in unit.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return unit.double()


@pytest.mark.parametrize("f", [1, 3])
def test_a_simple_gate_takes_in_the_convolution_behind_it(f):
    gate, after = zoo.SimpleGate(6).double(), nn.Conv2d(6, 4, f, padding=f // 2, bias=f == 1).double()
    converted = absorb(gate, after)
    assert isinstance(converted.part.structure, Gated)
    assert_same(converted, lambda x: after(gate(x)), double(2, 12, 5, 4))
    x = double(1, 12, 5, 4)
    weight = converted.part.weight(x[:, 6:])
    if f == 1:  # the predicted weight is that of the layer behind, its columns scaled by the gates
        expected = torch.einsum("ji,bihw->bhwji", after.weight[:, :, 0, 0], x[:, 6:])
        torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("bias", [False, True])
def test_a_spatial_gating_unit_takes_in_the_linear_layer_behind_it(bias):
    unit, after = shaken(zoo.SpatialGatingUnit(12, 5)), nn.Linear(6, 4, bias=bias).double()
    assert_same(absorb(unit, after), lambda x: after(unit(x)), double(2, 5, 12))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bias_after", [False, True])
@pytest.mark.parametrize(("f", "groups", "border"), [(1, 1, "zeros"), (3, 1, "zeros"), (5, 2, "replicate")])
def test_a_simple_gate_between_convolutions_is_a_predicted_kernel(bias, bias_after, f, groups, border):
    settings = {"padding": f // 2, "groups": groups, "padding_mode": border, "bias": bias}
    before, gate, after = nn.Conv2d(4, 12, f, **settings), zoo.SimpleGate(6), nn.Conv2d(6, 3, 1, bias=bias_after)
    source = nn.Sequential(before, gate, after).double()
    converted = between(*source)
    assert isinstance(converted.structure, Gated)
    assert isinstance(converted.axes, Patches)
    assert_same(converted, source, double(2, 4, 7, 6))
    kernels = converted.weight(double(1, 4, 7, 6)).flatten(0, 2).flatten(1)
    assert torch.linalg.matrix_rank(kernels) <= 6  # one space of six kernels for all pixels


def test_with_taps_on_both_sides():
    """The effective kernels have 5 x 5 taps: 3 x 3 convolved with 3 x 3."""
    before, gate = nn.Conv2d(4, 12, 3, padding=1, bias=False), zoo.SimpleGate(6)
    source = nn.Sequential(before, gate, nn.Conv2d(6, 3, 3, padding=1, bias=False)).double()
    converted = between(*source)
    assert converted.axes.out_kernel_size == 3
    assert_same(converted, source, double(2, 4, 7, 6))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bias_after", [False, True])
def test_a_spatial_gating_unit_between_linear_layers_is_a_predicted_matrix(bias, bias_after):
    unit = shaken(zoo.SpatialGatingUnit(12, 5))
    source = nn.Sequential(nn.Linear(4, 12, bias=bias), unit, nn.Linear(6, 3, bias=bias_after)).double()
    converted = between(*source)
    assert isinstance(converted.axes, Channels)
    assert_same(converted, source, double(2, 5, 4))


def test_nafnets_block_of_predicted_weights():
    """Both branches: SCA with the convolution behind it, and SimpleGate between its two."""
    block = shaken(zoo.NAFBlock(4))
    attention, second = absorb(block.attention, block.conv3), between(block.conv4, block.gate2, block.conv5)

    def rewritten(x):
        y = x + block.beta * attention(block.gate1(block.conv2(block.conv1(block.norm1(x)))))
        return y + block.gamma * second(block.norm2(y))

    x = double(2, 4, 6, 5)
    torch.testing.assert_close(rewritten(x), block(x), rtol=1e-10, atol=1e-10)
    assert (block(x) - x).abs().max() > 0.1


def test_the_converted_layer_trains():
    converted = between(nn.Conv2d(4, 12, 3, padding=1), zoo.SimpleGate(6), nn.Conv2d(6, 3, 1))
    converted(torch.randn(2, 4, 6, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in converted.parameters())


def test_refusals_say_why():
    before, gate, after = nn.Conv2d(4, 12, 3, padding=1), zoo.SimpleGate(6), nn.Conv2d(6, 3, 1)
    with pytest.raises(TypeError, match="Linear before SimpleGate, expected Conv2d"):
        between(nn.Linear(4, 12), gate, after)
    with pytest.raises(TypeError, match="ReLU behind SimpleGate, expected Conv2d"):
        between(before, gate, nn.ReLU())
    with pytest.raises(TypeError, match="Conv2d behind SpatialGatingUnit, expected Linear"):
        between(nn.Linear(4, 12), zoo.SpatialGatingUnit(12, 5), after)
    for strange in ({"stride": 2}, {"padding": 0}, {"dilation": 2}):
        with pytest.raises(TypeError, match=r"before a gate: expected f x f taps"):
            between(nn.Conv2d(4, 12, 3, **({"padding": 1} | strange)), gate, after)
    with pytest.raises(TypeError, match="of zeros"):
        between(before, gate, nn.Conv2d(6, 3, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(TypeError, match="does not pass f x f taps"):
        between(before, gate, nn.Conv2d(6, 3, 3, padding=1, bias=False))
    with pytest.raises(ValueError, match="expected 12 features before, 6 behind, in one group"):
        between(before, gate, nn.Conv2d(5, 3, 1))
    with pytest.raises(ValueError, match="expected 12 features before"):
        between(nn.Conv2d(4, 10, 1), gate, after)
    with pytest.raises(ValueError, match="in one group"):
        between(before, gate, nn.Conv2d(6, 4, 1, groups=2))
