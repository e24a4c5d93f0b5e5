"""Planted mistakes: each must turn an equality of `equalities` red, or the equalities prove nothing."""

from unittest import mock

import pytest
import torch
from cases import CASES
from equalities import assert_spellings_agree

from fastweights import PredictedWeight
from fastweights.axes import Patches
from fastweights.ops import table
from fastweights.structures import Direct, Gated, Mixture

BY_NAME = {case.name: case for case in CASES}
pad, split_bias, local_conv = Patches.pad, PredictedWeight._split_bias, table.local_conv
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
    ],
)
def test_a_planted_mistake_turns_an_equality_red(case, target, name, mutant):
    with mock.patch.object(target, name, mutant), pytest.raises(AssertionError):
        assert_spellings_agree(BY_NAME[case])
