"""Galanti 2020: the batched program trains as a plain loop would, and a huge embedding as a small one."""

import copy

import pytest
import torch
from torch import nn

from experiments.galanti2020 import fused
from experiments.galanti2020.batched import Stack, embedding_method, hypernetwork, layers
from experiments.galanti2020.narrowed import narrowed
from fastweights import HyperNetwork, head_modules


def plain(network):
    """The same function with nothing stacked, merged or reassociated."""
    if isinstance(network, HyperNetwork):
        return lambda x, context: network.call_with(network.weights(context), x)
    return network if not hasattr(network, "network") else network.network


def loop(network, batches, rate, momentum):
    """torch.optim.SGD, one network, one batch at a time."""
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum)
    call = plain(network)
    for *inputs, y in batches:
        optimiser.zero_grad()
        nn.functional.mse_loss(call(*inputs), y).backward()
        optimiser.step()
    return {name: p.detach() for name, p in network.named_parameters()}


NETWORKS = {
    "hypernetwork": lambda: hypernetwork((7, 5, 3), (6, 9, 8)),
    "one output": lambda: hypernetwork((7, 5, 1), (6, 9, 8)),
    "matrices of their own": lambda: hypernetwork((7, 5, 3), (6, 9, 8)),
    "embedding method": lambda: embedding_method((7, 5, 3), (6, 9, 8, 11)),
    "hypernetwork, ELU": lambda: hypernetwork((7, 5, 3), (6, 9, 8), activation=nn.ELU),
    "embedding method, ELU": lambda: embedding_method((7, 5, 3), (6, 9, 8, 11), nn.ELU),
    "shallow": lambda: layers(7, 5, 3),
}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_stack_trains_as_single_seeds_do(name, momentum, monkeypatch):
    torch.manual_seed(0)
    if name == "matrices of their own":  # as large ones have
        monkeypatch.setattr(head_modules, "ALONE", 0)
    networks = [NETWORKS[name]().double() for _ in range(3)]
    assert fused.covers(networks[0])  # without momentum; with it the step is vmap's
    outputs = 1 if name == "one output" else 3
    sizes = (7, outputs) if name == "shallow" else (7, 6, outputs)
    batches = [[torch.randn(3, 13, size, dtype=torch.float64) for size in sizes] for _ in range(6)]
    stack = Stack(networks)
    for *inputs, y in batches:
        stack.step(tuple(inputs), y, nn.functional.mse_loss, 0.1, momentum)
    for seed, network in enumerate(networks):
        before = copy.deepcopy(network)
        single = loop(network, [[data[seed] for data in batch] for batch in batches], 0.1, momentum)
        assert single.keys() == stack.parameters.keys()
        for key, value in single.items():
            torch.testing.assert_close(stack.parameters[key][seed], value, rtol=1e-9, atol=1e-12)
        moved = [not torch.equal(p, q) for p, q in zip(before.parameters(), network.parameters(), strict=True)]
        assert all(moved)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_large_embedding_trains_as_a_narrow_one(momentum):
    torch.manual_seed(0)
    network = embedding_method((7, 5, 3), (6, 9, 8, 300), nn.ELU).double()
    small = narrowed(copy.deepcopy(network))
    assert small.network.encoder[-1].out_features == 5 + 8 + 1
    assert fused.covers(small)
    batches = [[torch.randn(13, size, dtype=torch.float64) for size in (7, 6, 3)] for _ in range(20)]
    before = network(*batches[0][:2])
    torch.testing.assert_close(small(*batches[0][:2]), before, rtol=1e-12, atol=1e-12)
    for one in (network, small):
        loop(one, batches, 0.1, momentum)
    after = network(*batches[0][:2])
    assert (after - before).abs().mean() > 0.1
    torch.testing.assert_close(small(*batches[0][:2]), after, rtol=1e-10, atol=1e-10)


def test_what_cannot_be_narrowed_stays_as_it_is():
    for network in (embedding_method((7, 5, 3), (6, 9, 8, 14)), hypernetwork((7, 5, 3), (6, 9, 8)), layers(3, 2)):
        assert narrowed(network) is network


def test_a_stack_leaves_the_networks_alone():
    networks = [layers(3, 2) for _ in range(2)]
    before = copy.deepcopy(networks[0].state_dict())
    Stack(networks).step((torch.randn(2, 4, 3),), torch.randn(2, 4, 2), nn.functional.mse_loss, 0.1)
    torch.testing.assert_close(networks[0].state_dict(), before, rtol=0, atol=0)
