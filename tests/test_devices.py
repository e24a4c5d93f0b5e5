"""Layers and networks stay on the device of their inputs."""

from functools import partial

import pytest
import torch
from cases import CASES
from devices import check_device
from network_cases import HEADS, PRIMARIES
from torch import nn

from fastweights import EmbeddingNetwork, HyperNetwork


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_stays_on_its_device(case):
    layer, x, context = case.make()
    check_device(layer, layer, *((x,) if case.context is None else (x, context)))


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
    check_device(partial(hyper, grouped=grouped), hyper, x, context)


def test_an_embedding_network_stays_on_its_device():
    primary = nn.Sequential(nn.Linear(8, 4), nn.ELU(), nn.Linear(4, 2))
    network = EmbeddingNetwork(primary, nn.Linear(6, 3))
    check_device(network, network, torch.randn(2, 5), torch.randn(2, 6))
