"""Published layers: one line with their sizes alone, the literature's counts of parameters, what sets each apart."""

import pytest
import torch
from torch import nn

from fastweights import zoo
from fastweights.structures import Gated, Mixture


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
]


@pytest.mark.parametrize(("build", "inputs", "output", "parameters"), LAYERS)
def test_one_line_with_sizes_alone(build, inputs, output, parameters):
    layer = build()
    y = layer(*(torch.randn(shape) for shape in inputs))
    assert y.shape == output
    assert count(layer) == parameters
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert any(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_squeeze_excitation_adds_to_resnet50_what_the_paper_says():
    blocks = {256: 3, 512: 4, 1024: 6, 2048: 3}  # output channels of ResNet-50's bottlenecks, and their number
    assert sum(blocks[c] * count(zoo.SqueezeExcitation(c)) for c in blocks) == 2_514_944


def test_squeeze_excitation_then_a_convolution_is_one_predicted_kernel():
    """Eq. 25, 26: scaling the channels and convolving is convolving with g_i W_ij."""
    layer, fixed = zoo.SqueezeExcitation(6, 2).double(), nn.Conv2d(6, 4, 3, padding=1, bias=False).double()
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64)
    gates = layer.code(x)
    effective = torch.einsum("bi,jiuv->bjiuv", gates, fixed.weight)
    expected = torch.stack([nn.functional.conv2d(image, w, padding=1) for image, w in zip(x, effective, strict=True)])
    torch.testing.assert_close(fixed(layer(x)), expected)


def test_gating_alone_holds_diagonal_weights_only():
    for layer in (zoo.Gating(4), zoo.SqueezeExcitation(4, 2), zoo.FiLM(4, 3)):
        assert isinstance(layer.structure, Gated)
        weight = layer.structure.materialize(torch.randn(2, 4))
        torch.testing.assert_close(weight, torch.diag_embed(weight.diagonal(dim1=-2, dim2=-1)))


def test_film_starts_near_the_identity_and_reads_scale_then_shift():
    layer = zoo.FiLM(3, 2)
    nn.init.zeros_(layer.predictor.weight)
    with torch.no_grad():
        layer.predictor.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]))
    y = layer(torch.ones(1, 3, 2, 2), torch.zeros(1, 2))
    assert y[0, :, 0, 0].tolist() == [11.0, 22.0, 33.0]


def test_cond_conv_of_one_constant_expert_is_its_convolution():
    layer = zoo.CondConv(3, 5, 3, experts=1, stride=2, predictor=_Ones(1))
    assert isinstance(layer.structure, Mixture)
    x = torch.randn(2, 3, 8, 9)
    expected = nn.functional.conv2d(x, layer.structure.templates[0].unflatten(-1, (3, 3, 3)), stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_basis_prediction_weights_are_averages_of_averages():
    """Softmax over the basis and over each kernel's taps: every predicted kernel sums to one."""
    layer, x = zoo.BasisPrediction(2, 3, 4), torch.randn(1, 2, 5, 6)
    weight = layer.weight(x)
    assert weight.shape == (1, 5, 6, 1, 18)
    torch.testing.assert_close(weight.sum(-1), torch.ones(1, 5, 6, 1))
    assert torch.linalg.matrix_rank(weight.flatten(0, 3).double(), rtol=1e-5) <= 4


class _Ones(nn.Module):
    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def forward(self, context):
        return context.new_ones(len(context), self.numbers)


def test_wrong_sizes_are_one_sentence():
    with pytest.raises(ValueError, match="8 channels reduced by 16 leave none"):
        zoo.SqueezeExcitation(8)
    with pytest.raises(ValueError, match="odd number of taps"):
        zoo.BasisPrediction(2, 4)
    with pytest.raises(ValueError, match="dim is -2"):
        zoo.Gating(3, dim=-2)
    with pytest.raises(ValueError, match="dim is 1"):
        zoo.FiLM(3, 2, dim=1)
