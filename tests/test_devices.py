"""Layers and networks stay on the device of their inputs: run on "meta", where a tensor made on a CPU raises."""

from functools import partial

import pytest
import torch
from cases import CASES
from network_cases import HEADS, PRIMARIES
from torch import nn

from fastweights import EmbeddingNetwork, HyperNetwork
from fastweights.burst.models import ModelConfig, build

BURSTS = {
    "kernels": ModelConfig(width=4, post=6),
    "few features": ModelConfig(width=4, post=6, features=3),
    "gates": ModelConfig(kind="gated", width=4, post=6, maps=5),
}


def check(call, module, *inputs):
    """Forward and backward on "meta" give the shapes of a CPU, and leave nothing on it."""
    expected = call(*inputs)
    module.to("meta")
    found = call(*(one.to("meta") for one in inputs))
    assert (found.device.type, found.shape) == ("meta", expected.shape)
    found.sum().backward()
    assert {p.device.type for p in module.parameters() if p.grad is not None} == {"meta"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_stays_on_its_device(case):
    layer, x, context = case.make()
    check(layer, layer, *((x,) if case.context is None else (x, context)))


@pytest.mark.parametrize("grouped", [False, True], ids=["a context a sample", "a context for four samples"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_a_hypernetwork_stays_on_its_device(primary, head, grouped):
    build_primary, shape = PRIMARIES[primary]
    torch.manual_seed(0)
    module = build_primary()
    kind, delta = HEADS[head]
    predictor = nn.Linear(6, 3 if kind else sum(p.numel() for p in module.parameters()))
    hyper = HyperNetwork(module, predictor, head=kind, delta=delta)
    x, context = torch.randn(2, *(4,) * grouped, *shape), torch.randn(2, 6)
    check(partial(hyper, grouped=grouped), hyper, x, context)


def test_an_embedding_network_stays_on_its_device():
    primary = nn.Sequential(nn.Linear(8, 4), nn.ELU(), nn.Linear(4, 2))
    network = EmbeddingNetwork(primary, nn.Linear(6, 3))
    check(network, network, torch.randn(2, 5), torch.randn(2, 6))


@pytest.mark.parametrize("name", BURSTS)
def test_a_burst_network_stays_on_its_device(name):
    network = build(BURSTS[name])
    check(network, network, torch.rand(2, 8, 16, 24), torch.rand(2, 1, 16, 24))
