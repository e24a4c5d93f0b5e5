"""Published layers in one line with their sizes alone: outputs, counts of parameters, and errors of one sentence."""

import pytest
import torch

from fastweights import zoo


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


# (build, shapes of the inputs, shape of the output, parameters)
LAYERS = [
    (lambda: zoo.Gating(5), [(4, 5)], (4, 5), 5 * 128 + 128 + 128 * 5 + 5),
    (lambda: zoo.Gating(5, dim=-3), [(2, 5, 6, 7)], (2, 5, 6, 7), 5 * 9 * 128 + 128 + 128 * 5 + 5),
    (lambda: zoo.FiLM(128, 4096), [(2, 128, 3, 4), (2, 4096)], (2, 128, 3, 4), 4096 * 256 + 256),
    (lambda: zoo.FiLM(6, 5, dim=-1), [(2, 7, 6), (2, 5)], (2, 7, 6), 5 * 12 + 12),
    (lambda: zoo.SqueezeExcitation(64), [(2, 64, 3, 4)], (2, 64, 3, 4), 2 * 64 * 4),
    (lambda: zoo.SqueezeExcitation(64, 8, bias=True), [(2, 64, 3, 4)], (2, 64, 3, 4), 2 * 64 * 8 + 8 + 64),
    (lambda: zoo.CondConv(3, 5, 3), [(2, 3, 7, 6)], (2, 5, 7, 6), 8 * 5 * 27 + 3 * 8 + 8),
    (
        lambda: zoo.CondConv(3, 5, 3, 4, stride=2, bias=True),
        [(2, 3, 7, 6)],
        (2, 5, 4, 3),
        4 * 5 * 27 + 3 * 4 + 4 + 4 * 5,
    ),
    (
        lambda: zoo.BasisPrediction(2, 5, 7),
        [(2, 2, 6, 5)],
        (2, 1, 6, 5),
        2 * 9 * 128 + 128 + 128 * 7 + 7 + 128 * 2 * 25 * 7 + 2 * 25 * 7,
    ),
    (
        lambda: zoo.DynamicConvolution2015(2, 3, 5),
        [(2, 2, 6, 5)],
        (2, 3, 6, 5),
        2 * 9 * 128 + 128 + 129 * 3 * 2 * 25,
    ),
    (
        lambda: zoo.DynamicConvolution2015(1, 1, 11, separable=True, context_channels=4),
        [(2, 1, 6, 5), (2, 4, 6, 5)],
        (2, 1, 6, 5),
        4 * 9 * 128 + 128 + 129 * 22,
    ),
    (zoo.SeparableConvolution, [(1, 2, 6, 5)], (1, 1, 6, 5), 2 * 9 * 128 + 128 + 129 * 4 * 51),
    (zoo.DynamicFilter, [(2, 1, 6, 5)], (2, 1, 6, 5), 9 * 128 + 128 + 129 * 81),
    (lambda: zoo.DynamicFilter(5, local=False), [(2, 1, 6, 5)], (2, 1, 6, 5), 9 * 128 + 128 + 129 * 25),
    (lambda: zoo.DynamicAlignmentUnits(6, 16), [(2, 6, 5, 4)], (2, 16, 5, 4), 6 * 9 * 32 + 33 * 16 * 6 * 9),
    (lambda: zoo.HDRNet(32, 4, 2), [(2, 3, 9, 7)], (2, 3, 9, 7), None),
    (lambda: zoo.DecomposableAttention(200), [(2, 5, 200)], (2, 5, 200), 2 * 200 * 201),
    (lambda: zoo.AdditiveAttention(10, 12, 8), [(2, 5, 12), (2, 3, 10)], (2, 3, 12), 10 * 8 + 8 + 12 * 8 + 8),
    (zoo.MultiHeadAttention, [(2, 5, 512)], (2, 5, 512), 1_050_624),
    (lambda: zoo.MultiHeadAttention(6, 2, bias=False), [(2, 5, 6), (2, 3, 6)], (2, 3, 6), 4 * 36),
    (lambda: zoo.LinearAttention(12), [(2, 5, 12)], (2, 5, 12), 2 * 13 * 64),
    (lambda: zoo.FastWeightMemory(12), [(2, 5, 12)], (2, 5, 12), 2 * 13 * 64),
    (lambda: zoo.SimpleGate(8), [(2, 16, 3, 4)], (2, 8, 3, 4), 0),
    (lambda: zoo.SimplifiedChannelAttention(8), [(2, 8, 3, 4)], (2, 8, 3, 4), 8 * 8 + 8),
    (lambda: zoo.SpatialGatingUnit(16, 5), [(2, 5, 16)], (2, 5, 8), 2 * 8 + 5 * 5 + 5),
    (
        lambda: zoo.ModulatedSiren(2, 3),
        [(2, 7, 2), (2, 256)],
        (2, 7, 3),
        (2 + 1) * 256 + 3 * 257 * 256 + 257 * 3 + 257 * 256 + 3 * 513 * 256,
    ),
]


@pytest.mark.parametrize(("build", "inputs", "output", "parameters"), LAYERS)
def test_one_line_with_sizes_alone(build, inputs, output, parameters):
    layer = build()
    y = layer(*(torch.randn(shape) for shape in inputs))
    assert y.shape == output
    assert parameters is None or count(layer) == parameters
    if parameters == 0:
        return
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert any(p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize("build", [lambda: zoo.SqueezeExcitation(32), lambda: zoo.SimplifiedChannelAttention(4)])
def test_one_image_without_a_batch(build, unchecked_shapes):
    """As torch.nn.Conv2d takes one."""
    layer = build().double()
    x = torch.randn(layer.structure.in_features, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer(x[None])[0], rtol=1e-12, atol=1e-12)


def test_one_image_where_a_batch_is_needed_is_one_sentence(unchecked_shapes):
    image = torch.randn(3, 8, 8)
    with pytest.raises(ValueError, match=r"HDRNet: the image has shape \(3, 8, 8\), expected \(B, 3, H, W\)"):
        zoo.HDRNet(32, 4, 2)(image)
    with pytest.raises(ValueError, match=r"the code has shape \(9, 1, 1\) for x \(2, 1, 8, 8\), expected \(2, k"):
        zoo.DynamicFilter(3, local=False, context_channels=3)(torch.randn(2, 1, 8, 8), image)
    with pytest.raises(ValueError, match=r"the code has shape \(5, 8, 8\) for x \(2, 3, 8, 8\), expected \(2, k"):
        zoo.BasisPrediction(3, 3, 5)(torch.randn(2, 3, 8, 8), image)


def test_wrong_sizes_are_one_sentence(unchecked_shapes):
    with pytest.raises(ValueError, match="8 channels reduced by 16 leave none"):
        zoo.SqueezeExcitation(8)
    with pytest.raises(ValueError, match="odd number of taps"):
        zoo.BasisPrediction(2, 4)
    with pytest.raises(ValueError, match="dim is -2"):
        zoo.Gating(3, dim=-2)
    with pytest.raises(ValueError, match="split in two"):
        zoo.SpatialGatingUnit(5, 4)
    with pytest.raises(ValueError, match="x has 4 channels, expected 6"):
        zoo.SimpleGate(3)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="layers is 0"):
        zoo.ModulatedSiren(2, 3, layers=0)
    for build in (
        zoo.DynamicFilter,
        lambda f: zoo.SeparableConvolution(2, f),
        lambda f: zoo.DynamicConvolution2015(1, 1, f),
    ):
        with pytest.raises(ValueError, match="kernel_size is 4, expected an odd number"):
            build(4)
    with pytest.raises(ValueError, match="out_channels is 2, expected 1 with separable"):
        zoo.DynamicConvolution2015(1, 2, 3, separable=True)
    with pytest.raises(ValueError, match="5 x 4 pixels, expected even sizes"):
        zoo.DynamicFilterNetwork()(torch.zeros(1, 1, 5, 4))
    with pytest.raises(ValueError, match="kernel_size is 2"):
        zoo.DynamicAlignmentUnits(2, 3, 2)
    with pytest.raises(ValueError, match="'l1', expected 'l2' or 'squash'"):
        zoo.DynamicAlignmentUnits(2, 3, norm="l1")
    with pytest.raises(ValueError, match="expected one of each a layer"):
        zoo.CoDANetwork(6, (4, 3), (2,), (3, 1), (1, 1))
    with pytest.raises(ValueError, match="a power of two between them"):
        zoo.HDRNet(24, 16)
    with pytest.raises(ValueError, match="6 features cannot be split into 4 heads"):
        zoo.MultiHeadAttention(6, 4)
    with pytest.raises(ValueError, match="20 to 16 channels cannot be tiled by units of 16 to 16"):
        zoo.StaticHyperConv2d(20, 16)
    with pytest.raises(ValueError, match="dim is 1"):
        zoo.FiLM(3, 2, dim=1)
