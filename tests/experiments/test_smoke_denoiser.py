"""Experiments on the denoiser run from end to end on a small scale, and write what they say."""

import json

import torch

from experiments.denoiser import ablation, motion_suite
from experiments.denoiser.real_burst import by_region, figures


def test_regions_of_a_real_burst_are_told_apart():
    torch.manual_seed(0)
    truth = torch.full((3, 160, 320), 0.2)
    truth[:, :, 160:] += 0.1 * torch.rand(3, 160, 160)
    noisy = truth.clone()
    noisy[:, :, :160] += 0.01 * torch.randn(3, 160, 160)
    found = by_region(noisy, truth)
    assert found["textured"] == 0
    assert found["flat"] > 1
    assert figures(truth + 1e-6, truth)["psnr"] > 60


def test_fixed_pattern(run, data, tmp_path):
    run("denoiser.fixed_pattern", "--result", tmp_path / "r.json", data=data)
    bursts = json.loads((tmp_path / "r.json").read_text())["bursts"]
    assert all(abs(row["common to far frames"]) < 0.01 for row in bursts["simulated, no pattern"].values())
    assert all(row["common to far frames"] > 0.1 for row in bursts["simulated, with a pattern"].values())


def test_bm3d_strength(run, data, tmp_path):
    run("denoiser.bm3d_strength", "--smoke", "--result", tmp_path / "r.json", data=data)
    rows = json.loads((tmp_path / "r.json").read_text())["psnr by strength"]
    assert rows["camera"]["spectrum"]["1.25"] > rows["camera"]["spectrum"]["0.6"]
    # What was found stays, and other strengths come beside it.
    run("denoiser.bm3d_strength", "--smoke", "--strengths", 2.0, "--result", tmp_path / "r.json", data=data)
    again = json.loads((tmp_path / "r.json").read_text())["psnr by strength"]
    assert set(again["camera"]["white"]) == {"0.6", "0.8", "1.0", "1.25", "1.5", "2.0"}


def test_motion_suite(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(motion_suite, "SIDE", 128)
    run("denoiser.motion_suite", "--count", 1, "--result", tmp_path / "r.json", data=data)
    kinds = json.loads((tmp_path / "r.json").read_text())["kinds"]
    assert set(kinds["one black frame"]) == {
        "one frame",
        "shifts",
        "register",
        "without it",
        "no noise",
        "cost of the bad frame",
    }


def test_ablation_makes_the_rows_that_the_result_lacks(run, data, tmp_path):
    small = ("--steps", 1, "--count", 2, "--patch", 32, "--result", tmp_path / "r.json")
    run("denoiser.ablation", *small, data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result["psnr"]) == {"mean of the frames", *ablation.ROWS}
    kept = result["psnr of each burst"].pop("one kernel for the colours")
    (tmp_path / "r.json").write_text(json.dumps(result))
    shown = run("denoiser.ablation", *small, data=data)
    assert json.loads((tmp_path / "r.json").read_text())["psnr of each burst"]["one kernel for the colours"] == kept
    assert "as shipped ━" not in shown


def test_survival(run, data, tmp_path):
    # Every process reads the photos, so there are few.
    (photos := tmp_path / "train" / "wikipedia38").mkdir(parents=True)
    for photo in sorted((data / "train" / "wikipedia38").glob("[0-9]*"))[:5]:
        (photos / photo.name).symlink_to(photo)
    small = ("--steps", 6, "--every", 2, "--kills", 1, "--width", 4)
    run("denoiser.survival", *small, "--result", tmp_path / "r.json", data=tmp_path)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["same weights"]
    assert result["same losses"]
