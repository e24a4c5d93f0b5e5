"""Published layers as one another, exactly: values and gradients in float64, and what has no such form."""

import copy

import pytest
import torch
from torch import nn

from fastweights import PredictedWeight, convert, zoo
from fastweights.axes import Channels, Sequence
from fastweights.equivalences import absorb, at_fixed_size, fast_weight_layer
from fastweights.structures import Direct, Gated, Mixture, Outer


def assert_same(converted, source, *inputs):
    """Equal values, and equal gradients of the inputs and of the shared predictor."""
    torch.testing.assert_close(converted(*inputs), source(*inputs), rtol=1e-10, atol=1e-10)
    leaves = [x.clone().requires_grad_() for x in inputs]
    cotangent = torch.randn_like(source(*inputs))
    got, wanted = (torch.autograd.grad(layer(*leaves), leaves, cotangent) for layer in (converted, source))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(copy.deepcopy(converted)(*inputs), source(*inputs))


def double(*shape):
    return torch.randn(shape, dtype=torch.float64)


GATES_ON_MAPS = [
    (lambda: zoo.SqueezeExcitation(6, 2), [(2, 6, 5, 4)]),
    (lambda: zoo.SimplifiedChannelAttention(6), [(2, 6, 5, 4)]),
    (lambda: zoo.Gating(6, dim=-3), [(2, 6, 5, 4)]),
]


@pytest.mark.parametrize(("build", "shapes"), GATES_ON_MAPS)
@pytest.mark.parametrize("f", [1, 3])
def test_a_gate_takes_in_the_convolution_behind_it(build, shapes, f):
    gate, after = build().double(), nn.Conv2d(6, 4, f, padding=f // 2, bias=f == 1).double()
    converted = absorb(gate, after)
    assert isinstance(converted.structure, Gated)
    assert converted.structure.v is None
    assert_same(converted, lambda x: after(gate(x)), *(double(*shape) for shape in shapes))


@pytest.mark.parametrize("bias", [False, True])
def test_film_passes_its_shift_through_the_layer_behind_it(bias):
    on_maps, after = zoo.FiLM(6, 3).double(), nn.Conv2d(6, 4, 1, bias=bias).double()
    assert_same(absorb(on_maps, after), lambda x, z: after(on_maps(x, z)), double(2, 6, 5, 4), double(2, 3))
    last, linear = zoo.FiLM(6, 3, dim=-1).double(), nn.Linear(6, 4, bias=bias).double()
    assert_same(absorb(last, linear), lambda x, z: linear(last(x, z)), double(2, 7, 6), double(2, 3))


def test_modulated_activations_are_gated_layers_with_the_linear_layer_behind_them():
    """Sec. 5: in place of a predicted weight, a predicted vector: W diag(alpha)."""
    siren = zoo.ModulatedSiren(2, 3, 4, hidden=5, layers=3, omega=2.0).double()
    x, z = double(4, 7, 2), double(4, 4)
    merged = [absorb(gate, after) for gate, after in zip(siren.gates, [*siren.linears[1:], siren.last], strict=True)]
    hidden, context = torch.sin(siren.omega * siren.linears[0](x)), z
    for n, layer in enumerate(merged):
        alpha = siren.gates[n].code(context)
        hidden = layer(hidden, context)
        hidden = hidden if n == 2 else torch.sin(siren.omega * hidden)
        context = torch.cat([alpha, z], -1)
    torch.testing.assert_close(hidden, siren(x, z))


def test_hyper_lstm_is_gated_rows_already():
    cell = zoo.HyperLSTMCell(3, 4, 5).double()
    for part in (cell.from_x, cell.from_h):
        conversion = convert.to_gated(part.structure)
        assert conversion.method == "gated already"
        assert conversion.structure.u is None
        code = double(2, 16)
        expected = code.unsqueeze(-1) * part.structure.v
        torch.testing.assert_close(conversion.structure.materialize(conversion.code_map(code)), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_cond_conv_is_a_mixture_and_hence_gates(bias):
    """Eq. 27, then the cheapest unfolding of the experts: here the sum of their ranks."""
    source = zoo.CondConv(2, 3, 3, experts=2, stride=2, bias=bias).double()
    assert isinstance(source.structure, Mixture)
    converted = convert.layer(source)
    assert converted.structure.code_features == 2 * 3
    assert_same(converted, source, double(2, 2, 7, 6))


def test_basis_prediction_is_gates_of_every_pixel():
    source = zoo.BasisPrediction(2, 3, 4, 2).double()
    converted = at_fixed_size(source, 2 * 9, 2)
    assert converted.structure.code_features == 36
    assert_same(converted, source, double(2, 2, 5, 6))


@pytest.mark.parametrize("build", [lambda: zoo.DecomposableAttention(4, 3), lambda: zoo.FastWeightMemory(4, 3)])
def test_attention_at_a_fixed_length_is_gates(build):
    """Theorem 3.1 for a predictor that is not linear: S_q S_k gates."""
    source = build().double()
    converted = at_fixed_size(source, 5, 5)
    assert isinstance(converted.structure, Gated)
    assert converted.structure.code_features == 25
    assert_same(converted, source, double(2, 5, 4))
    with pytest.raises(ValueError, match=r"\(6, 6\) entries, expected \(5, 5\)"):
        converted(double(2, 5, 4), double(2, 6, 4))
    with pytest.raises(ValueError, match="expected 5 numbers"):
        converted(double(2, 6, 4))


def test_multi_head_attention_at_a_fixed_length_is_gates_for_every_head():
    source = zoo.MultiHeadAttention(6, 3).double()
    converted = copy.deepcopy(source)
    converted.attention = at_fixed_size(converted.attention, 5, 4)
    assert_same(converted, source, double(2, 5, 6), double(2, 4, 6))


@pytest.mark.parametrize("normalize", [False, True])
def test_linear_attention_is_a_predicted_matrix_applied_to_the_queries(normalize):
    source = zoo.LinearAttention(4, 3, normalize=normalize).double()
    converted = fast_weight_layer(source, 6)
    assert isinstance(converted.part.structure, Direct)
    assert isinstance(converted.part.axes, Channels)
    assert_same(converted, source, double(2, 5, 6), double(2, 5, 4))
    p, q = source.code(double(2, 5, 4))
    x = double(2, 5, 6)
    torch.testing.assert_close(converted.part.weight((x, q)), torch.einsum("bsc,bsr->bcr", x, q.unflatten(-1, (5, 3))))


def test_fewer_gates_are_weights_of_lower_rank():
    """Sec. 5.1.1: k gates give weights of rank at most k, all of them in one space of k dimensions."""
    layer = zoo.GatedDoubleLayer(6, 5, gates=3).double()
    weights = layer.weight(double(40, 6))
    assert (torch.linalg.matrix_rank(weights) == 3).all()
    assert torch.linalg.matrix_rank(weights.flatten(1)) == 3


def test_the_converted_layer_trains():
    gate, after = zoo.SqueezeExcitation(6, 2), nn.Conv2d(6, 4, 3, padding=1, bias=False)
    converted = absorb(gate, after)
    converted(torch.randn(2, 6, 5, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in converted.parameters())
    assert after.weight.grad is None  # a copy
    assert converted.predictor.predictor is gate.predictor


def test_refusals_say_why():
    gate = zoo.SqueezeExcitation(6, 2)
    with pytest.raises(TypeError, match="is no gating layer"):
        absorb(zoo.HyperLinear(3, 3), nn.Linear(3, 2))
    with pytest.raises(TypeError, match=r"nn.Linear behind axis -1 or nn.Conv2d behind axis -3"):
        absorb(gate, nn.Linear(6, 2))
    with pytest.raises(TypeError, match="one group, no dilation, stride 1"):
        absorb(gate, nn.Conv2d(6, 4, 3, stride=2, padding=1, bias=False))
    for strange in ({"padding": 0}, {"padding": 1, "groups": 2}, {"padding": 1, "padding_mode": "reflect"}):
        with pytest.raises(TypeError, match="zeros as border"):
            absorb(gate, nn.Conv2d(6, 4, 3, bias=False, **strange))
    with pytest.raises(TypeError, match="does not pass an f x f convolution"):
        absorb(gate, nn.Conv2d(6, 4, 3, padding=1))
    with pytest.raises(TypeError, match="does not pass an f x f convolution"):
        absorb(zoo.FiLM(6, 2), nn.Conv2d(6, 4, 3, padding=1, bias=False))
    with pytest.raises(ValueError, match="6 gates before a layer of 5 inputs"):
        absorb(gate, nn.Conv2d(5, 4, 1))
    with pytest.raises(TypeError, match="give in_features= and out_features="):
        at_fixed_size(zoo.DecomposableAttention(4, 3))
    with pytest.raises(TypeError, match=r"convert.layer converts it"):
        at_fixed_size(zoo.HyperLinear(3, 2), 3, 2)
    with pytest.raises(TypeError, match="f is softmax, expected the identity"):
        fast_weight_layer(zoo.DecomposableAttention(4, 3), 4)
    with pytest.raises(TypeError, match=r"f is CausalDecay.*, expected the identity"):
        fast_weight_layer(zoo.FastWeightMemory(4, 3), 4)
    with pytest.raises(TypeError, match="is no linear attention"):
        fast_weight_layer(zoo.BasisPrediction(2, 3, 4), 4)
    with pytest.raises(TypeError, match="no conversion of Outer"):
        convert.layer(PredictedWeight(Outer(2), Sequence(), nn.Identity()))
