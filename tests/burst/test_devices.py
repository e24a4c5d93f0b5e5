"""Burst networks stay on the device of their inputs."""

import pytest
import torch
from devices import check_device

from fastweights.burst.models import ModelConfig, build

BURSTS = {
    "kernels": ModelConfig(width=4, post=6),
    "few features": ModelConfig(width=4, post=6, features=3),
    "gates": ModelConfig(kind="gated", width=4, post=6, maps=5),
}


@pytest.mark.parametrize("name", BURSTS)
def test_a_burst_network_stays_on_its_device(name):
    network = build(BURSTS[name])
    check_device(network, network, torch.rand(2, 8, 16, 24), torch.rand(2, 1, 16, 24))
