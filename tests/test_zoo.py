"""Zoo layers: one line with sizes alone, counts of parameters, and defaults."""

import pytest
import torch

from fastweights import zoo
from fastweights.structures import Direct, Gated

LAYERS = [
    (lambda: zoo.HyperLinear(5, 3), (4, 5), (4, 3), 5 * 128 + 128 + 128 * 15 + 15),
    (lambda: zoo.HyperLinear(5, 3, bias=True), (4, 5), (4, 3), 5 * 128 + 128 + 128 * 18 + 18),
    (lambda: zoo.GatedDoubleLayer(5, 3), (4, 5), (4, 3), 5 * 128 + 128 + 128 * 15 + 15 + 15 * 8),
    (lambda: zoo.GatedDoubleLayer(5, 3, gates=4), (4, 5), (4, 3), 5 * 128 + 128 + 128 * 4 + 4 + 4 * 8),
    (lambda: zoo.KernelPrediction(2, 3), (1, 2, 5, 6), (1, 1, 5, 6), 2 * 9 * 128 + 128 + 128 * 18 + 18),
    (lambda: zoo.KernelPrediction(2, 3, 4), (1, 2, 5, 6), (1, 4, 5, 6), 2 * 9 * 128 + 128 + 128 * 72 + 72),
    (
        lambda: zoo.GatedKernelPrediction(2, 3, 7),
        (1, 2, 5, 6),
        (1, 1, 5, 6),
        2 * 9 * 128 + 128 + 128 * 7 + 7 + 7 * 9 * (2 + 1),
    ),
    (lambda: zoo.FactorizationMachine(5, 3), (4, 5), (4, 3), 3 * (1 + 5 + 5 * 8)),
    (lambda: zoo.LinearHypernetwork(5, 3), (4, 5), (4, 3), 3 * (1 + 5 + 5 * 5)),
    (lambda: zoo.LinearHypernetwork(5, 3, rank=2), (4, 5), (4, 3), 3 * (1 + 5 + 2 * 5 * 2)),
    (lambda: zoo.MultiplicativeInteraction(5, 3), (4, 5), (4, 3), 3 * (1 + 5 + 5 + 5 * 5)),
]


@pytest.mark.parametrize(("build", "x", "y", "parameters"), LAYERS)
def test_one_line_with_sizes_alone(build, x, y, parameters):
    layer = build()
    out = layer(torch.randn(x))
    assert out.shape == y
    assert sum(p.numel() for p in layer.parameters()) == parameters
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize(("build", "x", "y", "parameters"), LAYERS)
def test_default_initialisation_keeps_the_scale(build, x, y, parameters):
    torch.manual_seed(0)
    ratio = torch.stack([build()(torch.randn(64, *x[1:])).square().mean() for _ in range(20)]).mean()
    assert 1e-3 < ratio < 10


def test_theorem_3_1_gives_the_default_number_of_gates():
    assert zoo.GatedDoubleLayer(5, 3).structure.code_features == zoo.HyperLinear(5, 3).structure.code_features == 15


def test_decompositions():
    assert isinstance(zoo.KernelPrediction(8, 5).structure, Direct)
    assert isinstance(zoo.GatedKernelPrediction(8, 5).structure, Gated)
    assert zoo.GatedKernelPrediction(8, 5).axes.out_kernel_size == 5  # f x f on both sides
