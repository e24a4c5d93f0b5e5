"""A SIREN hypernetwork beside a modulated SIREN at equal multiply-adds: how well do both fit many real photos?

Question: many signals by one SIREN, should a context gate its activations (Mehta 2021) or predict its weights (Sitzmann
2020), if either may compute as much?
Command: `python -m experiments.siren.photos`, resumed by calling it again; needs FASTWEIGHTS_DATA.
Photos of train/wikipedia38, the middle square scaled to 32 x 32; every photo has a latent of its own, learned with the
network (Adam, all pixels of all photos in each step, cosine to zero). Both have three sine layers; the hypernetwork's
SIREN is 32 wide, the modulated one as wide as the same number of multiply-adds a photo allows, heads and modulator
counted. Parameters are not equal. Every rate is tried for both; PSNR is of the photos that were fitted.
Measured (results/siren_photos.json, docs/images/siren_photos.png: `--count 8 --rates 0.0001 0.0003 0.001 --seeds 2
--steps 300`), PSNR in dB; 2.47 million multiply-adds a photo and 217,027 parameters for the hypernetwork, 2.55 million
and 12,041 for the modulated SIREN of width 34:

    rate          .0001        .0003        .001
    hypernetwork  38.3 +- .3   39.4 +- .3   14.2 +- .01
    modulated     15.7 +- .3   21.7 +- .4   23.7 +- .6

Predicted weights fit far better at equal multiply-adds: for eight photos with 24,576 numbers the hypernetwork holds
nine times as many parameters as there are numbers. At .001 it learns nothing. After 300 steps the modulated SIREN is
not at its end. How they compare at equal parameters, or on photos not fitted, was not asked here.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments import data, report
from experiments.galanti2020 import sweep
from fastweights import zoo
from fastweights.burst.synthesis.photos import list_photos

RESULT, FIGURE = Path("results/siren_photos.json"), Path("docs/images/siren_photos.png")
EDGE, LATENT, WIDTH, LAYERS = 32, 64, 32, 3
METHODS = ("hypernetwork", "modulated")
app = sweep.app(__doc__)


class Fitted(nn.Module):
    """A network of coordinates and a latent, with a latent for each of the photos."""

    def __init__(self, network: nn.Module, photos: int):
        super().__init__()
        self.network = network
        self.latents = nn.Parameter(torch.randn(photos, LATENT))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 2) -> (photos, N, 3)."""
        return self.network(x.expand(len(self.latents), -1, -1), self.latents)


def photos(count: int) -> Tensor:
    """(count, 1024, 3) in [-1, 1]."""
    files = list_photos(data.training_photos())[:count]
    small = []
    for file in files:
        with Image.open(file) as photo:
            side = min(photo.size)
            left, top = ((length - side) // 2 for length in photo.size)
            square = photo.convert("RGB").crop((left, top, left + side, top + side))
            small.append(np.asarray(square.resize((EDGE, EDGE), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(small)).flatten(1, 2).float() / 127.5 - 1


def coordinates() -> Tensor:
    """(1024, 2) in [-1, 1]."""
    axis = (torch.arange(EDGE) + 0.5) * 2 / EDGE - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)


def build(method: str, count: int, width: int = WIDTH) -> Fitted:
    """Both with three sine layers and a linear one."""
    if method == "hypernetwork":
        network = zoo.SirenHyperNetwork(
            embedding_features=LATENT, hidden_features=width, hidden_layers=LAYERS - 1, hyper_hidden=LATENT
        )
        return Fitted(network, count)
    return Fitted(zoo.ModulatedSiren(2, 3, LATENT, hidden=width, layers=LAYERS), count)


def multiply_adds(network: Fitted) -> int:
    """Of one photo, all pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(coordinates())
    return counter.get_total_flops() // 2 // len(network.latents)


def equal_width(goal: int, count: int) -> int:
    """Width of the modulated SIREN with the fewest multiply-adds that are not below the goal."""
    return next(width for width in range(4, 200) if multiply_adds(build("modulated", count, width)) >= goal)


def train(network: Fitted, target: Tensor, rate: float, steps: int) -> list[float]:
    """PSNR of every photo, for values in [0, 1]."""
    optimiser = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    x = coordinates()
    for _ in range(steps):
        optimiser.zero_grad()
        (network(x) - target).square().mean().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        errors = ((network(x).clamp(-1, 1) - target) / 2).square().mean((1, 2))
    return (-10 * errors.log10()).tolist()


def draw(rows: list[dict[str, Any]]) -> Figure:
    """PSNR over the rate."""
    mpl.use("Agg")
    figure = Figure((5, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for method, colour in zip(METHODS, ("tab:blue", "tab:red"), strict=True):
        chosen = sorted((row for row in rows if row["method"] == method), key=lambda row: row["rate"])
        bars = [row["psnr"]["standard_error"] or 0 for row in chosen]
        axes.errorbar(
            [row["rate"] for row in chosen],
            [row["psnr"]["mean"] for row in chosen],
            bars,
            marker="o",
            capsize=3,
            color=colour,
            label=method,
        )
    axes.set(xscale="log", xlabel="learning rate", ylabel="PSNR, dB", title="Photos fitted, equal multiply-adds")
    axes.legend()
    return figure


@app.default
def main(
    *,
    count: int = 16,
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3),
    seeds: int = 3,
    steps: int = 600,
    result: Path = RESULT,
    figure: Path = FIGURE,
    smoke: bool = False,
) -> None:
    """Fit what the result file does not hold, print and draw.

    Args:
        count: photos.
        rates: learning rates.
        seeds: repetitions.
        steps: of Adam.
        result: the JSON file.
        figure: the picture.
        smoke: a few steps, for a test.
    """
    torch.set_num_threads(1)
    if smoke:
        count, rates, seeds, steps = 2, (1e-3,), 1, 5
    target, goal = photos(count), multiply_adds(build("hypernetwork", count))
    widths = {"hypernetwork": WIDTH, "modulated": equal_width(goal, count)}
    rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"] if result.exists() else []
    for rate in rates:
        for method in METHODS:
            key = {"method": method, "rate": rate, "photos": count, "seeds": seeds, "steps": steps}
            if any(key.items() <= row.items() for row in rows):
                continue
            means = []
            for seed in range(seeds):
                torch.manual_seed(seed)
                network = build(method, count, widths[method])
                found = train(network, target, rate, steps)
                means.append(sum(found) / len(found))
            cost = {"width": widths[method], "multiply-adds": multiply_adds(network)}
            cost["parameters"] = sum(p.numel() for p in network.parameters())
            rows.append(key | cost | {"psnr": sweep.summary(means)})
            report.write(result, {"measure": "mean PSNR of the fitted photos, dB", "rows": rows})
            print(f"{method:12} rate {rate:<6g} {sweep.line(rows[-1]['psnr'])} dB; {cost}", flush=True)
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw(rows).savefig(figure)


if __name__ == "__main__":
    app()
