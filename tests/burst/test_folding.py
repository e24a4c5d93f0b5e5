"""Kernel networks as gated networks: the same picture, truncation by real pictures, and the command."""

import dataclasses
import json

import pytest
import torch
from burst.test_models import CAMERA, PAPER, shaken

from fastweights import __main__ as program
from fastweights.burst import conversion, demo, folding, images, weights
from fastweights.burst.errors import BurstError
from fastweights.burst.models import ModelConfig, build
from fastweights.burst.pipeline import denoise
from fastweights.burst.transfer import srgb_decode

KERNELS = [config for config in (*PAPER, *CAMERA) if config.kind == "kpn"]


def bursts(config, size=(13, 18)):
    if config.task == "camera":
        counts = torch.ones(2, 8, dtype=torch.float64)
        return torch.rand(2, 8, 3, *size, dtype=torch.float64), counts
    return torch.rand(2, 8, *size, dtype=torch.float64), torch.rand(2, 1, *size, dtype=torch.float64)


@pytest.mark.parametrize("config", KERNELS, ids=str)
def test_the_picture_is_the_same_in_float64(config):
    network = shaken(build(config).double())
    gated, found = folding.fold(network)
    inputs = bursts(config)
    torch.testing.assert_close(gated(*inputs), network(*inputs), rtol=1e-10, atol=1e-10)
    assert gated.config.kind == "gated"
    # 200 taps; a 3 x 3 head on 6 features has rank 9 * 6 + 1, a bottleneck of 3 features 3 + 1.
    assert {weight.gates for weight in found} == {4 if config.features else 55}
    assert all(weight.bound == 0 for weight in found)


def test_kernels_of_zero_sum_need_a_gate_less():
    network = shaken(build(ModelConfig(width=4, post=30, unit_sum=True)))
    _, (weight,) = folding.fold(network)
    assert (weight.kernel, weight.gates) == (200, 199)


@pytest.mark.parametrize("config", KERNELS[::2], ids=str)
def test_truncation_by_real_pictures_beats_singular_values(config):
    network = shaken(build(config).double())
    inputs, others = bursts(config), bursts(config)

    def error(gated):
        return (gated(*others) - network(*others)).square().mean().item()

    whole = folding.fold(network, 3)
    seen = folding.observe(network, [inputs])
    chosen = folding.fold(network, 3, seen)
    assert error(chosen[0]) < 0.2 * error(whole[0])
    # And the singular values have the smaller certified bound.
    assert all(w.bound <= c.bound for w, c in zip(whole[1], chosen[1], strict=True))
    assert all(w.measured is None and 0 < c.measured < 1 for w, c in zip(whole[1], chosen[1], strict=True))
    kernels = {name: dataclasses.replace(one, metric=None) for name, one in seen.items()}
    if not config.unit_sum:  # brightness is most of a picture, and counts where kernels have a sum
        assert error(chosen[0]) < error(folding.fold(network, 3, kernels)[0])


def test_the_bound_holds_for_every_kernel():
    network = shaken(build(ModelConfig(width=4, post=6, features=5)).double())
    inputs = bursts(network.config)
    gated, (weight,) = folding.fold(network, 3, folding.observe(network, [inputs]))
    features = network.weight.predictor(network.trunk(torch.cat(inputs, dim=1)))
    seen = (features.dense().square().sum(1) + 1).sqrt()
    kernels, short = (one.weight.weight(one.trunk(torch.cat(inputs, dim=1))) for one in (network, gated))
    error = torch.linalg.matrix_norm(kernels - short)
    assert (error <= weight.bound * seen * (1 + 1e-9)).all()
    assert error.max() > 1e-3


@pytest.mark.parametrize("rank", [0, -2, 5, 400])
def test_impossible_ranks(rank):
    with pytest.raises(BurstError, match=f"rank is {rank}: this network has 4 gates without any loss, give 1 to 4"):
        folding.fold(shaken(build(ModelConfig(width=4, post=6, features=3))), rank)


def test_what_is_kept_still_sums_to_zero():
    network = shaken(build(ModelConfig(width=4, post=6, unit_sum=True)).double())
    gated, _ = folding.fold(network, 3, folding.observe(network, [bursts(network.config)]))
    filters = gated.weight.structure.v
    assert filters.sum(1).abs().max() < 1e-12 < 0.1 < filters[:3].norm(dim=1).min()


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(BurstError, match="gated already, with 7 gates"):
        folding.fold(build(ModelConfig(width=4, post=6, kind="gated", maps=7)))
    with pytest.raises(BurstError, match="a basis for each image"):
        folding.fold(build(ModelConfig(width=4, post=6, kind="basis", maps=7)))


def test_the_shipped_network_keeps_its_picture():
    """In float32, on a burst that is aligned, scaled and denoised as the command does it."""
    network = weights.load("kpn")
    gated, _ = folding.fold(network)
    frames = demo.synthesise(images.read(images.SAMPLE)[:, 100:196, 180:300])[0]
    before, after = (
        srgb_decode(denoise(frames, model=one, reference=0, precision="float32").image) for one in (network, gated)
    )
    assert (after - before).abs().max() < 1e-4
    assert (before - before.mean()).abs().max() > 0.1


@pytest.fixture
def small(tmp_path):
    """A network file, photos, and a place for the result."""
    config = ModelConfig(task="camera", width=4, post=4, kernel_size=3, unit_sum=True)
    weights.save_weights(tmp_path / "small.safetensors", shaken(build(config)), config, {"steps": 3})
    (tmp_path / "photos").mkdir()
    images.write(tmp_path / "photos" / "a.png", images.read(images.SAMPLE)[:, :200, :210])
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def few_small_bursts(monkeypatch):
    for name, value in {"_PATCH": 32, "_BURSTS": 4, "_JUDGED": 4}.items():
        monkeypatch.setattr(conversion, name, value)


@pytest.mark.parametrize("flags", [[], ["--rank", "3"], ["--rank", "3", "--data", "photos"], ["--data", "photos"]])
def test_the_command_writes_a_network_like_any_other(small, flags, capsys, monkeypatch):
    monkeypatch.chdir(small)
    monkeypatch.setenv("COLUMNS", "80")
    assert (
        program.main(["convert", "small.safetensors", "-o", "out/g.safetensors", *flags, "--json", "out/g.json"]) == 0
    )
    printed = capsys.readouterr().out
    for text in ("luma", "chroma", "gates", "parameters", "multiply-adds", "largest tensor", "PSNR"):
        assert text in printed
    assert ("truncated: " if "--rank" in flags else "exact: ") in printed
    assert ("photos of photos" if "--data" in flags else "the photo that ships") in " ".join(printed.split())
    assert sorted(path.name for path in (small / "out").iterdir()) == ["g.json", "g.safetensors"]

    found = json.loads((small / "out" / "g.json").read_text())
    assert found["exact"] == ("--rank" not in flags)
    assert (found["difference"] < 1e-5) == found["exact"]
    network, gated = weights.load("small.safetensors"), weights.load("out/g.safetensors")
    assert gated.config.maps == (3 if "--rank" in flags else 37)
    assert found["after"]["parameters"] == sum(p.numel() for p in gated.parameters())
    card = weights.card("out/g.safetensors")
    assert card["source"] == {"steps": 3}
    assert card["converted"]["checksum"] == weights.checksum("small.safetensors")
    frames = images.read(images.SAMPLE)[None, :, 200:240, 300:350] + 0.05 * torch.randn(3, 3, 40, 50)
    before, after = (denoise(frames, model=one, reference=0, precision="float32").image for one in (network, gated))
    assert found["exact"] == torch.allclose(before, after, atol=1e-4)
    assert program.main(["convert", "out/g.safetensors", "-o", "out/h.safetensors"]) == 2
    assert "gated already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (["gone.safetensors", "-o", "out/g.safetensors"], "gone.safetensors"),
        (["vgg", "-o", "out/g.safetensors"], "no weights named 'vgg'"),
        (["gated", "-o", "out/g.safetensors"], "gated already"),
        (["small.safetensors", "-o", "out/g.safetensors", "--rank", "0"], "rank is 0"),
        (["small.safetensors", "-o", "out/g.safetensors", "--rank", "38"], "give 1 to 37"),
        (["small.safetensors", "-o", "out/g.safetensors", "--rank", "two"], "two"),
        (["small.safetensors", "-o", "out/g.safetensors", "--data", "nowhere"], "nowhere"),
        (["small.safetensors", "-o", "out/g.safetensors", "--data", "out"], "no photo in 'out'"),
        (["small.safetensors", "-o", "out/g.pt"], ".safetensors"),
        (["small.safetensors", "-o", "nowhere/g.safetensors"], "nowhere"),
        (["small.safetensors", "-o", "small.safetensors"], "exists"),
        (["small.safetensors", "-o", "out"], "exists"),
        (["small.safetensors", "-o", "out/g.safetensors", "--json", "nowhere/g.json"], "nowhere/g.json"),
        (["small.safetensors", "-o", "out/g.safetensors", "--json", "out"], "cannot write out"),
        (["small.safetensors"], "--output"),
        (["photos/a.png", "-o", "out/g.safetensors"], "photos/a.png"),
    ],
)
def test_every_error_is_one_line_and_nothing_is_written(small, arguments, mentioned, capsys, monkeypatch):
    monkeypatch.chdir(small)
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert program.main(["convert", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert mentioned in err
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_a_full_disk_leaves_nothing_behind(small, monkeypatch, capsys):
    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(small)
    monkeypatch.setattr(type(small), "write_bytes", full)
    assert program.main(["convert", "small.safetensors", "-o", "out/g.safetensors"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list((small / "out").iterdir()) == []
