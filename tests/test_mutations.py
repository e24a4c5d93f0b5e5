"""Planted mistakes: each must turn an equality of `equalities` red, or the equalities prove nothing."""

from unittest import mock

import pytest
import torch
from cases import CASES
from equalities import assert_parts_agree, assert_spellings_agree
from zoo_cells import CELLS

from fastweights import PredictedWeight, zoo
from fastweights.axes import Channels, Patches
from fastweights.ops import table
from fastweights.structures import Direct, Gated, Mixture, Outer
from fastweights.zoo.additive_attention import AdditiveScores
from fastweights.zoo.dynamic_alignment import BoundedNorm
from fastweights.zoo.hyper_lstm import LSTMUpdate, RowScale
from fastweights.zoo.spatial_gating_unit import TokenMixing
from fastweights.zoo.static_hypernetwork import TiledKernel

BY_NAME = {case.name: case for case in CASES}
CELLS_BY_NAME = {cell.name: cell for cell in CELLS}
pad, split_bias, local_conv = Patches.pad, PredictedWeight._split_bias, table.local_conv
align, conv2d, norm, update = Channels.align, table.F.conv2d, BoundedNorm.forward, LSTMUpdate.forward
shared_conv, separable_conv = table.shared_conv, table.separable_conv
attention, grid_sample = torch.nn.functional.scaled_dot_product_attention, torch.nn.functional.grid_sample


def transposed_materialize(self, code):
    return code.unflatten(-1, (self.in_features, self.out_features)).mT


def transposed_forward(self, code, x):
    return torch.einsum("...ji,...i->...j", transposed_materialize(self, code), x)


def shifted_pad(self, x):
    return pad(self, x.roll(1, -1))


def shifted_local_conv(frames, kernels, **options):
    return local_conv(frames, kernels.roll(1, 3), **options)


def gates_of_other_maps(frames, kernels, **options):
    return local_conv(frames, kernels.roll(1, 1), **options)


def gates_squared(self, code, x):
    return code.square() * x


def swapped_rule(frames, kernels, **options):
    other = {"half_pixel": "legacy", "legacy": "half_pixel"}
    return local_conv(frames, kernels, **options | {"rule": other[options["rule"]]})


def other_border(frames, kernels, **options):
    other = {"zeros": "replicate", "replicate": "zeros"}
    return local_conv(frames, kernels, **options | {"padding": other[options["padding"]]})


def without_bias(self, code):
    return split_bias(self, code)[0], None


def mixture_without_base(self, code, x):
    return torch.einsum("...k,kji,...i->...j", code, self.templates, x)


def flipped_transposed_convolution(x, weight, **options):
    return torch.nn.grad.conv2d_input(
        (x.shape[0], weight.shape[1], *x.shape[-2:]), weight.flip(-1, -2), x, padding=options["padding"]
    )


def gates_on_the_wrong_side(self, code, x):
    return (x * code[..., : x.shape[-1]]) @ (self.u @ self.v).mT


def shifted_shared_conv(x, weight, **options):
    return shared_conv(x.roll(1, -1), weight, **options)


def crossed_separable_conv(frames, vertical, horizontal):
    return separable_conv(frames, horizontal, vertical)


def attention_scaled_twice(p, q, x, scale):
    return attention(p, q, x)  # torch's own scale, on top of the layer's


def slice_with_aligned_corners(volume, where, **options):
    return grid_sample(volume, where, **options | {"align_corners": True})


def first_sample_for_all(self, code, x):
    return align(self, code[:1].expand_as(code), x)


def mixture_of_squares(self, code):
    return torch.tensordot(code.square(), self.templates, dims=1) + self.base


def outer_of_sums(self, code):
    p, q = self._factors(code)
    return (p.unsqueeze(-2) + q.unsqueeze(-3)).sum(-1)


def outer_without_its_function(self, code, x):
    p, q = self._factors(code)
    return torch.einsum("...jr,...ir,...i->...j", p, q, x)


def gate_of_the_square(self, x):
    return x[:, : self.channels].square() * x[:, self.channels :]


def halves_exchanged(self, x):
    v, u = x.chunk(2, dim=-1)
    return self.gate(u, v)


def tokens_without_norm(self, v):
    return self.proj(v.mT).mT


def scores_without_tanh(self, context):
    hidden = self.queries(context[0]).unsqueeze(-2) + self.keys(context[1]).unsqueeze(-3)
    return self.score(hidden).squeeze(-1).softmax(-1).flatten(-2)


def norm_of_the_whole_code(self, numbers):
    return norm(self, numbers) / numbers.shape[1]


def gates_in_torchs_order(self, numbers, c):
    write, candidate, forget, read = numbers.chunk(4, dim=-1)
    return update(self, torch.cat([write, forget, candidate, read], dim=-1), c)


def rows_of_other_gates(self, weight, z):
    return torch.einsum("gne,...ge->...gn", weight.roll(1, 0), z.unflatten(-1, (4, self.embedding))).flatten(-2)


def tiles_exchanged(self):
    units = self.head(self.embeddings)
    return units.permute(0, 2, 1, 3, 4, 5).flip(0).flatten(0, 1).flatten(1, 2)


def convolution_without_flip(x, weight, *rest, **options):
    return conv2d(x, weight.flip(-1, -2), *rest, **options)


@pytest.mark.parametrize(
    ("case", "target", "name", "mutant"),
    [
        ("HyperLinear", Direct, "materialize", transposed_materialize),
        ("HyperLinear", Direct, "forward", transposed_forward),
        ("HyperLinear bias", PredictedWeight, "_split_bias", without_bias),
        ("Mixture", Mixture, "forward", mixture_without_base),
        ("GatedDoubleLayer", Gated, "forward", gates_on_the_wrong_side),
        ("KernelPrediction", Patches, "pad", shifted_pad),
        ("KernelPrediction", table, "local_conv", shifted_local_conv),
        ("KernelPrediction half", table, "local_conv", swapped_rule),
        ("KernelPrediction half, legacy", table, "local_conv", other_border),
        ("GatedKernelPrediction colour", Patches, "pad", shifted_pad),
        ("GatedKernelPrediction", table.F, "conv_transpose2d", flipped_transposed_convolution),
        ("CondConv", table, "shared_conv", shifted_shared_conv),
        ("CondConv stride and biases", PredictedWeight, "_split_bias", without_bias),
        ("BasisPrediction colour", table, "shared_conv", shifted_shared_conv),
        ("SeparableConvolution", table, "separable_conv", crossed_separable_conv),
        ("DecomposableAttention", table.F, "scaled_dot_product_attention", attention_scaled_twice),
        ("HDRNet", torch.nn.functional, "grid_sample", slice_with_aligned_corners),
        ("FiLM", PredictedWeight, "_split_bias", without_bias),
        ("Mixture", Mixture, "materialize", mixture_of_squares),
        ("linear attention", Outer, "materialize", outer_of_sums),
        ("attention", Outer, "forward", outer_without_its_function),
        ("KernelPrediction of features", table, "local_conv", shifted_local_conv),
        ("GatedKernelPrediction one side, half", table, "local_conv", gates_of_other_maps),
        ("GatedKernelPrediction", table.F, "conv2d", convolution_without_flip),
        ("DynamicConvolution2015 separable", table, "shared_conv", shifted_shared_conv),
        ("DynamicAlignmentUnits", BoundedNorm, "forward", norm_of_the_whole_code),
    ],
)
def test_a_planted_mistake_turns_an_equality_red(case, target, name, mutant):
    with mock.patch.object(target, name, mutant), pytest.raises(AssertionError):
        assert_spellings_agree(BY_NAME[case])


@pytest.mark.parametrize(
    ("cell", "target", "name", "mutant"),
    [
        ("SimpleGate", zoo.SimpleGate, "forward", gate_of_the_square),
        ("NAFBlock", zoo.SimpleGate, "forward", gate_of_the_square),
        ("SpatialGatingUnit", zoo.SpatialGatingUnit, "forward", halves_exchanged),
        ("SpatialGatingUnit", TokenMixing, "forward", tokens_without_norm),
        ("ModulatedSiren", Gated, "forward", gates_squared),
        ("DynamicFilterNetwork", table, "local_conv", shifted_local_conv),
        ("CoDANetwork", Patches, "pad", shifted_pad),
        ("MultiHeadAttention", table.F, "scaled_dot_product_attention", attention_scaled_twice),
        ("AdditiveAttention", AdditiveScores, "forward", scores_without_tanh),
        ("HyperLSTMCell", LSTMUpdate, "forward", gates_in_torchs_order),
        ("HyperLSTMCell", RowScale, "_rows", rows_of_other_gates),
        ("HyperLSTMCell", PredictedWeight, "_split_bias", without_bias),
        ("FastWeightsRNNCell", Direct, "forward", transposed_forward),
        ("FastWeightsRNNCell", Channels, "align", first_sample_for_all),
        ("StaticHyperConv2d", TiledKernel, "kernel", tiles_exchanged),
    ],
)
def test_a_planted_mistake_turns_the_equality_of_a_cell_red(cell, target, name, mutant):
    with mock.patch.object(target, name, mutant), pytest.raises(AssertionError):
        assert_parts_agree(CELLS_BY_NAME[cell])


def test_mistakes_are_planted_in_every_cell_and_behind_every_operation():
    """What no mistake was planted in might be a row that cannot turn red."""
    cells, cases = (
        _planted(test)
        for test in (
            test_a_planted_mistake_turns_the_equality_of_a_cell_red,
            test_a_planted_mistake_turns_an_equality_red,
        )
    )
    assert cells == set(CELLS_BY_NAME)
    served = set()
    for name in cases:
        layer, x, context = BY_NAME[name].make()
        served.add(layer.operation(layer.code(context), x))
    assert served == {row.name for row in table.TABLE} | {"plain"}


def _planted(test):
    return {row[0] for mark in test.pytestmark for row in mark.args[1]}
