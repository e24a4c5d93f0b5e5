"""Every case in every spelling, and what the one layer class promises."""

import copy
import dataclasses
import pickle

import pytest
import torch
from cases import CASES
from equalities import assert_spellings_agree, by_plain, by_table
from torch import nn

from fastweights import PredictedWeight, zoo
from fastweights.axes import Channels, Patches, Sequence
from fastweights.codes import Separable
from fastweights.ops import table
from fastweights.structures import Direct, Gated, Outer

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@cases
def test_oracle_dense_weight_plain_way_and_fast_way_agree(case):
    assert_spellings_agree(case)


def test_every_row_of_the_table_serves_a_case():
    served = set()
    for case in CASES:
        layer, x, context = case.make()
        served.add(layer.operation(layer.code(context), x))
    assert served == {row.name for row in table.TABLE} | {"plain"}


@cases
def test_gradients_against_finite_differences(case):
    layer, x, context = case.make()
    code = layer.code(context)
    if not isinstance(code, torch.Tensor):
        return  # lazy and pair codes are differentiated through their predictors above
    code = code.detach().requires_grad_()
    x = x[:1].requires_grad_()
    assert torch.autograd.gradcheck(layer.product, (code[:1], x), fast_mode=True)


@cases
def test_per_frame_contributions_sum_to_the_product(case):
    layer, x, context = case.make()
    code = layer.code(context)
    if not isinstance(layer.axes, Patches) or layer.bias_features:
        with pytest.raises(ValueError, match="per_frame"):
            layer.product(code, x, per_frame=True)
        return
    frames = x.shape[-3]
    fast = layer.product(code, x, per_frame=True)
    plain = table.plain(layer.structure, layer.axes, code, x, per_frame=True)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(fast.sum(-4), layer.product(code, x))
    for t in range(frames):
        alone = torch.zeros_like(x)
        alone[..., t, :, :] = x[..., t, :, :]
        torch.testing.assert_close(fast.select(-4, t), layer.product(code, alone))


@cases
def test_low_precision_codes_accumulate_in_the_precision_of_x(case):
    layer, x, context = case.make()
    layer, x = layer.float(), x.float()
    code = layer.code(context.float())

    def cast(code, dtype):
        if isinstance(code, tuple):
            return tuple(part.to(dtype) for part in code)
        return code.to(dtype) if isinstance(code, torch.Tensor) else _cast_lazy(code, dtype)

    low = cast(code, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer.product(low, x)
    assert y.dtype == torch.float32
    if isinstance(code, Separable):
        return  # the outer product of two low-precision codes is itself rounded
    # The code's own rounding is the only error: the same numbers in float32 give the same result.
    torch.testing.assert_close(y, layer.product(cast(low, torch.float32), x), rtol=1e-5, atol=1e-5)


@cases
def test_bfloat16_is_at_most_twice_as_far_off_as_plain_pytorch(case):
    layer, x, context = case.make()
    expected = layer(x, context)
    low, numbers = copy.deepcopy(layer).bfloat16(), (x.bfloat16(), context.bfloat16())
    errors = [(way(low, *numbers).double() - expected).norm() for way in (by_table, by_plain)]
    assert errors[0] <= 2 * errors[1]
    assert errors[1] < 0.1 * expected.norm()


def _cast_lazy(code, dtype):
    changed = {f.name: getattr(code, f.name) for f in dataclasses.fields(code)}
    return type(code)(**{n: v.to(dtype) if isinstance(v, torch.Tensor) else v for n, v in changed.items()})


@cases
def test_state_dict_deepcopy_and_pickle(case):
    layer, x, context = case.make()
    y = layer(x, context)
    other = case.build().double()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x, context), y)
    torch.testing.assert_close(copy.deepcopy(layer)(x, context), y)
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x, context), y)


def test_context_defaults_to_x():
    layer, x = zoo.HyperLinear(5, 3), torch.randn(4, 5)
    torch.testing.assert_close(layer(x), layer(x, x))


def test_a_predictor_may_share_the_layers_before_it():
    trunk, layer = nn.Linear(4, 5), zoo.HyperLinear(5, 3)
    x = torch.randn(6, 4)
    hidden = trunk(x).relu()
    y = layer(hidden)  # the context is the output of the layer before, not the network's input
    torch.testing.assert_close(y, torch.einsum("bji,bi->bj", layer.predictor(hidden).unflatten(-1, (3, 5)), hidden))
    # The gradient of what both share comes by the weight and by its input.
    both, by_weight, by_input = (
        torch.autograd.grad(layer(*pair).sum(), trunk.weight, retain_graph=True)[0]
        for pair in ((hidden, hidden), (hidden.detach(), hidden), (hidden, hidden.detach()))
    )
    torch.testing.assert_close(both, by_weight + by_input)
    assert min(by_weight.norm(), by_input.norm()) > 1e-3


def test_no_weight_is_shared_over_a_batch():
    layer, x = zoo.HyperLinear(5, 3), torch.randn(4, 5)
    weights = layer.weight(x)
    assert weights.shape == (4, 3, 5)  # a fixed layer has (3, 5)
    for one in range(4):
        alone = x @ weights[one].T  # its weight for all
        torch.testing.assert_close(layer(x)[one], alone[one])
        assert (layer(x) - alone).abs().amax(1).gt(1e-3).tolist() == [other != one for other in range(4)]


def test_unbatched_x():
    layer, x = zoo.HyperLinear(5, 3), torch.randn(5)
    torch.testing.assert_close(layer(x), layer(x[None])[0])


def test_a_predicted_bias_on_pixels():
    layer = PredictedWeight(Direct(18, 2), Patches(3), nn.Conv2d(2, 38, 1), affine=True)
    x = torch.randn(2, 2, 5, 6)
    code = layer.code(x)
    without = PredictedWeight(layer.structure, layer.axes, nn.Identity()).product(code[:, :36], x)
    torch.testing.assert_close(layer(x), without + code[:, 36:])
    shared = code[..., :1, :1]
    torch.testing.assert_close(
        layer.product(shared, x), layer.product(shared.expand(-1, -1, 5, 6), x), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match="belongs to no frame"):
        layer.product(code, x, per_frame=True)


def test_print_shows_the_decomposition():
    text = str(zoo.GatedKernelPrediction(8, 5, 64))
    assert "Patches(kernel_size=5" in text
    assert "Gated(in=200, out=25, code=64)" in text


def test_bad_sizes_name_the_shapes_and_what_was_expected():
    layer = zoo.HyperLinear(5, 3)
    with pytest.raises(ValueError, match=r"the code has shape \(4, 14\), expected 15"):
        layer.product(torch.zeros(4, 14), torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"x has shape \(4, 1, 6\), expected 5|x has shape \(4, 6\), expected 5"):
        layer.product(torch.zeros(4, 15), torch.zeros(4, 6))
    with pytest.raises(ValueError, match="must be the first axes of x"):
        layer.product(torch.zeros(4, 2, 2, 15), torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"expected \(1, k, 6, 7\)"):
        zoo.KernelPrediction(2, 3).product(torch.zeros(1, 18, 5, 7), torch.zeros(1, 2, 6, 7))
    with pytest.raises(ValueError, match="fixed output size"):
        PredictedWeight(Outer(2), Sequence(), nn.Identity(), affine=True)
    with pytest.raises(ValueError, match="do not agree"):
        Gated(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="negative"):
        Channels(dim=1)


def test_a_first_mistake_with_patches_is_one_sentence(unchecked_shapes):
    gated, kernels = zoo.GatedKernelPrediction(2, 3, 6), zoo.KernelPrediction(2, 3)
    x = torch.zeros(2, 2, 5, 7)
    for layer, k in ((gated, 6), (kernels, 18)):
        for bad in ((2, 1, 5, 7), (2, k, 5, 1), (1, k, 5, 7), (2, k), (k, 5, 7), (2, k + 1, 5, 7)):
            with pytest.raises(ValueError, match="the code has shape"):
                layer.product(torch.zeros(bad), x)
        for bad in ((2, 3, 5, 7), (2, 5, 7)):
            with pytest.raises(ValueError, match=r"x has shape .* expected \(B, 2, H, W\)"):
                layer.product(torch.zeros(2, k, 5, 7), torch.zeros(bad))
    with pytest.raises(ValueError, match="odd number of taps"):
        zoo.KernelPrediction(2, 4)
    with pytest.raises(ValueError, match="needs out_kernel_size=1"):
        PredictedWeight(Direct(18, 9), Patches(3, out_kernel_size=3), nn.Identity(), affine=True)
    with pytest.raises(TypeError, match="floating-point"):
        zoo.HyperLinear(5, 3).product(torch.zeros(4, 15), torch.zeros(4, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must be the first axes of x, which are \(4,\)"):
        zoo.HyperLinear(5, 3).product(torch.zeros(3, 15), torch.zeros(4, 5))
    with pytest.raises(TypeError, match="a pair of codes"):
        PredictedWeight(Outer(2), Sequence(), nn.Identity()).product(torch.zeros(1, 4), torch.zeros(1, 2, 3))
    with pytest.raises(TypeError, match="one tensor"):
        Direct(1, 1).materialize((torch.zeros(1), torch.zeros(1)))


def test_an_empty_batch():
    layer = zoo.HyperLinear(5, 3, context_features=4)
    assert layer(torch.zeros(0, 10, 5), torch.zeros(0, 4)).shape == (0, 10, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Channels(), Direct(2, 3), nn.Linear(4, 6)), "structure is Channels, expected a Structure"),
        ((Direct, Channels(), nn.Linear(4, 6)), "structure is the class Direct, expected a Structure"),
        ((Direct(2, 3), Channels, nn.Linear(4, 6)), "axes is the class Channels, expected Axes"),
        ((Direct(2, 3), Channels(), None), "predictor is NoneType, expected an nn.Module"),
        ((Direct(2, 3), Channels(), torch.relu), "predictor is .*, expected an nn.Module"),
    ],
)
def test_arguments_of_other_types_are_named(arguments, message, unchecked_shapes):
    with pytest.raises(TypeError, match=f"PredictedWeight: {message}"):
        PredictedWeight(*arguments)


def test_a_code_that_is_no_code_is_named(unchecked_shapes):
    layer = PredictedWeight(Outer(1), Sequence(), nn.Identity())
    with pytest.raises(TypeError, match=r"PredictedWeight: the code is list, expected a tensor, a lazy code or a pair"):
        layer(torch.ones(2, 3, 4), [torch.ones(2, 3), torch.ones(2, 3)])
