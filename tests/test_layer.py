"""Every case in every spelling, and what the one layer class promises."""

import copy
import pickle

import pytest
import torch
from cases import CASES
from equalities import assert_spellings_agree
from torch import nn

from fastweights import PredictedWeight, zoo
from fastweights.axes import Channels, Patches, Sequence
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
        pytest.skip("lazy and pair codes are differentiated through their predictors above")
    code = code.detach().requires_grad_()
    x = x[:1].requires_grad_()
    assert torch.autograd.gradcheck(layer.product, (code[:1], x), fast_mode=True)


@cases
def test_per_frame_contributions_sum_to_the_product(case):
    layer, x, context = case.make()
    code = layer.code(context)
    if not isinstance(layer.axes, Patches):
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
    if not isinstance(code, torch.Tensor):
        pytest.skip("tensor codes only")
    low = code.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer.product(low, x)
    assert y.dtype == torch.float32
    # The code's own rounding is the only error: the same numbers in float32 give the same result.
    torch.testing.assert_close(y, layer.product(low.float(), x), rtol=1e-5, atol=1e-5)


@cases
def test_state_dict_deepcopy_and_pickle(case):
    layer, x, context = case.make()
    y = layer(x, context)
    other = case.build().double()
    other.load_state_dict(layer.state_dict())
    if not any(isinstance(m, nn.Module) and not list(m.state_dict()) for m in [layer.structure]):
        torch.testing.assert_close(other(x, context), y)
    torch.testing.assert_close(copy.deepcopy(layer)(x, context), y)
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x, context), y)


def test_context_defaults_to_x():
    layer, x = zoo.HyperLinear(5, 3), torch.randn(4, 5)
    torch.testing.assert_close(layer(x), layer(x, x))


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
    with pytest.raises(ValueError, match="more axes than x"):
        layer.product(torch.zeros(4, 2, 2, 15), torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"expected \(B, k, 6, 7\)"):
        zoo.KernelPrediction(2, 3).product(torch.zeros(1, 18, 5, 7), torch.zeros(1, 2, 6, 7))
    with pytest.raises(ValueError, match="fixed output size"):
        PredictedWeight(Outer(2), Sequence(), nn.Identity(), affine=True)
    with pytest.raises(ValueError, match="do not agree"):
        Gated(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="negative"):
        Channels(dim=1)
