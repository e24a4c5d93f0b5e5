import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fastweights.burst import checkpoint


def trained(steps: int, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small channels_last network with tied weights, and an optimizer with a state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        model[2].weight = model[1].weight
        model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(1, 3, 5, 5)).square().sum().backward()
            optimizer.step()
    return model, optimizer


def same_state(ours, theirs):
    assert ours.keys() == theirs.keys()
    for index in ours:
        for key, value in ours[index].items():
            assert torch.equal(value, theirs[index][key])
            assert value.stride() == theirs[index][key].stride()


def test_restores_every_bit_and_the_layout(tmp_path):
    model, optimizer = trained(3)
    ema, _ = trained(1)
    checkpoint.save(tmp_path, 3, model, optimizer, {"loss": 0.1 + 0.2}, ema)
    fresh, fresh_optimizer = trained(0, seed=1)
    fresh_ema, _ = trained(0, seed=2)
    found = checkpoint.load_latest(tmp_path)
    assert (found.step, found.meta) == (3, {"loss": 0.1 + 0.2})
    found.restore(fresh, fresh_optimizer, fresh_ema)
    for ours, theirs in ((fresh, model), (fresh_ema, ema)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name])
            assert value.stride() == theirs.state_dict()[name].stride()
    same_state(fresh_optimizer.state_dict()["state"], optimizer.state_dict()["state"])
    assert fresh_optimizer.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_files_are_plain_json_and_safetensors(tmp_path):
    path = checkpoint.save(tmp_path, 12, *trained(1), {"config": {"lr": 0.1}})
    assert sorted(file.name for file in path.iterdir()) == ["meta.json", "tensors.safetensors"]
    assert json.loads((path / "meta.json").read_text())["meta"] == {"config": {"lr": 0.1}}


def test_keeps_the_last_two(tmp_path):
    model, optimizer = trained(1)
    for step in (5, 900, 1000, 10_000):
        checkpoint.save(tmp_path, step, model, optimizer, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001000", "step-000010000"]
    assert checkpoint.load_latest(tmp_path).step == 10_000


def test_nothing_to_load(tmp_path):
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path / "no folder") is None


class Killed(BaseException):
    """As SIGKILL, not to be caught by the code under test."""


@pytest.mark.parametrize("moment", range(12))
def test_a_kill_at_any_moment_leaves_a_checkpoint(tmp_path, monkeypatch, moment):
    """Stop `save` before its n-th call of anything that touches the disk."""
    model, optimizer = trained(1)
    for step in (1, 2):
        checkpoint.save(tmp_path, step, model, optimizer, {})
    calls = 0

    def watched(function):
        def call(*arguments, **options):
            nonlocal calls
            if calls == moment:
                raise Killed
            calls += 1
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_to_disk", watched(checkpoint._to_disk))
        patch.setattr(checkpoint.shutil, "rmtree", watched(checkpoint.shutil.rmtree))
        for name in ("mkdir", "write_bytes", "write_text", "rename"):
            patch.setattr(Path, name, watched(getattr(Path, name)))
        try:
            checkpoint.save(tmp_path, 3, model, optimizer, {})
        except Killed:
            assert checkpoint.load_latest(tmp_path).step in (2, 3)
        else:
            assert moment >= calls
            assert checkpoint.load_latest(tmp_path).step == 3
    checkpoint.save(tmp_path, 4, model, optimizer, {})
    assert checkpoint.load_latest(tmp_path).step == 4
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["meta.json", "tensors.safetensors"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, name):
    model, optimizer = trained(1)
    for step in (1, 2):
        path = checkpoint.save(tmp_path, step, model, optimizer, {})
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    assert checkpoint.load_latest(tmp_path).step == 1
    (path / name).unlink()
    assert checkpoint.load_latest(tmp_path).step == 1


def test_the_same_step_again(tmp_path):
    model, optimizer = trained(1)
    checkpoint.save(tmp_path, 1, model, optimizer, {"loss": 1})
    checkpoint.save(tmp_path, 1, model, optimizer, {"loss": 2})
    assert checkpoint.load_latest(tmp_path).meta == {"loss": 2}
