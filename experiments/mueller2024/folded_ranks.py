"""How many gates does a trained kernel network need? PSNR by number of gates, without any training of the gates.

Claim (Sec. 4.1, 4.3): in a practical task a gated layer below full rank matches the quality of the predicted weights.
Here the strictest reading: the shipped `kpn` itself, whose kernels of 8 x 5 x 5 taps sum to zero (199 gates are exact),
with its heads cut to fewer gates, chosen by the heads' singular values, by the kernels of other bursts or by their
pictures (kernels weighed by the second moment of the frames that they meet).
Command: `python -m experiments.mueller2024.folded_ranks`, about a minute on two threads. Needs FASTWEIGHTS_DATA.
Measured: results/folded_ranks.json: chosen by kernels, 8, 16 and 32 gates lose .13 +- .02, .014 +- .004 and .000 dB; by
their pictures .05 +- .02, .008 +- .008 and .000; by singular values .48, .10 and .013.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cyclopts import App
from torch.utils.data import default_collate

from experiments import data, report
from fastweights.burst import folding, weights
from fastweights.burst.models import Denoiser
from fastweights.burst.synthesis.photos import load_photos, split
from fastweights.burst.tasks import CameraTask

RESULT = Path("results/folded_ranks.json")
RANKS = (4, 8, 16, 32, 64)
app = App(help=__doc__, help_format="plaintext")


@torch.no_grad()
def psnr(network: Denoiser, task: CameraTask, batches: list) -> list[float]:
    """PSNR in dB of each batch."""
    return [task.figures(task.denoise(network, batch), batch)["psnr"] for batch in batches]


@app.default
def main(*, model: str = "kpn", count: int = 24, result: Path = RESULT, smoke: bool = False) -> None:
    """Print PSNR by number of gates.

    Args:
        model: A kernel network that ships, or a .safetensors file.
        count: Bursts of held-back photos that are judged; as many of other photos choose the gates.
        result: The JSON file written.
        smoke: Few small bursts and ranks, for a test.
    """
    photos = load_photos(data.training_photos())
    network = weights.load(model)
    patch, count, ranks = (32, 2, RANKS[:2]) if smoke else (128, count, RANKS)
    task = CameraTask(patch, network.config.frames, "mean", aligned=1.0, jpeg=0.0)
    chosen_by, judged_by = (
        [default_collate([bursts[n], bursts[n + 1]]) for n in range(0, count, 2)]
        for bursts in (task.bursts(part, seed) for seed, part in enumerate(split(photos), 1))
    )
    inputs = [task.inputs(batch) for batch in chosen_by]
    before = psnr(network, task, judged_by)
    pictures = folding.observe(network, inputs)
    kernels = {name: replace(seen, metric=None) for name, seen in pictures.items()}
    rows = {}
    for rank in ranks:
        row = {}
        for name, seen in (("singular values", None), ("real kernels", kernels), ("real pictures", pictures)):
            gated, _ = folding.fold(network, rank, seen)
            change = np.subtract(psnr(gated, task, judged_by), before)
            error = float(change.std(ddof=1) / len(change) ** 0.5) if len(change) > 1 else None
            row[name] = {"change in dB": round(float(change.mean()), 3), "error": error and round(error, 3)}
        rows[str(rank)] = row
        print(f"{rank:3} gates:", row, flush=True)
    gated, exact = folding.fold(network)
    content = {
        "bursts": count,
        "kernels": {weight.name: weight.kernel for weight in exact},
        "gates without loss": {weight.name: weight.gates for weight in exact},
        "psnr of the kernels": round(float(np.mean(before)), 2),
        "psnr of all gates": round(float(np.mean(psnr(gated, task, judged_by))), 2),
        "by gates": rows,
    }
    report.write(result, content)


if __name__ == "__main__":
    app()
