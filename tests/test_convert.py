"""The theorems: Theorem 3.1 to the bit, Corollary 3.2, mixtures by the cheapest unfolding, and their bounds."""

import dataclasses
import io
import json

import oracles
import pytest
import torch
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastweights import PredictedWeight, convert, zoo
from fastweights.axes import Channels, Patches, Sequence
from fastweights.structures import Direct, Gated, Mixture, Outer

small = st.integers(1, 5)
MIXTURE = Mixture(torch.randn(4, 3, 2))


@given(n_i=small, n_j=small, more=st.integers(0, 3))
def test_theorem_3_1_to_the_bit(n_i, n_j, more):
    conversion = convert.to_gated(Direct(n_i, n_j), gates=n_i * n_j + more)
    u, v = oracles.index_matrices(n_i, n_j, n_i * n_j + more)
    assert torch.equal(conversion.structure.u, u.T)
    assert torch.equal(conversion.structure.v, v.T)
    code = torch.randn(3, n_i * n_j)
    gates = conversion.code_map(code)
    assert torch.equal(gates[:, n_i * n_j :], torch.zeros(3, more))  # zero padding above n_i n_j
    assert torch.equal(conversion.structure.materialize(gates), Direct(n_i, n_j).materialize(code))
    assert conversion.bound == convert.Bound(0.0, 0.0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_corollary_3_2_on_patches(outputs):
    torch.manual_seed(0)
    source = zoo.KernelPrediction(2, 3, outputs, padding_mode="replicate").double()
    target = convert.layer(source)
    x = torch.randn(2, 2, 5, 7, dtype=torch.float64)
    assert target.structure.code_features == outputs * 2 * 9
    assert target.operation(target.code(x), x) == "conv, multiply, conv"
    torch.testing.assert_close(target(x), source(x))


@pytest.mark.parametrize(("inputs", "outputs", "f"), [(1, 1, 3), (8, 1, 5), (2, 3, 3)])
def test_as_many_gate_values_as_kernel_entries(inputs, outputs, f):
    source = zoo.KernelPrediction(inputs, f, outputs)
    target = convert.layer(source)
    x = torch.randn(1, inputs, 6, 7)
    kernels, gates = source.code(x), target.code(x)
    assert kernels.numel() == gates.numel() == inputs * outputs * 6 * 7 * f**2
    assert source.weight(x).shape == (1, 6, 7, outputs, inputs * f**2)
    # One fixed filter bank of f x f taps before the gates, one of 1 x 1 behind them.
    assert target.structure.v.shape == (inputs * outputs * f**2, inputs * f**2)
    assert target.structure.u.shape == (outputs, inputs * outputs * f**2)
    assert (target.axes.kernel_size, target.axes.out_kernel_size) == (f, 1)


@given(m=st.integers(1, 6), n_i=small, n_j=small, base=st.booleans())
def test_mixtures_convert_exactly_by_the_cheapest_unfolding(m, n_i, n_j, base):
    torch.manual_seed(m + 7 * n_i + 49 * n_j)
    templates = torch.randn(m, n_j, n_i, dtype=torch.float64)
    source = Mixture(templates, torch.randn(n_j, n_i, dtype=torch.float64) if base else None)
    conversion = convert.to_gated(source)
    count = m + base
    assert conversion.structure.code_features <= min(n_i * n_j, count * n_i, count * n_j)
    code = torch.randn(4, m, dtype=torch.float64)
    torch.testing.assert_close(
        conversion.structure.materialize(conversion.code_map(code)), source.materialize(code), rtol=1e-10, atol=1e-10
    )


def test_templates_of_low_rank_need_the_sum_of_their_ranks():
    torch.manual_seed(0)
    ranks = [1, 2, 1]
    templates = torch.stack(
        [torch.randn(6, r, dtype=torch.float64) @ torch.randn(r, 7, dtype=torch.float64) for r in ranks]
    )
    assert convert.to_gated(Mixture(templates)).structure.code_features == sum(ranks)


def test_dependent_templates_are_counted_once():
    torch.manual_seed(0)
    basis = torch.randn(2, 5, 6, dtype=torch.float64)
    templates = torch.einsum("mk,kji->mji", torch.randn(8, 2, dtype=torch.float64), basis)
    assert convert.to_gated(Mixture(templates)).structure.code_features == 10  # 2 templates of rank 5


def test_a_row_space_shared_by_all_templates_is_found():
    torch.manual_seed(0)
    rows, columns = torch.randn(2, 9, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    core = torch.randn(20, 2, 2, dtype=torch.float64)
    assert convert.to_gated(Mixture(columns @ core @ rows)).structure.code_features == 4


@pytest.mark.parametrize(
    ("features", "base", "gates"), [(64, True, 65), (9, True, 10), (16, False, 16), (300, True, 200)]
)
def test_one_output_needs_as_many_gates_as_features_and_base(features, base, gates):
    """Fact: min(taps, C + 1) for a 1 x 1 head from C features with bias."""
    torch.manual_seed(0)
    source = Mixture(torch.randn(features, 1, 200), torch.randn(1, 200) if base else None)
    assert convert.to_gated(source).structure.code_features == gates


@pytest.mark.parametrize("n_j", [1, 3])
@pytest.mark.parametrize("rank", [1, 3, 5, 50])
def test_truncation_stays_within_its_bound_and_the_bound_is_reached(n_j, rank):
    torch.manual_seed(0)
    source = Mixture(torch.randn(6, n_j, 8, dtype=torch.float64), torch.randn(n_j, 8, dtype=torch.float64))
    conversion = convert.to_gated(source, rank=rank)
    assert conversion.structure.code_features <= rank
    code = torch.randn(200, 6, dtype=torch.float64) * torch.logspace(-2, 2, 200, dtype=torch.float64)[:, None]
    error = conversion.structure.materialize(conversion.code_map(code)) - source.materialize(code)
    error = torch.linalg.matrix_norm(error)
    assert (error <= conversion.bound(code) + 1e-9).all()
    # Certified, not idle: the worst direction of large codes comes close.
    probe = torch.eye(6, dtype=torch.float64) * 1e6
    difference = conversion.structure.materialize(conversion.code_map(probe)) - source.materialize(probe)
    worst = torch.linalg.svdvals(difference.flatten(1))[0] / 1e6
    torch.testing.assert_close(worst.item(), conversion.bound.slope, rtol=1e-3, atol=1e-6)


def test_one_output_is_truncated_as_eckart_and_young_say():
    torch.manual_seed(0)
    templates = torch.randn(6, 1, 8, dtype=torch.float64)
    residual = torch.linalg.svdvals(templates[:, 0])[3]
    assert convert.to_gated(Mixture(templates), rank=3).bound.slope == pytest.approx(residual.item())


def test_every_convertible_case_keeps_its_output():
    converted = 0
    for case in CASES:
        layer, x, context = case.make()
        if isinstance(layer.structure, Outer):
            with pytest.raises(TypeError, match="softmax"):
                convert.layer(layer)
            continue
        torch.testing.assert_close(convert.layer(layer)(x, context), layer(x, context))
        converted += 1
    assert converted > 10


def test_a_network_is_converted_where_it_can_be_and_reports():
    torch.manual_seed(0)
    head = PredictedWeight(Mixture(torch.randn(2, 4, 5), torch.randn(4, 5)), Channels(), nn.Linear(5, 2))
    network = nn.Sequential(zoo.HyperLinear(6, 5), nn.ReLU(), head, zoo.GatedDoubleLayer(4, 2, 3))
    x = torch.randn(7, 6)
    converted, report = convert.model(network, inputs=(x,))
    assert [type(m.structure) for m in (converted[0], converted[2], converted[3])] == [Gated] * 3
    assert isinstance(network[0].structure, Direct)  # the original is left as it is
    torch.testing.assert_close(converted(x), network(x))
    assert [line.name for line in report.layers] == ["0", "2"]
    assert [line.after for line in report.layers] == [30, 12]
    assert report.difference < 1e-5
    text = str(report)
    assert "0: 30 predicted weights -> 30 gates, saves nothing" in text
    assert "2: 20 predicted weights -> 12 gates, 1.7x fewer" in text
    assert json.loads(json.dumps(dataclasses.asdict(report)))["layers"][1]["after"] == 12
    rich = pytest.importorskip("rich.console", reason="the extra 'burst'")
    console = rich.Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    shown = console.export_text()
    for text in ("20 predicted weights", "exact", "parameters", f"{report.after.multiply_adds:,}", "largest tensor"):
        assert text in shown


def test_a_converted_network_trains():
    torch.manual_seed(0)
    converted, _ = convert.model(zoo.HyperLinear(4, 2))
    converted(torch.randn(3, 4)).square().sum().backward()
    assert all(p.grad is not None for p in converted.parameters())


@pytest.mark.parametrize("affine", [False, True])
def test_a_predicted_bias_passes_through_a_conversion(affine):
    torch.manual_seed(0)
    structure = Mixture(torch.randn(5, 2, 3), torch.randn(2, 3))
    layer = PredictedWeight(structure, Channels(), nn.Linear(4, 5 + 2 * affine), affine=affine).double()
    x, context = torch.randn(6, 7, 3, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(convert.layer(layer)(x, context), layer(x, context))


def test_what_was_trained_stays_trainable():
    torch.manual_seed(0)
    source = PredictedWeight(Mixture(nn.Parameter(torch.randn(4, 3, 5))), Channels(), nn.Linear(5, 4))
    converted, _ = convert.model(source)
    converted(torch.randn(2, 5)).square().sum().backward()
    trained = {name for name, p in converted.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"structure.u", "structure.v", "predictor.code_map.weight"} <= trained
    fixed, _ = convert.model(PredictedWeight(Mixture(torch.randn(4, 3, 5)), Channels(), nn.Linear(5, 4)))
    assert {name for name, _ in fixed.named_parameters()} == {"predictor.predictor.weight", "predictor.predictor.bias"}


def test_layers_inside_predictors_and_layers_used_twice():
    torch.manual_seed(0)
    inner = zoo.HyperLinear(4, 15)
    outer = zoo.HyperLinear(5, 3, predictor=nn.Sequential(inner, nn.Tanh()))
    twice = zoo.HyperLinear(3, 3)
    network = nn.Sequential(outer, twice, nn.ReLU(), twice)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network

        def forward(self, x, context):
            return self.layers[3](self.layers[2](self.layers[1](self.layers[0](x, context))))

    source = Net()
    converted, report = convert.model(source)
    x, context = torch.randn(6, 5), torch.randn(6, 4)
    torch.testing.assert_close(converted(x, context), source(x, context))
    structures = [m.structure for m in converted.modules() if isinstance(m, PredictedWeight)]
    assert [type(s) for s in structures] == [Gated] * 3
    assert converted.layers[1] is converted.layers[3]
    assert len(report.layers) == 3


def test_a_network_with_a_layer_no_theorem_covers_keeps_it():
    network = nn.ModuleList([PredictedWeight(Outer(2), Sequence(), nn.Identity()), zoo.HyperLinear(3, 2)])
    converted, report = convert.model(network, rank=3)
    assert isinstance(converted[0].structure, Outer)
    assert [line.name for line in report.layers] == ["1"]


def test_templates_of_zeros_convert():
    conversion = convert.to_gated(Mixture(torch.zeros(3, 2, 4)))
    assert conversion.structure.materialize(conversion.code_map(torch.randn(5, 3))).abs().max() == 0


@pytest.mark.parametrize("parametrized", [False, True])
def test_gates_between_two_fixed_layers_are_truncated_within_their_bound(parametrized):
    """One output is a matrix of filters by gates: Eckart and Young say how near fewer gates come."""
    torch.manual_seed(0)
    v = torch.randn(9, 2, dtype=torch.float64) @ torch.randn(2, 8, dtype=torch.float64) + 0.01 * torch.randn(9, 8)
    source = Gated(torch.ones(1, 9, dtype=torch.float64), nn.Parameter(v) if parametrized else v)
    conversion = convert.to_gated(source, rank=2)
    assert conversion.structure.code_features == 2
    assert conversion.bound.constant == 0
    assert conversion.bound.slope == pytest.approx(torch.linalg.svdvals(v)[2].item())
    code = torch.randn(50, 9, dtype=torch.float64)
    error = conversion.structure.materialize(conversion.code_map(code)) - source.materialize(code)
    error = torch.linalg.matrix_norm(error)
    assert (error <= conversion.bound(code) + 1e-12).all()
    assert error.max() > 1e-3
    assert len(list(conversion.structure.parameters())) == 2 * parametrized
    exact = convert.to_gated(source, rank=9)
    assert (exact.structure, exact.bound) == (source, convert.Bound(0.0, 0.0))


def test_a_network_of_gates_is_truncated_where_no_number_is_lost():
    torch.manual_seed(0)
    network = nn.Sequential(zoo.GatedDoubleLayer(6, 5, 8), zoo.SqueezeExcitation(5, 1)).double()
    network[1].axes, x = Channels(), torch.randn(40, 6, dtype=torch.float64)
    network[1].predictor = nn.Linear(5, 5).double()
    converted, report = convert.model(network, rank=3, inputs=(x,), weighted=True)
    (line,) = report.layers
    assert (line.name, line.before, line.after) == ("0", 8, 3)
    assert "0: 8 gates -> 3 gates, 2.7x fewer" in str(report)
    blind, _ = convert.model(network, rank=3)
    errors = [(one[0](x) - network[0](x)).square().mean() for one in (converted, blind)]
    assert errors[0] < errors[1]
    assert 0 < line.measured < 1
    assert converted[1].structure.code_features == 5
    assert convert.model(network, rank=8)[1].layers == ()


def test_refusals_say_why():
    with pytest.raises(ValueError, match=r"5 gates cannot hold every weight of 2 x 3 numbers.*gates >= 6"):
        convert.to_gated(Direct(3, 2), gates=5)
    with pytest.raises(ValueError, match="no bound holds"):
        convert.layer(zoo.KernelPrediction(2, 3), rank=4)
    with pytest.raises(TypeError, match="no conversion of Outer"):
        convert.to_gated(Outer(2))
    with pytest.raises(ValueError, match="expected at least 1"):
        convert.to_gated(Mixture(torch.zeros(1, 1, 2)), rank=0)
    with pytest.raises(TypeError, match="no conversion to 3 gates is known: the structure has 9 without"):
        convert.to_gated(Gated(torch.zeros(2, 9), None), rank=3)
    with pytest.raises(ValueError, match="rank= to truncate"):
        convert.to_gated(Mixture(torch.zeros(1, 1, 2)), gates=3)


def test_upsampled_codes_stay_small_through_a_conversion():
    for case in CASES:
        if case.name == "KernelPrediction of features":
            layer, x, _ = case.make()
            target = convert.layer(layer)
            assert target.structure.code_features == 5
            assert target.code(x).code.shape[-2:] == (3, 3)
            assert isinstance(target.axes, Patches)


def test_a_layer_keeps_its_precision(unchecked_shapes):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        for source, x in ((zoo.HyperLinear(5, 3), (4, 5)), (zoo.KernelPrediction(2, 3), (1, 2, 5, 4))):
            target = convert.layer(source.to(dtype))
            assert {value.dtype for value in target.state_dict().values()} == {dtype}
            x = torch.randn(x, dtype=dtype)
            assert target(x).dtype == dtype
            torch.testing.assert_close(target(x), source(x), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: convert.layer(nn.Linear(2, 2)), TypeError, "layer: Linear has no predicted weight.*convert.model"),
        (lambda: convert.to_gated(zoo.HyperLinear(5, 3)), TypeError, "HyperLinear is no structure.*convert.layer"),
        (lambda: convert.model(zoo.CondConv(3, 4, 3), inputs=torch.ones(2, 3, 8, 8)), TypeError, r"give inputs=\(x,\)"),
        (lambda: convert.to_gated(MIXTURE, rank=2, method="svd"), ValueError, "'svd', expected 'unfolding' or 'cp'"),
        (lambda: convert.to_gated(Mixture(torch.full((2, 3, 3), torch.inf))), ValueError, "not finite"),
        (lambda: convert.to_gated(MIXTURE, rank=2, codes=torch.full((5, 4), torch.nan)), ValueError, "codes are not f"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(call, kind, message, unchecked_shapes):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
