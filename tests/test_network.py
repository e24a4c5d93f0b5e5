"""HyperNetwork: every route equals a loop over contexts whose weights are written out here, values and gradients."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from network_cases import (
    HEADS,
    PRIMARIES,
    Residual,
    assert_equal_with_gradients,
    build,
    conv_net,
    loop,
    mlp,
    normed_mlp,
    resnet,
    written_out,
)
from torch import nn

from fastweights import HyperNetwork, heads


@pytest.mark.parametrize(
    ("head", "grouped"),
    [*((head, True) for head in HEADS), *((head, False) for head in ("none", "linear", "low rank", "gated"))],
)
@pytest.mark.parametrize("name", PRIMARIES)
def test_all_routes_equal_a_loop_over_contexts(name, head, grouped):
    primary, size = PRIMARIES[name]
    setting, delta = HEADS[head]
    original = primary().double()
    hyper = build(original, setting, delta)
    x = torch.randn((3, 2, *size) if grouped else (3, *size), dtype=torch.float64, requires_grad=True)
    context = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    expected = loop(hyper, setting, delta, original, x, context, grouped)
    inputs = [x, context, *hyper.parameters()]
    for route in ["auto", "vmap", "loop"] + ["materialise", "reassociate"] * (name != "residual"):
        hyper.route = route
        assert_equal_with_gradients(expected, hyper(x, context, grouped=grouped), inputs)
        if route in ("vmap", "loop"):
            assert hyper.routes(x, context, grouped=grouped) == {"*": route}
    for number in range(3):
        weights = written_out(hyper, setting, delta, context[number])
        assert hyper.weights(context[number]).keys() == weights.keys()
        for key, value in hyper.weights(context).items():
            torch.testing.assert_close(value[number], weights[key], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("head", ["linear", "low rank", "gated delta"])
@pytest.mark.parametrize("norm", [lambda channels: nn.GroupNorm(2, channels), nn.BatchNorm2d], ids=["group", "batch"])
def test_a_resnet_with_a_context_for_each_of_32_images(norm, head):
    setting, delta = HEADS[head]
    original = resnet(norm).double()
    hyper = build(original, setting, delta).eval()
    x = torch.randn(32, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    context = torch.randn(32, 4, dtype=torch.float64, requires_grad=True)
    assert hyper.routes(x, context) == {"*": "vmap"}
    expected = loop(hyper, setting, delta, original, x, context, grouped=False)
    assert_equal_with_gradients(expected, hyper(x, context), [x, context, *hyper.parameters()])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", PRIMARIES)
def test_one_context_for_the_whole_batch(name, head):
    primary, size = PRIMARIES[name]
    setting, delta = HEADS[head]
    original = primary().double()
    hyper = build(original, setting, delta)
    x, context = torch.randn(4, *size, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    expected = loop(hyper, setting, delta, original, x[None], context[None], grouped=True)[0]
    for route in ["auto", "vmap", "loop"] + ["materialise", "reassociate"] * (name != "residual"):
        hyper.route = route
        assert_equal_with_gradients(expected, hyper(x, context), list(hyper.parameters()))
    torch.testing.assert_close(hyper.bake(context)(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("route", ["auto", "materialise", "reassociate", "vmap", "loop"])
@pytest.mark.parametrize(
    ("predict", "predicted"),
    [
        ("*.bias", ["0.bias", "3.bias"]),
        ("0.weight", ["0.weight"]),
        (["3.*", "2.0.weight"], ["2.0.weight", "3.weight", "3.bias"]),
    ],
)
def test_the_chosen_parameters_are_predicted_and_the_others_are_trained(predict, predicted, route):
    original = mlp().double()
    hyper = build(original, heads.Linear(), predict=predict, route=route)
    assert list(hyper.shapes) == predicted
    others = [name for name, _ in original.named_parameters() if name not in predicted]
    assert [name for name, _ in hyper.primary.named_parameters()] == others
    assert list(hyper.primary.state_dict()) == others
    x, context = (torch.randn(3, n, dtype=torch.float64) for n in (5, 4))
    expected = loop(hyper, heads.Linear(), False, original, x, context, grouped=False)
    assert_equal_with_gradients(expected, hyper(x, context), list(hyper.parameters()))


@pytest.mark.parametrize("predict", ["0.bias", "1.*", "4.bias", "4.*", "5.weight", "5.bias"])
def test_part_of_a_conv_net(predict):
    original = conv_net().double()
    original[4].running_mean.uniform_(-1, 1)
    hyper = build(original, heads.Linear(), predict=predict)
    x, context = torch.randn(3, 2, 2, 11, 9).double(), torch.randn(3, 4).double()
    expected = loop(hyper, heads.Linear(), False, original, x, context, grouped=True)
    for route in ("materialise", "reassociate", "vmap"):
        hyper.route = route
        assert_equal_with_gradients(expected, hyper(x, context, grouped=True), list(hyper.parameters()))


def test_tied_weights_are_predicted_once_under_any_of_their_names():
    hyper = build(Residual().eval(), heads.Linear(), predict="again.weight")
    assert hyper.aliases == [("first.weight", "again.weight")]
    baked = hyper.bake(torch.randn(4).double())
    assert baked.first.weight is baked.again.weight


@pytest.mark.parametrize("route", ["auto", "materialise", "reassociate", "vmap", "loop"])
def test_a_module_in_two_places_of_a_sequence_runs_twice(route):
    shared, activation = nn.Linear(5, 5), nn.ReLU()
    original = nn.Sequential(nn.Linear(5, 5), activation, shared, activation, shared, activation, nn.Linear(5, 2))
    hyper = build(original.double(), heads.Linear(), route=route)
    x, context = torch.randn(3, 5).double(), torch.randn(3, 4).double()
    expected = loop(hyper, heads.Linear(), False, original, x, context, grouped=False)
    assert_equal_with_gradients(expected, hyper(x, context), list(hyper.parameters()))


@pytest.mark.parametrize("route", ["auto", "vmap", "loop"])
def test_several_inputs(route):
    original = Residual().double().eval()
    hyper = build(original, heads.Linear(), route=route)
    x, z, context = (torch.randn(3, 2, n, dtype=torch.float64) for n in (5, 4, 4))
    context = context[:, 0]
    one = [hyper.bake(context[b])(x[b], z[b]) for b in range(3)]
    torch.testing.assert_close(hyper((x, z), context, grouped=True), torch.stack(one), rtol=1e-10, atol=1e-10)
    single = hyper((x[:, 0], z[:, 0]), context)
    torch.testing.assert_close(single, torch.stack(one)[:, 0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(hyper((x[0], z[0]), context[0]), one[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch_first", [False, True])
def test_lstm_and_its_tuple_of_results(batch_first):
    original = nn.LSTM(5, 3, num_layers=2, bidirectional=True, batch_first=batch_first)
    hyper = build(original, heads.Linear())
    x, context = torch.randn(3, 4, 2, 5).double(), torch.randn(3, 4).double()
    assert hyper.routes(x, context, grouped=True) == {"*": "loop"}
    y, (h, c) = hyper(x, context, grouped=True)
    for b in range(3):
        wanted, (wanted_h, wanted_c) = hyper.bake(context[b])(x[b])
        torch.testing.assert_close(y[b], wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(h[b], wanted_h, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(c[b], wanted_c, rtol=1e-10, atol=1e-10)
    if not batch_first:
        with pytest.raises(ValueError, match="expected one sample on axis 0; where samples lie on another axis pass"):
            hyper(x[:, :, 0], context)


def test_batch_statistics_are_those_of_one_contexts_samples():
    original = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 2)).double()
    hyper = build(original, heads.Linear())
    x, context = torch.randn(3, 4, 2, 5, 5).double(), torch.randn(3, 4).double()
    baked = [hyper.bake(context[b]) for b in range(3)]
    y = hyper(x, context, grouped=True)
    torch.testing.assert_close(y, torch.stack([baked[b](x[b]) for b in range(3)]), rtol=1e-10, atol=1e-10)
    # One step a context, in order, from mean zero with momentum .1.
    mean = torch.zeros(3).double()
    for b in range(3):
        hidden = F.conv2d(x[b], baked[b][0].weight, baked[b][0].bias)
        mean = 0.9 * mean + 0.1 * hidden.mean((0, 2, 3))
    torch.testing.assert_close(hyper.primary[1].running_mean, mean, rtol=1e-10, atol=1e-10)
    assert hyper.primary[1].num_batches_tracked == 3
    hyper.eval()
    assert set(hyper.routes(x, context, grouped=True)) == {"0.weight", "3.weight"}  # a chain again


def test_one_sample_a_context_has_no_batch_statistics():
    hyper = build(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), heads.Linear())
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        hyper(torch.randn(3, 5).double(), torch.randn(3, 4).double())


@pytest.mark.parametrize("route", ["auto", "materialise", "vmap", "loop"])
def test_dropout_draws_for_every_context(route):
    hyper = build(nn.Sequential(nn.Linear(50, 40), nn.Dropout(0.5)), heads.Linear(), route=route)
    x, context = torch.randn(1, 50).double().expand(3, 50), torch.randn(1, 4).double().expand(3, 4)
    y = hyper(x, context)
    assert 20 < (y == 0).sum() < 100
    assert not torch.equal(y[0] == 0, y[1] == 0)
    hyper.eval()
    torch.testing.assert_close(hyper(x, context)[0], hyper(x, context)[1])


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("head", [head for head, (_, delta) in HEADS.items() if delta])
def test_delta_starts_as_the_pretrained_network(name, head):
    primary, size = PRIMARIES[name]
    original = primary()
    hyper = HyperNetwork(original, nn.Linear(4, 3), head=HEADS[head][0], delta=True)
    x = torch.randn(3, *size)
    with torch.no_grad():
        difference = (hyper(x, torch.randn(3, 4)) - original(x)).abs().max()
    assert difference <= 1e-6
    for name, parameter in original.named_parameters():
        assert torch.equal(hyper.primary.get_parameter(name), parameter)
        assert hyper.primary.get_parameter(name) is not parameter


def test_delta_base_and_head_are_trained_together():
    hyper = HyperNetwork(mlp(), nn.Linear(4, 3), head=heads.LowRank(2), delta=True)
    optimizer = torch.optim.SGD(hyper.parameters(), 0.1)
    for _ in range(2):  # B starts at zero: A and the predictor wake up at the second step
        optimizer.zero_grad()
        hyper(torch.randn(8, 5), torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hyper.parameters())


def test_state_dict_deepcopy_and_pickle():
    hyper = build(normed_mlp(), heads.GatedWeights())
    x, context = torch.randn(3, 5).double(), torch.randn(3, 4).double()
    expected = hyper(x, context)
    fresh = HyperNetwork(normed_mlp().double(), copy.deepcopy(hyper.predictor), head=heads.GatedWeights())
    assert not torch.equal(fresh(x, context), expected)
    fresh.load_state_dict(hyper.state_dict())
    buffer = io.BytesIO()
    torch.save(hyper, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (fresh, copy.deepcopy(hyper), pickle.loads(pickle.dumps(hyper)), loaded):
        assert torch.equal(other(x, context), expected)
    assert torch.isfinite(fresh.float()(x.float(), context.float())).all()


def test_the_primary_given_is_left_as_it_is():
    primary = mlp()
    before = copy.deepcopy(primary.state_dict())
    HyperNetwork(primary, nn.Linear(4, 3))
    assert all(torch.equal(value, before[name]) for name, value in primary.state_dict().items())


def test_hooks_run():
    primary, calls = mlp(), []
    primary[0].register_forward_hook(lambda *_: calls.append(1))
    hyper = HyperNetwork(primary, nn.Linear(4, 3))
    hyper(torch.randn(3, 5), torch.randn(3, 4))
    assert calls


def test_routes_are_chosen_by_counting():
    primary = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    hyper = HyperNetwork(primary, nn.Linear(8, 16))
    names = [f"{n}.weight" for n in (0, 2, 4)]
    samples = hyper.routes(torch.randn(128, 64), torch.randn(128, 8))
    assert samples == dict.fromkeys(names, "reassociate")
    groups = hyper.routes(torch.randn(32, 256, 64), torch.randn(32, 8), grouped=True)
    assert groups == dict.fromkeys(names, "materialise")
    tie = HyperNetwork(primary, nn.Linear(8, 64)).routes(torch.randn(128, 64), torch.randn(128, 8))
    assert tie == dict.fromkeys(names, "materialise")
    low_rank = HyperNetwork(primary, nn.Linear(8, 64), head=heads.LowRank(2), delta=True)
    assert low_rank.routes(torch.randn(32, 8, 64), torch.randn(32, 8), grouped=True)["0.weight"] == "reassociate"


def test_large_tensors_have_matrices_of_their_own():
    primary = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3), nn.Unflatten(1, (3, 1)), nn.Conv1d(3, 2, 1))
    hyper = HyperNetwork(primary, nn.Linear(5, 2**11))
    assert [tuple(part.shape) for part in hyper.head.templates] == [(2**11, 6), (2**11, 32 + 4 + 12 + 3 + 2)]
    x, context = torch.randn(3, 8), torch.randn(3, 5)
    hyper = HyperNetwork(nn.Linear(8, 100), nn.Linear(5, 2**10))
    assert [tuple(part.shape) for part in hyper.head.templates] == [(2**10, 800), (2**10, 100)]
    expected = torch.stack([hyper.bake(c)(one) for one, c in zip(x, context, strict=True)])
    torch.testing.assert_close(hyper(x, context), expected)
