"""Does the paper's setting learn here? A short run of a burst network by the published protocol, on McMaster.

Claim: Table 1 gives 32.6 dB for the kernel prediction network after 500,000 steps, from 20.0 dB of a single frame.
Command: `python -m experiments.mueller2024.paper_protocol` trains half width for 2,000 steps (about 15 minutes on two
threads) and judges it on 72 bursts. Needs FASTWEIGHTS_DATA. A smoke run, not Table 1: a step is worth more here than
in the paper (learning rate 6e-4 with a cosine, not 1e-4), but there are 250 times fewer.
Measured: results/paper_protocol_smoke.json.
"""

from dataclasses import asdict
from pathlib import Path

import torch
from cyclopts import App
from torch import nn
from torch.utils.data import default_collate

from experiments import data, report
from fastweights.burst.losses import psnr
from fastweights.burst.models import ModelConfig
from fastweights.burst.settings import TrainConfig
from fastweights.burst.synthesis.paper import PaperBursts, noise_map
from fastweights.burst.synthesis.photos import load_photos
from fastweights.burst.train import train

RESULT = Path("results/paper_protocol_smoke.json")
TEST_SEED = 2024
app = App(help=__doc__, help_format="plaintext")


def settings(model: ModelConfig, out: Path, steps: int) -> TrainConfig:
    """The protocol for a short run: published loss and data, a faster schedule."""
    photos = data.training_photos()
    return TrainConfig((str(photos),), str(out), model, steps=steps, lr=6e-4, precision="bfloat16", ema=0.99)


@torch.no_grad()
def judge(model: nn.Module, bursts: int) -> dict[str, float]:
    """Mean PSNR in dB on McMaster bursts of the protocol, unclipped and clipped, beside the trivial answers."""
    generator = PaperBursts(load_photos(data.mcmaster()), TEST_SEED)
    totals: dict[str, float] = {}
    for number in range(bursts):
        burst = default_collate([generator[number]])
        noise = noise_map(burst.frames[:, 0], burst.sigma_read, burst.sigma_shot)[:, None]
        pictures = {
            "network": model(burst.frames, noise),
            "one frame": burst.frames[:, :1],
            "mean of 8": burst.frames.mean(1, keepdim=True),
        }
        for name, picture in pictures.items():
            for clip in (False, True):
                figure = psnr(picture, burst.truth[:, None], clip=clip, white_level=burst.white_level).item()
                key = f"{name}{', clipped' * clip}"
                totals[key] = totals.get(key, 0.0) + figure / bursts
    return {name: round(total, 2) for name, total in totals.items()}


@app.default
def main(
    *,
    steps: int = 2000,
    kind: str = "kpn",
    width: int = 32,
    post: int = 100,
    bursts: int = 72,
    out: Path = Path("runs/paper-kpn"),
    result: Path = RESULT,
    smoke: bool = False,
) -> None:
    """Train and judge.

    Args:
        steps: Training steps of four bursts.
        kind: kpn or gated.
        width: Channels of the U-Net; 64 as published.
        post: Channels before the head; 200 as published.
        bursts: McMaster bursts of the judgement.
        out: Folder of the run; a run that was stopped goes on.
        result: The JSON file written.
        smoke: Two steps of a narrow network and two bursts, for a test.
    """
    if smoke:
        steps, width, post, bursts = 2, 4, 4, 2
    model = ModelConfig(kind="gated" if kind == "gated" else "kpn", width=width, post=post)
    config = settings(model, out, steps)
    figures = judge(train(config).model, bursts)
    report.write(result, {"psnr": figures, "bursts": bursts, "test_seed": TEST_SEED, "training": _shown(config)})
    for name, figure in figures.items():
        print(f"{name:24} {figure:6.2f} dB")


def _shown(config: TrainConfig) -> dict[str, object]:
    return asdict(config) | {"data": [Path(folder).name for folder in config.data], "out": Path(config.out).name}


if __name__ == "__main__":
    app()
