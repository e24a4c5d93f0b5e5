import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import fastweights
from fastweights.burst import checkpoint, models, tasks, weights
from fastweights.burst.errors import BurstError
from fastweights.burst.losses import annealing_weight, drawn_frame, paper_loss
from fastweights.burst.models import ModelConfig
from fastweights.burst.settings import TrainConfig, learning_rate, paper_protocol
from fastweights.burst.train import train

CAMERA = ModelConfig(task="camera", unit_sum=True, width=4, post=4, kernel_size=3, frames=4)
PAPER = ModelConfig(width=4, post=4, kernel_size=3, frames=3)
PROGRAM = """
import json, sys
from fastweights.burst.models import ModelConfig
from fastweights.burst.train import TrainConfig, train

settings = json.loads(sys.argv[1])
train(TrainConfig(**settings | {"model": ModelConfig(**settings["model"])}))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> str:
    """Six smooth photos."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(6):
        small = Image.fromarray(rng.integers(0, 256, (12, 14, 3), dtype=np.uint8))
        small.resize((112, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return str(folder)


def settings(photos: str, out: Path, model: ModelConfig = CAMERA, **changes) -> TrainConfig:
    few = {"steps": 6, "batch": 2, "patch": 24, "upscale": 1, "threads": 1, "workers": 0, "eval_bursts": 3}
    return TrainConfig((photos,), str(out), model, **few | {"log_every": 1, "eval_every": 3, "save_every": 2} | changes)


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in log(out) if "loss" in record]


def run(config: TrainConfig, *launcher: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(fastweights.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *(launcher or ("-c", PROGRAM)), json.dumps(dataclasses.asdict(config))]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("model", [CAMERA, PAPER], ids=["camera", "paper"])
def test_a_run_leaves_its_log_weights_and_figures(photos, tmp_path, model):
    state = torch.random.get_rng_state()
    result = train(settings(photos, tmp_path / "new" / "run", model))
    assert torch.equal(state, torch.random.get_rng_state())
    records = log(tmp_path / "new" / "run")
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in records if "psnr" in record] == [0, 3, 6]
    names = {"psnr", "psnr_mean", "psnr_one"}
    clipped = {"psnr_clipped", "psnr_clipped_mean", "psnr_clipped_one"} if model is PAPER else set()
    assert result.figures.keys() == names | clipped
    assert all(np.isfinite(value) for value in result.figures.values())
    assert same_weights(weights.load(result.weights), result.model)
    card = weights.card(result.weights)
    assert card["figures"] == result.figures
    assert card["training"]["steps"] == 6
    assert card["training"]["data"] == [Path(photos).name]
    assert str(Path(photos).parent) not in json.dumps(card)


def test_the_trivial_answers_of_the_camera_task(photos):
    task = tasks.CameraTask(patch=24, slots=4, truth="clean", aligned=0.5, jpeg=0.0)
    bursts = task.bursts([np.asarray(Image.open(path)) for path in sorted(Path(photos).iterdir())], 3)
    batch = torch.utils.data.default_collate([bursts[n] for n in range(30)])
    assert {1, 2, 5} <= set(batch.counts.flatten().tolist())
    for n in range(30):
        mean = sum(float(count) * frame for count, frame in zip(batch.counts[n], batch.frames[n], strict=True))
        torch.testing.assert_close(task.trivial(batch)["mean"][n], mean / batch.counts[n].sum())
    assert torch.equal(task.trivial(batch)["one"], batch.frames[:, 0])


def test_killed_and_resumed_gives_the_same_bits(photos, tmp_path):
    config = settings(photos, tmp_path / "killed", steps=40, save_every=1, workers=1)
    process = run(config)
    checkpoints = tmp_path / "killed" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("step-00000000[4-9]")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    resumed = train(config)
    whole = train(settings(photos, tmp_path / "whole", steps=40, save_every=100))
    assert same_weights(resumed.model, whole.model)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert resumed.figures == whole.figures


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_interrupted_and_resumed_gives_the_same_bits(photos, tmp_path, monkeypatch, ema):
    def interrupt(folder, step, *rest):
        if step == 5:
            raise KeyboardInterrupt
        return save(folder, step, *rest)

    save = checkpoint.save
    config = settings(photos, tmp_path / "cut", PAPER, steps=9, save_every=1, ema=ema, one_frame=True)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    resumed = train(dataclasses.replace(config, save_every=3))
    whole = train(dataclasses.replace(config, out=str(tmp_path / "whole")))
    assert same_weights(resumed.model, whole.model)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_follow_one(photos, tmp_path):
    alone = settings(photos, tmp_path / "alone", batch=4)
    train(alone)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    both = dataclasses.replace(alone, out=str(tmp_path / "both"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program))
    output, _ = (process := run(both, *launcher)).communicate(timeout=120)
    assert process.returncode == 0, output
    np.testing.assert_allclose(losses(tmp_path / "both"), losses(tmp_path / "alone"), rtol=1e-4)
    one, two = (weights.load(tmp_path / name / "weights.safetensors") for name in ("alone", "both"))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_two_runs_do_not_share_a_folder(photos, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(BurstError, match="another run is at work"):
        train(settings(photos, tmp_path))
    assert train(settings(photos, tmp_path)).weights.exists()


def test_a_finished_run_is_not_run_again(photos, tmp_path):
    config = settings(photos, tmp_path)
    first = train(config)
    records = log(tmp_path)
    again = train(dataclasses.replace(config, workers=1, log_every=3))
    assert same_weights(first.model, again.model)
    assert (first.figures, first.loss) == (again.figures, again.loss)
    assert log(tmp_path) == records


def test_other_settings_do_not_resume(photos, tmp_path):
    config = settings(photos, tmp_path, steps=2)
    train(config)
    with pytest.raises(BurstError, match=r"holds a run with lr = 0.0006 and this one has 0.001: give another out"):
        train(dataclasses.replace(config, lr=1e-3))
    wider = dataclasses.replace(CAMERA, width=8)
    with pytest.raises(BurstError, match=r"holds a run with model.width = 4 and this one has 8"):
        train(dataclasses.replace(config, model=wider))
    Image.new("RGB", (112, 96)).save(Path(photos) / "more.png")
    with pytest.raises(BurstError, match="holds a run with photos = '6 photos, "):
        train(config)
    (Path(photos) / "more.png").unlink()


def test_starts_from_given_weights(photos, tmp_path):
    given = weights.save_weights(tmp_path / "given.safetensors", models.build(CAMERA), CAMERA, {})
    result = train(settings(photos, tmp_path / "run", start=str(given), steps=1, lr=0.0))
    assert same_weights(result.model, weights.load(given))


def test_averaged_weights_lag_behind(photos, tmp_path):
    plain = train(settings(photos, tmp_path / "plain", ema=0.0, steps=2, schedule="constant"))
    first = train(settings(photos, tmp_path / "first", ema=0.0, steps=1, schedule="constant"))
    averaged = train(settings(photos, tmp_path / "averaged", ema=0.999, steps=2, schedule="constant"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = models.build(CAMERA)
    decay = 2 / 11  # (1 + step) / (10 + step) at step 1
    for name, value in averaged.model.state_dict().items():
        one = torch.lerp(start.state_dict()[name], first.model.state_dict()[name], 1 - 1 / 10)
        torch.testing.assert_close(value, torch.lerp(one, plain.model.state_dict()[name], 1 - decay))


def test_bfloat16_trains_beside_float32(photos, tmp_path):
    half = train(settings(photos, tmp_path / "half", precision="bfloat16"))
    full = train(settings(photos, tmp_path / "full"))
    assert half.loss == pytest.approx(full.loss, rel=0.05)
    assert all(value.dtype == torch.float32 for value in half.model.state_dict().values())


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(photos, tmp_path):
    with pytest.raises(BurstError, match=r"the loss is nan at step \d: train with a smaller lr"):
        train(settings(photos, tmp_path, PAPER, lr=1e30, clip=0.0, save_every=5, steps=9))
    assert not (tmp_path / "checkpoints").exists()


def test_the_annealed_loss_is_left_out_when_it_vanishes(photos):
    calls = []

    def network(frames, noise, per_frame=False):
        calls.append(per_frame)
        return frames[:, :, None] if per_frame else frames.mean(dim=1, keepdim=True)

    task = tasks.PaperTask(patch=24, frames=3, upscale=1, steps=100, annealed=True, one_frame=False, seed=0)
    bursts = task.bursts([np.asarray(Image.open(next(Path(photos).iterdir())))], 0)
    batch = torch.utils.data.default_collate([bursts[0], bursts[1]])
    switch = next(step for step in range(100) if annealing_weight(step, 100) <= tasks.NEGLIGIBLE)
    with_frames, without = task.loss(network, batch, switch - 1), task.loss(network, batch, switch)
    assert calls == [True, False]
    torch.testing.assert_close(with_frames, without, rtol=1e-4, atol=0)
    assert dataclasses.replace(task, annealed=False).loss(network, batch, 0) == without


def test_one_drawn_frame_needs_its_own_estimate_alone(photos):
    network = models.build(PAPER).double()
    task = tasks.PaperTask(patch=24, frames=PAPER.frames, upscale=1, steps=100, annealed=True, one_frame=True, seed=3)
    bursts = task.bursts([np.asarray(Image.open(next(Path(photos).iterdir())))], 0)
    batch = torch.utils.data.default_collate([bursts[0], bursts[1]])
    batch = type(batch)(*(part.double() for part in batch))
    estimates = network(*task.inputs(batch), per_frame=True)
    drawn = drawn_frame(3, 4, PAPER.frames)
    wanted = paper_loss(
        estimates.mean(1), estimates[:, drawn : drawn + 1], batch.truth, batch.white_level, 4, 100, PAPER.frames
    )
    torch.testing.assert_close(task.loss(network, batch, 4), wanted)


def test_learning_rate():
    config = TrainConfig((), "run", steps=1000, lr=2.0, warmup=0.1)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert max(rates) == rates[99] == rates[100] == 2
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < 1e-4
    protocol = paper_protocol(ModelConfig(), ("photos",), "run")
    assert {learning_rate(protocol, step) for step in range(0, 500_000, 9999)} == {1e-4}
    assert (protocol.batch, protocol.patch, protocol.steps, protocol.ema) == (4, 128, 500_000, 0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps is 0: give at least 1"),
        ({"workers": -1}, "workers is -1: give a finite number of at least 0"),
        ({"lr": float("nan")}, "lr is nan: give a finite number of at least 0"),
        ({"clip": float("inf")}, "clip is inf: give a finite number of at least 0"),
        ({"ema": 1.0}, "ema is 1.0: give at least 0 and less than 1"),
        ({"data": ()}, "no data: give at least one folder of photos"),
        ({"data": ("nowhere",)}, "no folder of photos at 'nowhere'"),
        ({"out": ""}, "out is '': give a folder"),
        ({"start": "nothing"}, "no weights named 'nothing'"),
        (
            {"start": "gated"},
            r"'gated' to begin with are of a network with kind gated, frames 8, .* has kind kpn, frames 4",
        ),
    ],
)
def test_errors(photos, tmp_path, changes, sentence):
    with pytest.raises(BurstError, match=sentence):
        train(dataclasses.replace(settings(photos, tmp_path / "run"), **changes))
    assert not (tmp_path / "run").exists()


def test_too_few_photos(photos, tmp_path):
    for number in range(3):
        Image.new("RGB", (112, 96)).save(tmp_path / f"{number}.png")
    with pytest.raises(BurstError, match=r"^3 photos in '[^']*': give at least 5"):
        train(settings(str(tmp_path), tmp_path / "run"))
