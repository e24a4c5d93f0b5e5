"""Bad input of every row: a clear error, or what is right for an empty batch and a sample that is not a number."""

import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from torch import nn
from torch.utils._pytree import tree_flatten
from zoo_cells import CELLS

from fastweights import convert, zoo
from fastweights.axes import Channels, Patches, Sequence
from fastweights.codes import Separable, Sliced, Upsampled
from fastweights.structures import Direct, Gated, Mixture, Outer

# As a user runs it, without the shape checks of the tests.
pytestmark = pytest.mark.usefixtures("unchecked_shapes")

WITH_CONTEXT = [cell for cell in CELLS if len(cell.inputs) > 1]
# What a cell's first input has its features on, where that is not axis 1.
FEATURES_LAST = ("SpatialGatingUnit", "ModulatedSiren", "MultiHeadAttention", "AdditiveAttention")


def named(case):
    return case.name


def refused(call):
    """A line of ours that says what was expected, before any layer of torch sees the input."""
    with pytest.raises(ValueError, match=r"expected|must"):
        call()


def axis(layer):
    return layer.axes.dim if isinstance(layer.axes, Channels) else -3 if isinstance(layer.axes, Patches) else -2


@pytest.mark.parametrize("case", CASES, ids=named)
def test_another_number_of_channels_or_positions(case):
    layer, x, context = case.make()
    wide = torch.cat([x, x.narrow(axis(layer), 0, 1)], axis(layer))
    refused(lambda: layer(wide, context))
    if case.context is None and not isinstance(layer.axes, Sequence):  # any number of positions is one
        with pytest.raises(ValueError, match=r"x has shape .*, expected"):
            layer(wide)
    with pytest.raises(ValueError, match=r"x has shape .*, expected"):
        layer(x[0, 0] if x.ndim == 3 and not isinstance(layer.axes, Channels) else x.new_zeros(()), context)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_context_of_another_batch_size(case):
    """Also where the sizes happen to broadcast: nothing is taken for something else."""
    layer, x, context = case.make()
    more = torch.cat([context, context[:1]])
    refused(lambda: layer(x, more))


@pytest.mark.parametrize("case", CASES, ids=named)
def test_an_empty_batch(case):
    layer, x, context = case.make()
    expected = layer(x, context)
    none = x[:0].requires_grad_()
    y = layer(none, context[:0]) if case.context else layer(none)
    assert y.shape == (0, *expected.shape[1:])
    assert y.dtype == expected.dtype
    y.sum().backward()
    assert none.grad.shape == none.shape
    for parameter in layer.parameters():
        assert parameter.grad is None or (parameter.grad == 0).all()


def spoiled(code):
    """The code with one number of its first sample not a number."""
    if isinstance(code, tuple):
        return spoiled(code[0]), code[1]
    if isinstance(code, Upsampled):
        return Upsampled(spoiled(code.code), code.factor, code.size, code.rule)
    if isinstance(code, Separable):
        return Separable(spoiled(code.vertical), code.horizontal, code.frames)
    if isinstance(code, Sliced):
        return Sliced(spoiled(code.grid), code.guide)
    code = code.clone()
    code[(0,) * code.ndim] = torch.nan
    return code


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_code_that_is_not_a_number_shows_and_stays_in_its_sample(case):
    layer, x, context = case.make()
    code = layer.code(context)
    y, expected = layer.product(spoiled(code), x), layer.product(code, x)
    assert y[0].isnan().any()
    torch.testing.assert_close(y[1:], expected[1:])


@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_cells_with_another_number_of_channels(cell):
    module, (x, *others) = cell.make()
    dim = -1 if cell.name in FEATURES_LAST else 1
    refused(lambda: module(torch.cat([x, x.narrow(dim, 0, 1)], dim), *others))


@pytest.mark.parametrize("cell", WITH_CONTEXT, ids=named)
def test_cells_with_a_context_of_another_batch_size(cell):
    module, (x, context, *others) = cell.make()
    refused(lambda: module(x, torch.cat([context, context[:1]]), *others))


@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_cells_with_an_empty_batch(cell):
    module, inputs = cell.make()
    expected = tree_flatten(module(*inputs))[0]
    found = tree_flatten(module(*(x[:0] for x in inputs)))[0]
    assert [y.shape for y in found] == [(0, *y.shape[1:]) for y in expected]


ODD = {
    "KernelPrediction": lambda k: zoo.KernelPrediction(2, k),
    "GatedKernelPrediction, second": lambda k: zoo.GatedKernelPrediction(2, 3, 4, out_kernel_size=k),
    "BasisPrediction": lambda k: zoo.BasisPrediction(2, k, 4),
    "DynamicConvolution2015": lambda k: zoo.DynamicConvolution2015(2, 3, k),
    "SeparableConvolution": lambda k: zoo.SeparableConvolution(2, k),
    "DynamicFilter": zoo.DynamicFilter,
    "DynamicFilterNetwork": zoo.DynamicFilterNetwork,
    "DynamicAlignmentUnits": lambda k: zoo.DynamicAlignmentUnits(2, 3, k, 2),
    "kernel_head": lambda k: convert.kernel_head(nn.Conv2d(3, 2 * k**2 or 1, 1), 2, k),
}


@pytest.mark.parametrize("layer", ODD)
@pytest.mark.parametrize("kernel_size", [0, 2, 4])
def test_an_even_kernel_where_a_centre_is_needed(layer, kernel_size):
    with pytest.raises(ValueError, match=r"kernel"):
        ODD[layer](kernel_size)


@pytest.mark.parametrize("kernel_size", [2, 4])
def test_an_even_kernel_of_one_weight_an_image_is_a_convolution(kernel_size):
    """Without a centre the result is a pixel smaller, as in torch."""
    layer, x = zoo.CondConv(2, 3, kernel_size, experts=2).double(), torch.randn(2, 2, 6, 7, dtype=torch.float64)
    kernels = layer.weight(x)[:, 0, 0].unflatten(-1, (2, kernel_size, kernel_size))
    each = [F.conv2d(one[None], k, padding=(kernel_size - 1) // 2) for one, k in zip(x, kernels, strict=True)]
    torch.testing.assert_close(layer(x), torch.cat(each))


RANKS = {
    "LinearHypernetwork": lambda r: zoo.LinearHypernetwork(5, 3, r),
    "FactorizationMachine": lambda r: zoo.FactorizationMachine(5, rank=r),
    "MatrixFactorization": lambda r: zoo.MatrixFactorization(2, 3, r),
    "BasisPrediction": lambda r: zoo.BasisPrediction(2, 3, r),
    "GatedDoubleLayer": lambda r: zoo.GatedDoubleLayer(4, 3, r),
    "GatedKernelPrediction": lambda r: zoo.GatedKernelPrediction(2, 3, r),
    "DecomposableAttention": lambda r: zoo.DecomposableAttention(4, r),
    "LinearAttention": lambda r: zoo.LinearAttention(4, r),
    "FastWeightMemory": lambda r: zoo.FastWeightMemory(4, r),
    "MultiHeadAttention": lambda r: zoo.MultiHeadAttention(6, r),
    "DynamicAlignmentUnits": lambda r: zoo.DynamicAlignmentUnits(2, 3, 3, r),
    "CondConv": lambda r: zoo.CondConv(2, 3, 3, r),
    "StaticHyperConv2d": lambda r: zoo.StaticHyperConv2d(16, 16, head=zoo.HyperHead(16, 16, 3, embedding=r)),
    "HyperLSTMCell": lambda r: zoo.HyperLSTMCell(3, 4, 5, r),
    "Outer": Outer,
    "Direct": lambda r: Direct(r, 2),
    "to_gated of Mixture": lambda r: convert.to_gated(Mixture(torch.randn(3, 2, 4)), rank=r),
    "to_gated of Direct": lambda r: convert.to_gated(Direct(3, 2), rank=r),
    "to_gated of Direct by codes": lambda r: convert.to_gated(Direct(3, 2), rank=r, codes=torch.randn(5, 6)),
    "to_gated of Gated": lambda r: convert.to_gated(Gated(torch.ones(2, 3), None), rank=r),
    "kernel_head": lambda r: convert.kernel_head(nn.Conv2d(3, 18, 1), 2, 3, rank=r),
}


@pytest.mark.parametrize("what", RANKS)
@pytest.mark.parametrize("rank", [0, -1])
def test_no_rank_at_all(what, rank):
    with pytest.raises(ValueError, match=rf"{rank}\b"):
        RANKS[what](rank)


def test_a_rank_larger_than_possible_is_the_largest():
    """A conversion keeps what there is; heads have to be a part of the features."""
    source = Mixture(torch.randn(3, 2, 4, dtype=torch.float64))
    exact = convert.to_gated(source)
    for rank in (exact.structure.code_features, 1000):
        conversion = convert.to_gated(source, rank=rank)
        assert conversion.structure.code_features == exact.structure.code_features
        assert conversion.bound.slope < 1e-12
    assert convert.to_gated(Direct(3, 2), rank=1000).structure.code_features == 6
    assert convert.kernel_head(nn.Conv2d(3, 18, 1), 2, 3, rank=1000).gates.out_channels == 4
    with pytest.raises(ValueError, match="cannot be split into 7 heads"):
        zoo.MultiHeadAttention(6, 7)
