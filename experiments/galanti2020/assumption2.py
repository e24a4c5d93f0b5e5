"""Appendix 1.5: does one more hidden neuron lower the error, as Assumption 2 says of the best error?

Claim: on MNIST and Fashion-MNIST the error of a shallow network falls strictly with its width.
Command: `python -m experiments.galanti2020.assumption2`; needs FASTWEIGHTS_DATA.
As in the published code: one hidden layer of ELU units, squared error to one-hot labels summed over the 10 outputs,
Adadelta with rate 1, batches of 64, 2 epochs. Fashion-MNIST is not at hand; its substitute is CIFAR-10 in grey,
another task with the same 10 outputs. All widths and repetitions train at once, as networks of the largest width whose
other units are masked: they give zero and get no gradient.
Measured (results/galanti2020_assumption2.json, docs/images/galanti2020_assumption2.png; `--seeds 5`, 14 widths, four
minutes of one processor), squared error of the test images:

    width           1     2     4     6     8     10    12    15    18    21    25    29
    MNIST           .822  .749  .565  .417  .293  .226  .212  .197  .187  .188  .183  .187 (+- .01)
    CIFAR-10, grey  .885  .868  .855  .846  .845  .844  .841  .840  .842  .851  .852  .852 (+- .01)

On MNIST it falls with every width up to 18 and no further; on grey CIFAR-10, as far as two epochs get, up to 15. A
trained network's error is not the best one, of which the assumption speaks.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments import report
from experiments.galanti2020 import cifar, sweep
from experiments.galanti2020.batched import Stack
from experiments.galanti2020.mnist import digits, digits_labels, normalised

RESULT = Path("results/galanti2020_assumption2.json")
FIGURE = Path("docs/images/galanti2020_assumption2.png")
WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 21, 25, 29)
BATCH, CLASSES = 64, 10
app = sweep.app(__doc__)


class Shallow(nn.Module):
    """pixels -> width -> 10 with ELU, as a part of a network of more units."""

    def __init__(self, pixels: int, width: int, units: int):
        super().__init__()
        small = nn.Linear(pixels, width), nn.Linear(width, CLASSES)
        self.first, self.last = nn.Linear(pixels, units), nn.Linear(units, CLASSES)
        self.register_buffer("mask", (torch.arange(units) < width).float())
        with torch.no_grad():  # torch's start depends on the width
            self.first.weight[:width], self.first.bias[:width] = small[0].weight, small[0].bias
            self.last.weight[:, :width], self.last.bias[:] = small[1].weight, small[1].bias

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (b, pixels), mask (units) -> (b, 10)."""
        return self.last(nn.functional.elu(self.first(x)) * mask)


def load(data: str, limit: int | None) -> list[tuple[Tensor, Tensor]]:
    """(images, labels) to learn from and to test on."""
    if data == "mnist":
        parts = [(normalised(digits(part)), digits_labels(part)) for part in ("train", "test")]
        return [(images[:limit], labels[:limit]) for images, labels in parts]
    return [((cifar.grey(cifar.images(p, limit)) - 0.5) / 0.25, cifar.labels(p, limit)) for p in ("train", "test")]


def run(parts: list[tuple[Tensor, Tensor]], widths: tuple[int, ...], epochs: int, seeds: int) -> dict[str, Any]:
    """Squared error summed over outputs, and share of wrong classes, on the test images, by width."""
    (images, labels), (held, answers) = parts
    networks = []
    for seed in range(seeds):
        for width in widths:
            torch.manual_seed(seed)
            networks.append(Shallow(images.shape[1], width, max(widths)))
    masks = torch.stack([network.mask for network in networks])  # type: ignore[misc]
    stack = Stack(networks)
    optimiser = torch.optim.Adadelta(stack.parameters.values(), lr=1.0)

    def summed(y: Tensor, target: Tensor) -> Tensor:
        return (y - target).square().sum(-1).mean()

    for epoch in range(epochs):
        generators = [torch.Generator().manual_seed(977 * seed + epoch) for seed in range(seeds)]
        orders = torch.stack([torch.randperm(len(images), generator=generator) for generator in generators])
        for chosen in orders.split(BATCH, 1):
            rows = chosen.repeat_interleave(len(widths), 0)
            target = nn.functional.one_hot(labels[rows], CLASSES).float()
            optimiser.zero_grad()
            stack.losses((images[rows], masks), target, summed).sum().backward()
            optimiser.step()
    outputs = torch.cat([stack(x.expand(len(networks), -1, -1), masks) for x in held.split(1000)], 1)
    errors = (outputs - nn.functional.one_hot(answers, CLASSES).float()).square().sum(-1).mean(1)
    wrong = (outputs.argmax(-1) != answers).float().mean(1)
    found = {}
    for name, values in (("error", errors), ("share wrong", wrong)):
        columns = values.view(seeds, len(widths)).T.tolist()
        found[name] = {str(width): sweep.summary(column) for width, column in zip(widths, columns, strict=True)}
    means = [row["mean"] for row in found["error"].values()]
    rises = [widths[n + 1] for n in range(len(means) - 1) if means[n + 1] >= means[n]]
    return found | {"epochs": epochs, "seeds": seeds, "widths where the mean error does not fall": rises}


def draw(content: dict[str, Any]) -> Figure:
    """Error against width, one line a data set."""
    mpl.use("Agg")
    figure = Figure((6, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, found in content.items():
        rows = found["error"]
        bars = [row["standard_error"] or 0 for row in rows.values()]
        axes.errorbar([int(w) for w in rows], [row["mean"] for row in rows.values()], bars, marker="o", label=name)
    axes.set(xlabel="hidden units", ylabel="squared error on test images", title="Appendix 1.5: Assumption 2")
    axes.legend()
    return figure


@app.default
def main(
    data: tuple[str, ...] = ("mnist", "cifar10-grey"),
    *,
    epochs: int = 2,
    seeds: int = 3,
    result: Path = RESULT,
    figure: Path = FIGURE,
    smoke: bool = False,
) -> None:
    """Train all widths on each data set that the result file does not hold, and draw them."""
    torch.set_num_threads(1)
    rows = json.loads(result.read_text())["data"] if result.exists() else {}
    for name in data:
        if name in rows and rows[name]["epochs"] >= epochs and rows[name]["seeds"] >= seeds:
            continue
        rows[name] = found = run(load(name, 300 if smoke else None), (1, 3, 9) if smoke else WIDTHS, epochs, seeds)
        report.write(result, {"measure": "squared error summed over 10 outputs, on 10,000 images", "data": rows})
        shown = {width: sweep.line(row) for width, row in found["error"].items()}
        print(f"{name}: {shown}; does not fall at {found['widths where the mean error does not fall']}", flush=True)
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw(rows).savefig(figure)


if __name__ == "__main__":
    app()
