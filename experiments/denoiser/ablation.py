"""What each choice in the camera denoiser is worth: one thing changed at a time, trained alike, judged alike.

Claim: noise as a camera's files have it, colours denoised together, a kernel of its own for chroma, kernels that sum to
one and a start at the mean of the frames each help. Command: `python -m experiments.denoiser.ablation`, 5 to 15 minutes
a row on one thread (a row that was written is not made again), 1 seed. Needs FASTWEIGHTS_DATA: training photos alone,
the bursts that judge are of held-back ones. Every row starts afresh and sees the same bursts, by the loss and schedule
of `fastweights train` but far shorter, so small differences say how fast a network learns, not what it would reach.
Measured: results/ablation.json. The claim holds for the noise (-.75 +- .16 dB without) and the sum (-.16 +- .03), and
not for the rest: each colour alone -.03 +- .06, one set of gates for all +.11 +- .10, a random start +.21 +- .09.
"""

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from cyclopts import App
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, Dataset, default_collate

from experiments import data, report
from fastweights.burst import evaluate, weights
from fastweights.burst.losses import psnr
from fastweights.burst.models import CameraDenoiser
from fastweights.burst.settings import TrainConfig, learning_rate
from fastweights.burst.statistics import burst_statistics
from fastweights.burst.synthesis.bias import with_bias
from fastweights.burst.synthesis.camera import draw_camera
from fastweights.burst.synthesis.camera_bursts import CameraBurst, CameraBursts
from fastweights.burst.synthesis.photos import load_photos, split
from fastweights.burst.tasks import CameraTask
from fastweights.burst.transfer import srgb_decode, srgb_encode

RESULT = Path("results/ablation.json")
MODEL = weights.load("gated").config
SEED, JUDGED_SEED = 0, 20180518
# Frames beside the burst's, of which the shadows' bias is estimated.
EXTRA = 4
app = App(help=__doc__, help_format="plaintext")


class WhiteBursts(Dataset[CameraBurst]):
    """The bursts of `CameraBursts` with noise added to finished pictures: white, and alike in all colours."""

    def __init__(self, photos: Sequence[np.ndarray], seed: int, patch: int):
        self.settings: dict[str, Any] = {"photos": photos, "seed": seed, "patch": patch, "frames": 8, "aligned": 0.8}

    def __getitem__(self, number: int) -> CameraBurst:
        rng = np.random.default_rng([SEED, number])
        camera = draw_camera(rng)
        silent = dataclasses.replace(camera, shot=0.0, read=0.0, pattern=(0.0, 0.0), blotches=0.0)
        burst = CameraBursts(**self.settings, camera=silent, truth="clean")[number]
        gain = (camera.gains[0] + 1 + camera.gains[1]) / 3
        still = torch.cat([burst.frames, burst.truth.expand(EXTRA, -1, -1, -1)])
        std = (camera.shot * gain * still + (camera.read * gain) ** 2).sqrt()
        noisy = still + std * torch.from_numpy(rng.standard_normal(still.shape, dtype=np.float32))
        shot = srgb_decode((srgb_encode(noisy.clamp(0, 1)) * 255).round() / 255)
        truth = with_bias(burst.truth, shot[-EXTRA:])
        frames = shot[: len(burst.frames)]
        error = (srgb_encode(frames[0]) - srgb_encode(truth)).abs().mean()
        return CameraBurst(frames, burst.counts, truth, error)


class Grey(CameraDenoiser):
    """Each colour by itself, shown as a grey picture."""

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        planes = [super(Grey, self).forward(plane.expand(-1, -1, 3, -1, -1), counts) for plane in frames.split(1, 2)]
        return torch.cat([plane.mean(1, keepdim=True) for plane in planes], 1)


class Shared(CameraDenoiser):
    """One kernel for all three colours."""

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        statistics = burst_statistics(frames, counts)
        product = self.luma.product(self.luma.code(self.trunk(statistics.inputs())), frames.movedim(2, 1))
        return statistics.mean + product.squeeze(2)


def free_sum(network: CameraDenoiser) -> CameraDenoiser:
    """Kernels without the projection on zero sum."""
    for weight in (network.luma, network.chroma):
        parametrize.remove_parametrizations(weight.structure, "v", leave_parametrized=True)
    return network


def random_start(network: CameraDenoiser) -> CameraDenoiser:
    """Heads of full size: the first picture is far from the mean of the frames."""
    for weight in (network.luma, network.chroma):
        with torch.no_grad():
            cast(nn.Conv2d, cast(nn.Sequential, weight.predictor)[0]).weight.mul_(200)
    return network


ROWS: dict[str, Callable[[], CameraDenoiser]] = {
    "as shipped": lambda: CameraDenoiser(MODEL),
    "white noise": lambda: CameraDenoiser(MODEL),
    "each colour alone": lambda: Grey(MODEL),
    "one kernel for the colours": lambda: Shared(MODEL),
    "kernels of any sum": lambda: free_sum(CameraDenoiser(MODEL)),
    "random start": lambda: random_start(CameraDenoiser(MODEL)),
}


def train(row: str, photos: Sequence[np.ndarray], steps: int, patch: int) -> nn.Module:
    """A network of a row, trained: its weights averaged along the way, as `fastweights train` does."""
    torch.manual_seed(SEED)
    network = ROWS[row]()
    task = CameraTask(patch, MODEL.frames, "mean", aligned=0.8, jpeg=0.0)
    bursts: Any = WhiteBursts(photos, SEED, patch) if row == "white noise" else task.bursts(photos, SEED)
    config = TrainConfig(("photos",), "", MODEL, steps=steps)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    groups = [list(range(first, first + config.batch)) for first in range(0, steps * config.batch, config.batch)]
    for step, batch in enumerate(track(DataLoader(bursts, batch_sampler=groups, num_workers=1), row, total=steps)):
        optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        batch = CameraBurst(*batch)
        with torch.autocast("cpu", torch.bfloat16):
            picture = network(batch.frames, batch.counts).float()
        optimizer.zero_grad()
        task.loss(lambda *_, made=picture: made, batch, step).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(averaged.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - min(config.ema, (1 + step) / (10 + step)))
    return averaged


@torch.no_grad()
def judge(network: nn.Module, photos: Sequence[np.ndarray], count: int, patch: int) -> list[float]:
    """PSNR of each of `count` camera bursts of held-back photos."""
    bursts = CameraTask(patch, MODEL.frames, "mean", aligned=0.8, jpeg=0.0).bursts(photos, JUDGED_SEED)
    figures = []
    for number in range(count):
        burst = CameraBurst(*default_collate([bursts[number]]))
        picture = network(burst.frames, burst.counts)
        figures.append(psnr(picture, burst.truth, clip=True, encode=srgb_encode).item())
    return figures


class Mean(nn.Module):
    """The mean of the frames."""

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        return (frames * (counts / counts.sum(1, keepdim=True))[:, :, None, None, None]).sum(1)


@app.default
def main(*, steps: int = 800, count: int = 96, patch: int = 128, result: Path = RESULT) -> None:
    """Train and judge every row that the result lacks, and print the table.

    Args:
        steps: Training steps of four bursts.
        count: Held-back bursts that judge.
        patch: Pixels of a burst's side.
        result: The JSON file read and written.
    """
    torch.set_num_threads(1)
    settings = {"steps": steps, "bursts": count, "patch": patch, "seed": SEED}
    content = json.loads(result.read_text()) if result.exists() else {}
    each: dict[str, list[float]] = content["psnr of each burst"] if content.get("settings") == settings else {}
    photos, held_back = split(load_photos(data.training_photos()))
    each.setdefault("mean of the frames", judge(Mean(), held_back, count, patch))
    for row in ROWS:
        if row not in each:
            each[row] = [round(one, 3) for one in judge(train(row, photos, steps, patch), held_back, count, patch)]
        against = evaluate.paired(each[row], each["as shipped"])
        table = {name: round(float(np.mean(figures)), 2) for name, figures in each.items()}
        report.write(result, {"settings": settings, "psnr": table, "psnr of each burst": each})
        print(f"{row:28} {table[row]:6.2f} dB, {against['difference']:+.2f} ± {against['error']:.2f}", flush=True)
    print(f"mean of the frames {table['mean of the frames']:.2f} dB")


if __name__ == "__main__":
    app()
