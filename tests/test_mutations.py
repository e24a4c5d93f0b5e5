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
    ],
)
def test_a_planted_mistake_turns_an_equality_red(case, target, name, mutant):
    with mock.patch.object(target, name, mutant), pytest.raises(AssertionError):
        assert_spellings_agree(BY_NAME[case])
