"""Planted mistakes: each must turn the equality with a loop over contexts red, or that equality proves nothing."""

from unittest import mock

import pytest
import torch
from network_cases import HEADS, PRIMARIES, assert_equal_with_gradients, build, loop

from fastweights import head_modules, network_calls, network_products, network_routes

unformed, grouped, norm = network_products._linear_unformed, network_products._grouped, network_routes._norm
formed = head_modules.Joined.formed
add_bias, dense, by_vmap = network_products.add_bias, network_products.PredictedTensor.dense, network_calls.by_vmap


def of_the_next_context(structure, code, x):
    return unformed(structure, code.roll(1, 0), x)


def without_base(self):
    return dense(self) - (0 if self.base is None else self.base)


def formed_without_base(self, features, values):
    return [w - (0 if values is None else v) for w, v in zip(formed(self, features, values), values, strict=True)]


def formed_transposed(self, features, values):
    tensors = formed(self, features, values)
    return [w.mT if w.ndim == 3 and w.shape[1] == w.shape[2] else w for w in tensors]


def contexts_and_samples_swapped(module, weight, x):
    b = weight.shape[0]
    return grouped(module, weight, x.unflatten(0, (-1, b)).transpose(0, 1).flatten(0, 1))


def without_gain(module, weight, bias, x, contexts):
    return norm(module, None, bias, x, contexts)


def bias_of_the_first_context(y, bias, contexts):
    return add_bias(y, bias[:1].expand_as(bias), contexts)


def other_order(self, features):
    sizes = self.sizes[::-1]
    return list(features.split(sizes, -1))[::-1]


def weights_shifted(primary, weights, inputs):
    return by_vmap(primary, {name: weight.roll(1, 0) for name, weight in weights.items()}, inputs)


def transposed(self):
    weight = dense(self)
    return weight.mT if weight.ndim == 3 and weight.shape[1] == weight.shape[2] else weight


@pytest.mark.parametrize(
    ("primary", "head", "route", "target", "name", "mutant"),
    [
        ("mlp", "gated", "reassociate", network_products, "_linear_unformed", of_the_next_context),
        ("mlp", "linear delta", "materialise", head_modules.Joined, "formed", formed_without_base),
        ("mlp", "gated delta", "materialise", network_products.PredictedTensor, "dense", without_base),
        ("mlp", "linear", "reassociate", network_products, "_linear_unformed", of_the_next_context),
        ("mlp", "none", "auto", head_modules.Given, "codes", other_order),
        ("conv_net", "linear", "materialise", network_products, "_grouped", contexts_and_samples_swapped),
        ("conv_net", "linear", "materialise", network_products, "add_bias", bias_of_the_first_context),
        ("normed_mlp", "linear", "materialise", network_routes, "_norm", without_gain),
        ("residual", "linear", "vmap", network_calls, "by_vmap", weights_shifted),
        ("residual", "linear", "loop", head_modules.Joined, "formed", formed_transposed),
        ("residual", "chunked", "loop", network_products.PredictedTensor, "dense", transposed),
    ],
)
def test_a_planted_mistake_turns_the_equality_red(primary, head, route, target, name, mutant):
    make, size = PRIMARIES[primary]
    setting, delta = HEADS[head]
    original = make().double()
    hyper = build(original, setting, delta, route=route)
    x, context = torch.randn(3, 2, *size, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    expected = loop(hyper, setting, delta, original, x, context, grouped=True)
    inputs = list(hyper.parameters())
    assert_equal_with_gradients(expected, hyper(x, context, grouped=True), inputs)
    with mock.patch.object(target, name, mutant), pytest.raises((AssertionError, RuntimeError)):
        assert_equal_with_gradients(expected, hyper(x, context, grouped=True), inputs)
