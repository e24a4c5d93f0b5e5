import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastweights.__main__ import main
from fastweights.burst import images, weights
from fastweights.burst.cases import SETS, cases, real_case
from fastweights.burst.errors import BurstError
from fastweights.burst.evaluate import compare, evaluate
from fastweights.burst.methods import classical, fits, network_method
from fastweights.burst.models import ModelConfig, build
from fastweights.burst.transfer import srgb_decode, srgb_encode


@pytest.fixture(scope="module")
def photo():
    pixels = (images.read(images.SAMPLE) * 255).round().byte().permute(1, 2, 0)
    return np.ascontiguousarray(pixels.repeat(2, 2, 1).numpy())


@pytest.mark.parametrize("name", SETS)
def test_a_case_is_a_function_of_its_number(photo, name):
    first, again = cases(name, [photo], patch=48), cases(name, [photo], patch=48)
    one, same, other = first(1), again(1), first(2)
    assert torch.equal(one.frames, same.frames)
    assert not torch.equal(one.frames, other.frames)
    assert one.frames.shape == (8, 3 if name.startswith("camera") else 1, 48, 48)
    assert one.clip == (name != "paper")


def test_known_noise_is_what_the_frames_have(photo):
    case = cases("paper-gain8", [photo], patch=64)(0)
    error = case.frames[0] - case.truth
    assert (error / case.noise.at(case.truth)).std().item() == pytest.approx(1, abs=0.05)


def test_pictures_are_compared_as_they_are_seen():
    truth = torch.full((3, 40, 40), 0.2)
    case = real_case(srgb_encode(truth).expand(4, -1, -1, -1) + 0.01 * torch.randn(4, 3, 40, 40), truth)
    found, similar = compare(case, srgb_decode(srgb_encode(truth) + 0.1))
    assert found == pytest.approx(20, abs=1e-3)
    assert similar < 1
    assert compare(case, truth)[1] == pytest.approx(1)


def test_scores_are_means_over_the_same_bursts(photo):
    case_of = cases("camera", [photo], patch=48)
    seen = []
    methods = {"truth": lambda case: case.truth + 1e-4, **classical(bm3d=False)}
    scores, each = evaluate(case_of, 3, methods, lambda number, case, pictures: seen.append(sorted(pictures)))
    assert seen == [sorted(methods)] * 3
    assert scores["truth"].psnr > scores["mean"].psnr > scores["one frame"].psnr
    assert scores["mean"].psnr == pytest.approx(np.mean(each["mean"]))
    assert scores["mean"].psnr_error == pytest.approx(np.std(each["mean"], ddof=1) / 3**0.5)


def test_networks_meet_the_bursts_they_are_for(photo):
    small = {"width": 4, "post": 4}
    paper, camera = build(ModelConfig(**small)), build(ModelConfig("camera", unit_sum=True, **small))
    for network, name in ((paper, "paper"), (camera, "camera")):
        assert [fits(network, one) for one in ("paper", "camera")] == [name == "paper", name == "camera"]
        case = cases(name, [photo], patch=48)(0)
        assert network_method(network)(case).shape == case.truth.shape


def test_the_command_writes_figures_pictures_and_looks(photo, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    images.write(folder / "a.png", torch.from_numpy(photo).permute(2, 0, 1) / 255)
    network = weights.save_weights(
        tmp_path / "small.safetensors",
        build(config := ModelConfig("camera", unit_sum=True, width=4, post=4)),
        config,
        {},
    )
    result = tmp_path / "scores.json"
    arguments = ["evaluate", folder, "--count", 2, "--no-bm3d", "--model", network, "--result", result]
    for look in (1, 2):
        assert main([*map(str, arguments), "--pictures", str(tmp_path)]) == 0
        assert f"look number {look} at camera" in capsys.readouterr().out
    found = json.loads(result.read_text())["sets"]["camera"]
    assert set(found["scores"]) == {*classical(bm3d=False), "small"}
    assert set(found["small above"]) == set(classical(bm3d=False))
    assert images.read(tmp_path / "camera-0.png").shape[0] == 3


def test_the_command_on_a_real_burst(tmp_path, capsys):
    clean = images.read(images.SAMPLE)[:, 100:200, 200:300]
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(4):
        images.write(frames / f"{number}.png", clean + 0.05 * torch.randn(clean.shape))
    np.save(tmp_path / "clean.npy", srgb_decode(clean).permute(1, 2, 0).numpy())
    images.write(tmp_path / "clean.png", clean, 16)
    for reference in ("clean.npy", "clean.png"):
        arguments = ["evaluate", frames, "--reference", tmp_path / reference, "--no-bm3d"]
        assert main([*map(str, arguments)]) == 0
        assert "align + mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "night"], "no set 'night'"),
        (["--count", "0"], "count is 0"),
        (["--result", "no/where.json"], "the folder no does not exist"),
        (["--pictures", "nowhere"], "nowhere is no folder"),
        (["--model", "nothing"], "no weights named 'nothing'"),
        (["--reference", "missing.npy"], "cannot read"),
    ],
)
def test_bad_input_is_one_line(photo, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        images.write(Path(f"{name}.png"), torch.from_numpy(photo).permute(2, 0, 1) / 255)
    assert main(["evaluate", ".", "--no-bm3d", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_another_set_is_refused(photo):
    with pytest.raises(BurstError, match="expected one of camera, camera-mean, camera-jpeg, paper"):
        cases("night", [photo])
