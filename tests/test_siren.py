"""The SIREN hypernetwork: a loop over its equations, and the scales of its published initialisation."""

import pytest
import torch
from torch import nn

from fastweights import diagnose, zoo


def test_against_the_equations():
    network = zoo.SirenHyperNetwork(
        2, 3, hidden_features=5, hidden_layers=1, embedding_features=4, hyper_hidden=6
    ).double()
    x, context = torch.rand(3, 7, 2).double() * 2 - 1, torch.randn(3, 4).double()
    rows = []
    for b in range(3):
        tensors = []
        for coder, structure in zip(network.head.coders, network.head.structures, strict=True):
            hidden = torch.relu(coder[0].weight @ context[b] + coder[0].bias)
            hidden = torch.relu(coder[2].weight @ hidden + coder[2].bias)
            flat = structure.templates.flatten(1).T @ hidden + structure.base.flatten()
            tensors.append(flat.view(structure.out_features, structure.in_features))
        h = x[b].T
        for number in (0, 2):
            h = torch.sin(30 * (tensors[number] @ h + tensors[number + 1]))
        rows.append((tensors[4] @ h + tensors[5]).T)
    expected = torch.stack(rows)
    torch.testing.assert_close(network(x, context), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network(x, context, grouped=True), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network.bake(context[1])(x[1]), expected[1], rtol=1e-10, atol=1e-10)


def test_published_initialisation():
    network = zoo.SirenHyperNetwork(2, 3, hidden_features=64, hidden_layers=1, embedding_features=32, hyper_hidden=128)
    for (name, shape), structure in zip(network.shapes.items(), network.head.structures, strict=True):
        bound = 1 / (128 if name.endswith("bias") else shape[1])
        largest = structure.base.abs().max().item()
        assert (0.5 if structure.base.numel() < 10 else 0.9) * bound < largest <= bound
        assert structure.templates.std().item() == pytest.approx((2 / 128) ** 0.5 / 100, rel=0.1)


def test_a_siren_keeps_the_scale_of_its_layers():
    x = torch.rand(500, 2) * 2 - 1
    for layer in zoo.siren(2, 3, hidden_features=256)[:-1]:
        if isinstance(layer, nn.Linear) and layer.in_features > 2:
            assert 0.8 < 30 * (x @ layer.weight.T).std() < 1.25
        x = layer(x)


def test_it_starts_alive():
    network = zoo.SirenHyperNetwork(2, 1, hidden_features=32, hidden_layers=1, embedding_features=8, hyper_hidden=32)
    found = diagnose(network, torch.rand(5, 64, 2) * 2 - 1, torch.randn(5, 8), grouped=True)
    assert found.verdict == "alive"
    assert found.head_reached == found.predictor_reached == 1  # the default predictor has nothing to learn


def test_it_learns_two_pictures():
    """To a hundredth of what their means leave; at a rate of 3e-3 it would learn nothing."""
    torch.manual_seed(0)
    network = zoo.SirenHyperNetwork(1, 1, hidden_features=32, hidden_layers=1, embedding_features=8, hyper_hidden=32)
    x = torch.linspace(-1, 1, 64)[None, :, None].expand(2, -1, -1)
    target, context = torch.stack([torch.sin(9 * x[0]), torch.cos(6 * x[0])]), torch.randn(2, 8)
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (network(x, context, grouped=True) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01 * (target - target.mean(1, keepdim=True)).square().mean()
