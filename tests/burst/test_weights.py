import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fastweights.burst import models, weights
from fastweights.burst.errors import BurstError
from fastweights.burst.models import ModelConfig

SMALL = ModelConfig(task="camera", unit_sum=True, width=8, post=8, frames=3, kernel_size=3)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package folder with two small networks."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    for name in ("small", "another"):
        weights.save_weights(tmp_path / f"{name}.safetensors", models.build(SMALL), SMALL, {"name": name})
    return tmp_path


def test_round_trip(tmp_path):
    model = models.build(SMALL).to(memory_format=torch.channels_last)
    path = weights.save_weights(tmp_path / "a.safetensors", model, SMALL, {"steps": 3, "data": ["x"]})
    state = torch.random.get_rng_state()
    again = weights.load(path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not again.training
    assert again.config == SMALL
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert again.state_dict().keys() == model.state_dict().keys()
    assert weights.card(path) == {"steps": 3, "data": ["x"]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_shipped_names(shipped):
    assert weights.available() == ["another", "small"]
    assert weights.card("small") == {"name": "small"}
    assert weights.load("small").config == SMALL
    with pytest.raises(BurstError, match="no weights named 'large': give one of another, small, or the path"):
        weights.load("large")


def test_files_that_are_not_ours(shipped):
    text = shipped / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(BurstError, match=r"text.safetensors' is not a readable safetensors file"):
        weights.load(text)
    save_file({"x": torch.zeros(1)}, shipped / "foreign.safetensors")
    with pytest.raises(BurstError, match="holds no fastweights network"):
        weights.load(shipped / "foreign.safetensors")
    with pytest.raises(BurstError, match=r"no weights file at 'gone.safetensors'"):
        weights.load("gone.safetensors")
    other = models.build(ModelConfig(width=8, post=8))
    weights.save_weights(shipped / "misfit.safetensors", other, SMALL, {})
    with pytest.raises(BurstError, match=r"do not fit this version of fastweights \(Missing key.*\)"):
        weights.load(shipped / "misfit.safetensors")


def test_a_spoilt_file_makes_no_picture(shipped):
    model = models.build(SMALL)
    next(model.parameters()).data[0] = torch.nan
    weights.save_weights(shipped / "nan.safetensors", model, SMALL, {})
    with pytest.raises(BurstError, match=r"weights in .*nan.safetensors' are not finite \(.*\): train them again"):
        weights.load(shipped / "nan.safetensors")


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_a_card_that_is_no_card(shipped, text):
    path = shipped / "small.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {"card": text}
    save_file(models.build(SMALL).state_dict(), path, metadata)
    with pytest.raises(BurstError, match="model card in 'small' is no JSON object"):
        weights.card("small")


def test_every_error_is_one_line(shipped):
    truncated = shipped / "half.safetensors"
    content = (shipped / "small.safetensors").read_bytes()
    truncated.write_bytes(content[: len(content) // 2])
    with pytest.raises(BurstError) as caught:
        weights.load(truncated)
    assert "\n" not in str(caught.value)


def test_where_not_to_write(tmp_path):
    model = models.build(SMALL)
    with pytest.raises(BurstError, match=r"must end in .safetensors"):
        weights.save_weights(tmp_path / "a.pt", model, SMALL, {})
    with pytest.raises(BurstError, match="there is no folder"):
        weights.save_weights(tmp_path / "no" / "a.safetensors", model, SMALL, {})
    with pytest.raises(TypeError):
        weights.save_weights(tmp_path / "a.safetensors", model, SMALL, {"not": torch})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", weights.available())
def test_what_ships_loads_and_has_a_card(name):
    assert not weights.load(name).training
    assert (weights.FOLDER / f"{name}.md").read_text().strip()
    assert {"training", "figures"} <= weights.card(name).keys()
