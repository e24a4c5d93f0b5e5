"""The photos that both sine networks fit, and that their cost is counted right."""

import json

import torch
from torch import nn

from experiments.siren import photos


def by_hand(linears, pixels):
    return pixels * sum(linear.in_features * linear.out_features for linear in linears)


def test_multiply_adds_are_those_of_the_layers():
    modulated = photos.build("modulated", 2, width=9)
    of_gates = [
        module for gate in modulated.network.gates for module in gate.predictor if isinstance(module, nn.Linear)
    ]
    of_pixels = [*modulated.network.linears, modulated.network.last]
    expected = by_hand(of_gates, 1) + by_hand(of_pixels, photos.EDGE**2)
    assert photos.multiply_adds(modulated) == expected
    hyper = photos.build("hypernetwork", 2, width=9)
    of_head = [module for coder in hyper.network.head.coders for module in coder if isinstance(module, nn.Linear)]
    templates = sum(structure.templates.numel() for structure in hyper.network.head.structures)
    baked = hyper.network.bake(hyper.latents[0].detach())
    of_siren = [module for module in baked if isinstance(module, nn.Linear)]
    expected = by_hand(of_head, 1) + templates + by_hand(of_siren, photos.EDGE**2)
    assert photos.multiply_adds(hyper) == expected


def test_equal_width_is_the_first_that_reaches_the_goal():
    goal = photos.multiply_adds(photos.build("hypernetwork", 2))
    width = photos.equal_width(goal, 2)
    assert photos.multiply_adds(photos.build("modulated", 2, width)) >= goal
    assert photos.multiply_adds(photos.build("modulated", 2, width - 1)) < goal


def test_photos(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTWEIGHTS_DATA", str(data))
    found = photos.photos(2)
    assert found.shape == (2, 1024, 3)
    assert -1 <= found.min() < found.max() <= 1
    kept = {"result": tmp_path / "r.json", "figure": tmp_path / "f.png", "smoke": True}
    photos.main(**kept)
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [row["method"] for row in rows] == list(photos.METHODS)
    assert rows[0]["multiply-adds"] <= rows[1]["multiply-adds"] < 1.1 * rows[0]["multiply-adds"]
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_training_raises_the_psnr():
    torch.manual_seed(0)
    target = torch.sin(3 * photos.coordinates() @ torch.ones(2, 3))[None].expand(2, -1, -1)
    network = photos.build("modulated", 2, width=32)
    before = photos.train(network, target, 0.0, 1)
    after = photos.train(network, target, 1e-3, 60)
    assert min(after) > max(before) + 3
