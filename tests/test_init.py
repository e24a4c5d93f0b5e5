"""Initialisations: variances of activations and of gradients at the first step, measured layer by layer."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastweights import HyperNetwork, heads, init

WIDTHS = [150, 60, 120, 90, 140]
FEATURES = 24


def network(relu, bias=True, head=None):
    layers = []
    for i, j in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(i, j, bias=bias), nn.ReLU() if relu else nn.Identity()]
    return HyperNetwork(nn.Sequential(*layers), nn.Identity(), features=FEATURES, head=head or heads.Linear())


def moments(hyper, relu, contexts=48, samples=8):
    """Mean squares of activations behind each layer, and of the gradients in front of each, weights written out."""
    torch.manual_seed(1)
    # Of one length: chi-square lengths would compound over the layers, whatever the scale of the head.
    features = F.normalize(torch.randn(contexts, FEATURES), dim=-1) * FEATURES**0.5
    weights = list(hyper.weights(features).values())
    h, activations = torch.randn(contexts, samples, WIDTHS[0], requires_grad=True), []
    hidden = [h]
    step = 2 if len(weights) == 2 * (len(WIDTHS) - 1) else 1
    for number in range(0, len(weights), step):
        h = torch.einsum("bji,bni->bnj", weights[number], h)
        h = h if step == 1 else h + weights[number + 1][:, None]
        h = h.relu() if relu else h
        hidden.append(h)
        activations.append(h.square().mean().item())
    gradients = torch.autograd.grad(h, hidden, torch.randn_like(h))
    return activations, [g.square().mean().item() for g in gradients]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_hyperfan_in_keeps_activations(relu, bias):
    hyper = network(relu, bias)
    init.hyperfan_in(hyper)
    activations, _ = moments(hyper, relu)
    assert all(0.75 < activation < 1.33 for activation in activations), activations


@pytest.mark.parametrize("relu", [False, True])
def test_hyperfan_out_keeps_gradients(relu):
    hyper = network(relu, bias=False)
    init.hyperfan_out(hyper)
    _, gradients = moments(hyper, relu)
    assert all(0.7 < gradient < 1.4 for gradient in gradients), gradients


def test_both_differ_where_layers_are_not_square():
    hyper = network(False, bias=False)
    init.hyperfan_out(hyper)
    activations, _ = moments(hyper, False)
    # Var(W) = 1 / d_out: a layer multiplies by d_in / d_out, together by the first width over the last.
    assert activations[0] == pytest.approx(WIDTHS[0] / WIDTHS[1], rel=0.3)


def test_feature_variance_is_divided_out():
    hyper = network(True)
    init.hyperfan_in(hyper, feature_variance=4.0)
    weights = hyper.weights(2 * torch.randn(48, FEATURES))
    assert weights["0.weight"].var().item() == pytest.approx(2 / (2 * WIDTHS[0]), rel=0.2)
    assert weights["0.bias"].var().item() == pytest.approx(2 / 2, rel=0.5)


def test_hyperfan_out_of_biases():
    hyper = network(False)
    init.hyperfan_out(hyper)
    biases = [structure for name, structure in zip(hyper.shapes, hyper.head.structures, strict=True) if "bias" in name]
    for bias, (d_in, d_out) in zip(biases, itertools.pairwise(WIDTHS), strict=True):
        assert bias.templates.var().item() == pytest.approx(max(0, (1 - d_in / d_out) / FEATURES), rel=0.2, abs=1e-12)


def test_a_relu_in_two_places_is_seen_in_both():
    relu = nn.ReLU()
    hyper = HyperNetwork(
        nn.Sequential(nn.Linear(20, 30), relu, nn.Linear(30, 20), relu), nn.Identity(), features=FEATURES
    )
    init.hyperfan_in(hyper)
    second = hyper.head.structures[2]
    assert second.templates.var().item() == pytest.approx(2 / (2 * 30 * FEATURES), rel=0.1)


def test_convolutions_count_their_taps():
    hyper = HyperNetwork(nn.Sequential(nn.Conv2d(20, 30, 3, bias=False)), nn.Identity(), features=FEATURES)
    init.hyperfan_in(hyper)
    assert hyper.head.structures[0].templates.var().item() == pytest.approx(1 / (20 * 9 * FEATURES), rel=0.1)
    init.hyperfan_out(hyper)
    assert hyper.head.structures[0].templates.var().item() == pytest.approx(1 / (30 * 9 * FEATURES), rel=0.1)


def test_weights_of_recurrent_and_attention_layers_are_drawn_too():
    for primary, weight, bias, fan in (
        (nn.LSTM(40, 50), "weight_ih_l0", "bias_ih_l0", 40),
        (nn.MultiheadAttention(40, 2), "in_proj_weight", "in_proj_bias", 40),
    ):
        hyper = HyperNetwork(primary, nn.Identity(), features=FEATURES)
        init.hyperfan_in(hyper)
        found = dict(zip(hyper.shapes, hyper.head.structures, strict=True))
        assert found[weight].templates.var().item() == pytest.approx(1 / (2 * fan * FEATURES), rel=0.1)
        assert found[bias].templates.var().item() == pytest.approx(1 / (2 * FEATURES), rel=0.1)


def test_bias_hyperinit_is_one_network_and_learns_at_the_second_step():
    primary = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    hyper = HyperNetwork(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)), nn.Linear(7, FEATURES))
    init.bias_hyperinit(hyper, primary)
    x, context = torch.randn(16, 5), torch.randn(16, 7)
    torch.testing.assert_close(hyper(x, context), primary(x), rtol=1e-5, atol=1e-6)
    hyper(x, context).square().mean().backward()
    assert hyper.head.templates[0].grad.any()
    assert not hyper.predictor.weight.grad.any()
    torch.optim.SGD(hyper.parameters(), 0.1).step()
    hyper(x, context).square().mean().backward()
    assert hyper.predictor.weight.grad.any()


@pytest.mark.parametrize("encoded", [False, True])
def test_magnitude_invariance_of_features_and_of_the_first_gradient(encoded):
    torch.manual_seed(0)
    features, gradients = [], []
    encoding = init.MagnitudeInvariant() if encoded else nn.Identity()
    linear = nn.Linear(16 if encoded else 8, FEATURES, bias=False)
    primary = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    hyper = HyperNetwork(primary, nn.Sequential(encoding, linear), delta=True)
    nn.init.normal_(hyper.head.structures[0].templates)
    for scale in (0.02, 0.98):
        context = torch.full((200, 8), scale)
        features.append(hyper.predictor(context).square().mean().item())
        hyper.zero_grad()
        (hyper(torch.randn(200, 5), context) - hyper.bake(context[0])(torch.randn(200, 5)).detach()).sum().backward()
        gradients.append(hyper.head.templates[0].grad[:, -18:].square().sum().sqrt())
    ratio, gradient_ratio = features[1] / features[0], gradients[1] / gradients[0]
    if encoded:
        assert 0.3 < ratio < 3
        assert 0.3 < gradient_ratio < 3
    else:  # proportional to the context
        assert ratio == pytest.approx(49**2, rel=1e-3)
        assert gradient_ratio > 15


def test_mistakes():
    with pytest.raises(TypeError, match=r"hyperfan_in: .* is predicted as Gated, expected a weight that is linear"):
        init.hyperfan_in(network(True, head=heads.GatedWeights(3)))
    delta = HyperNetwork(nn.Linear(3, 2), nn.Linear(4, 5), delta=True)
    with pytest.raises(ValueError, match="hyperfan_out: delta=True starts at learned weights"):
        init.hyperfan_out(delta)
    biases = HyperNetwork(nn.Linear(3, 2), nn.Linear(4, 5), "bias")
    with pytest.raises(ValueError, match="hyperfan_in: no weight of a layer is predicted, only bias; nothing to scale"):
        init.hyperfan_in(biases)
