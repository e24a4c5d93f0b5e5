"""Which conditioning should I use? Six ways to make one small network depend on a context, at equal size.

Task: by which multiple of 30 degrees was an MNIST digit turned (Galanti and Wolf 2020, Fig. 3)? x is the turned digit,
the context the upright one, both of 14 x 14 pixels. All methods share the shape of the network that reads the context
(196 -> 48 -> 16) and of g (196 -> h -> 12); h is chosen so that every method has as many parameters as the others.
Command: `python -m experiments.conditioning`, resumed by calling it again; needs FASTWEIGHTS_DATA.
Each method's learning rate is the best of three on held-back training digits. Digits of the test are never trained on.
Measured: results/conditioning.json, as a table with advice in docs/which_conditioning.md.
"""

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cyclopts import App
from torch import Tensor, nn

from experiments import report
from experiments.galanti2020.mnist import CLASSES, classes, digits, normalised, rotated
from fastweights import EmbeddingNetwork, HyperNetwork, PredictedWeight, cost, heads, zoo
from fastweights.axes import Channels
from fastweights.structures import Mixture

RESULT = Path("results/conditioning.json")
PIXELS, FEATURES, EXPERTS = 196, 16, 4
BUDGET, RATES, BATCH = 60_000, (0.003, 0.01, 0.03), 64
HELD = 5000
app = App(help=__doc__, help_format="plaintext")


@dataclass(frozen=True)
class Method:
    """A way of conditioning; `build(h)` is the network with h hidden features, called with (x, context)."""

    name: str
    build: Callable[[int], nn.Module]


class Conditioned(nn.Module):
    """196 -> h -> 12 with one conditioned layer: in place of the first one, or behind it."""

    def __init__(self, width: int, layer: nn.Module, reader: nn.Module, *, behind: bool):
        super().__init__()
        self.first = nn.Linear(PIXELS, width) if behind else nn.Identity()
        self.reader, self.layer, self.last = reader, layer, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.last(torch.relu(self.layer(self.first(x), self.reader(context))))


class Blind(nn.Module):
    """The network that never sees the context."""

    def __init__(self, width: int):
        super().__init__()
        self.network = primary(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.network(x)


def reader() -> nn.Sequential:
    """Context to 16 features. A ReLU at its end may die in all of them, and then nothing is read."""
    return nn.Sequential(nn.Linear(PIXELS, 48), nn.ReLU(), nn.Linear(48, FEATURES), nn.Tanh())


def primary(width: int, beside: int = 0) -> nn.Sequential:
    """196 -> h -> 12."""
    return nn.Sequential(nn.Linear(PIXELS + beside, width), nn.ReLU(), nn.Linear(width, CLASSES))


def mixture(width: int) -> PredictedWeight:
    """What CondConv is on vectors: a softmax of the features mixes four matrices, each started as a linear layer."""
    experts = torch.stack([nn.Linear(PIXELS, width).weight.detach() for _ in range(EXPERTS)])
    routing = nn.Sequential(nn.Linear(FEATURES, EXPERTS), nn.Softmax(-1))
    return PredictedWeight(Mixture(nn.Parameter(experts)), Channels(), routing)


METHODS = [
    Method("no context", Blind),
    Method("embedding", lambda h: EmbeddingNetwork(primary(h, FEATURES), reader())),
    Method("FiLM", lambda h: Conditioned(h, zoo.FiLM(h, FEATURES, dim=-1), reader(), behind=True)),
    Method("gating", lambda h: Conditioned(h, zoo.Gating(h, predictor=nn.Linear(FEATURES, h)), reader(), behind=True)),
    Method("mixture of 4", lambda h: Conditioned(h, mixture(h), reader(), behind=False)),
    Method("low-rank change", lambda h: HyperNetwork(primary(h), reader(), head=heads.LowRank(2), delta=True)),
    Method("hypernetwork", lambda h: HyperNetwork(primary(h), reader())),
]


def count(module: nn.Module) -> int:
    """Trained numbers."""
    return sum(p.numel() for p in module.parameters())


def width(method: Method) -> int:
    """The largest h within the budget; parameters grow by the same number with every h."""
    one, two = (count(method.build(h)) for h in (1, 2))
    return 1 + (BUDGET - one) // (two - one)


@functools.cache
def images(part: str) -> Tensor:
    """Digits: "train" without the last 5,000, which are "held"; "test"."""
    if part == "test":
        return digits("test")
    return digits("train")[:-HELD] if part == "train" else digits("train")[-HELD:]


def batch(part: str, chosen: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turned digits, upright ones, classes."""

    def small(pixels: Tensor) -> Tensor:
        return F.avg_pool2d(normalised(pixels).unflatten(-1, (1, 28, 28)), 2).flatten(1)

    digit = images(part)[chosen]
    return small(rotated(digit, degrees)), small(digit), classes(degrees)


def train(method: Method, seed: int, rate: float, steps: int) -> nn.Module:
    """Adam on batches of 64, at a rate that falls to zero along a cosine."""
    torch.manual_seed(seed)
    network = method.build(width(method))
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(977 * seed)
    for _ in range(steps):
        chosen = torch.randint(len(images("train")), (BATCH,), generator=generator)
        x, context, target = batch("train", chosen, 360 * torch.rand(BATCH, generator=generator))
        optimiser.zero_grad()
        F.cross_entropy(network(x, context), target).backward()
        optimiser.step()
        schedule.step()
    return network


@torch.no_grad()
def accuracy(network: nn.Module, part: str) -> float:
    """Share of right classes over all digits of a part, each at one angle."""
    everything = torch.arange(len(images(part)))
    degrees = 360 * torch.rand(len(everything), generator=torch.Generator().manual_seed(1))
    pieces = zip(everything.split(1000), degrees.split(1000), strict=True)
    right = [network(*inputs).argmax(-1) == target for *inputs, target in (batch(part, *piece) for piece in pieces)]
    return torch.cat(right).float().mean().item()


def milliseconds(network: nn.Module) -> float:
    """Processor time of a forward and backward pass over a batch, the fastest of 21."""
    x, context = torch.randn(BATCH, PIXELS), torch.randn(BATCH, PIXELS)
    times = []
    for _ in range(21):
        start = time.process_time()
        network(x, context).square().mean().backward()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def describe(method: Method, steps: int) -> dict[str, Any]:
    """What a method costs, and its learning rate."""
    network = method.build(width(method))
    x = torch.zeros(1, PIXELS)
    found = {rate: accuracy(train(method, 0, rate, steps // 3), "held") for rate in RATES}
    return {
        "hidden features": width(method),
        "parameters": count(network),
        "multiply-adds": cost.measure(network, x, x).multiply_adds,
        "milliseconds": round(milliseconds(network), 3),
        "rate": max(found, key=lambda rate: found[rate]),
        "accuracy": {},
    }


@app.default
def main(
    *, seeds: int = 3, steps: int = 600, time_only: bool = False, result: Path = RESULT, smoke: bool = False
) -> None:
    """Train what the result file does not hold yet.

    Args:
        seeds: Starts and orders of digits.
        steps: Batches of 64 in a training.
        time_only: Measure the milliseconds anew and train nothing.
        result: The JSON file, written after every training.
        smoke: A few steps and one seed, for a test; needs a result file of its own.
    """
    torch.set_num_threads(1)
    seeds, steps = (1, 6) if smoke else (seeds, steps)
    rows: dict[str, Any] = json.loads(result.read_text())["methods"] if result.exists() else {}
    head = {"steps": steps, "batch": BATCH, "test digits": 10_000}
    if time_only:
        for method in METHODS:
            rows[method.name]["milliseconds"] = round(milliseconds(method.build(width(method))), 3)
        report.write(result, head | {"methods": rows})
    for seed in range(0 if time_only else seeds):
        for method in METHODS:
            row = rows.get(method.name) or describe(method, steps)
            rows[method.name] = row
            if str(seed) not in row["accuracy"]:
                found = accuracy(train(method, seed, row["rate"], steps), "test")
                row["accuracy"][str(seed)] = round(found, 4)
                report.write(result, head | {"methods": rows})
                print(f"{method.name:16} seed {seed}  {found:.3f}  rate {row['rate']:g}", flush=True)
    for name, row in rows.items():
        costs = (
            f"{row['parameters']:,} parameters, {row['multiply-adds']:,} multiply-adds, {row['milliseconds']:.2f} ms"
        )
        print(f"{name:16} {row['hidden features']:4} hidden, {costs}")


if __name__ == "__main__":
    app()
