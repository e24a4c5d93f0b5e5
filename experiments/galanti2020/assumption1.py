"""Fig. 2: two networks trained apart on the same target; how far from each other, how far from the target?

Claim: f1 and f2 end much nearer to each other than to the target, which supports Assumption 1 (one best approximator).
Command: `python -m experiments.galanti2020.assumption1`; the digits need FASTWEIGHTS_DATA.
As in the paper: the target is conv 10 x 10 stride 2 to 20, ReLU, conv 10 x 10 stride 2 to 50, ReLU, linear to 10
(Eq. 5); f1 and f2 are d -> 100 -> 10 with ReLU, SGD with rate 0.01 and momentum 0.5 on the squared error. As in the
published code: batches of 64, rows of the weights of f1 and f2 of unit norm at the start, 10,000 new points an epoch
for the uniform inputs. Here: an epoch is 10,000 digits too; f1 and f2 see the same batches; every repetition has a
target and networks of its own (the published code goes on training the same ones); the variance of the target is the
yardstick.
Measured (results/galanti2020_assumption1.json: `uniform --epochs 50 --seeds 10`, `mnist --epochs 50 --seeds 5` and
`cifar10 --epochs 10 --seeds 5`; some minutes of one processor each), squared differences after so many epochs:

    uniform (variance of y .0016)  0            10              20               50
        f1 and f2                  .35 +- .02   .0458 +- .0002  .0187 +- .0001   .0032 +- .00003
        f1 and y                   .17 +- .01   .0239 +- .0001  .0105 +- .0001   .0028 +- .00004
    digits (variance of y .0062)   0            5               10              50
        f1 and f2                  .81 +- .06   .0129 +- .0006  .0062 +- .0004  .0020 +- .0001
        f1 and y                   .53 +- .06   .0099 +- .0006  .0068 +- .0004  .0041 +- .0001

    CIFAR-10 (variance of y .0037) 0            1              3              10
        f1 and f2                  2.2 +- .2    .0075 +- .001  .0036 +- .0008 .0017 +- .0005
        f1 and y                   .96 +- .14   .0069 +- .001  .0042 +- .0006 .0032 +- .0005

On digits and on CIFAR-10 f1 and f2 come nearer to each other than to the target, which they hardly fit by then. On
uniform points they do not within 50 epochs of 10,000: both are still worse than a constant, and the ratio of the two
distances falls from 2.0 to 1.1 as they learn.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import report
from experiments.galanti2020 import cifar, sweep
from experiments.galanti2020.batched import Stack, layers
from experiments.galanti2020.mnist import digits, normalised

RESULT = Path("results/galanti2020_assumption1.json")
EDGE, BATCH, AN_EPOCH = 28, 64, 10_000
app = sweep.app(__doc__)


def target(channels: int = 1, edge: int = EDGE) -> nn.Module:
    """Eq. 5, with torch's start, on flat images."""
    left = (((edge - 10) // 2 + 1) - 10) // 2 + 1  # pixels of an edge behind both convolutions
    return nn.Sequential(
        nn.Unflatten(-1, (channels, edge, edge)),
        nn.Conv2d(channels, 20, 10, stride=2),
        nn.ReLU(),
        nn.Conv2d(20, 50, 10, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(50 * left**2, 10),
    )


def approximator(pixels: int = EDGE**2) -> nn.Module:
    """d -> 100 -> 10, rows of unit norm."""
    network = layers(pixels, 100, 10)
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.Linear):
                module.weight /= module.weight.norm(dim=1, keepdim=True)
    return network


class Inputs:
    """Points of one of the input spaces: digits, CIFAR-10 images, or uniform on [-1, 1]^784."""

    def __init__(self, space: str):
        self.image = (3, 32) if space == "cifar10" else (1, EDGE)
        self.train: Tensor | None = None
        self.held: Tensor | None = None
        if space == "mnist":
            self.train, self.held = digits("train"), digits("test")
        elif space == "cifar10":
            self.train, self.held = cifar.images("train"), cifar.images("test")

    def epoch(self, number: int, seed: int, count: int) -> Tensor:
        """`count` points (count, 784), other ones for every epoch and seed; epoch 0 is for testing."""
        generator = torch.Generator().manual_seed(7919 * seed + number)
        images = self.held if number == 0 else self.train
        if images is None:
            return 2 * torch.rand(count, EDGE**2, generator=generator) - 1
        return normalised(images[torch.randperm(len(images), generator=generator)[:count]])


def run(space: str, epochs: int, seeds: int, count: int) -> dict[str, Any]:
    """Mean squared differences of f1 and f2, and of f1 and the target, before and after every epoch."""
    inputs, targets, networks = Inputs(space), [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        targets.append(target(*inputs.image))
        pixels = inputs.image[0] * inputs.image[1] ** 2
        networks += [approximator(pixels), approximator(pixels)]
    truth, stack = Stack(targets), Stack(networks)
    held = torch.stack([inputs.epoch(0, seed, 2000) for seed in range(seeds)])
    wanted = truth(held)
    kept: dict[str, Any] = {"f1 and f2": [], "f1 and y": []}
    for epoch in range(epochs + 1):
        if epoch:
            points = torch.stack([inputs.epoch(epoch, seed, count) for seed in range(seeds)])
            for x, y in zip(points.split(BATCH, 1), truth(points).split(BATCH, 1), strict=True):
                both = x.repeat_interleave(2, 0), y.repeat_interleave(2, 0)
                stack.step(both[:1], both[1], nn.functional.mse_loss, 0.01, 0.5)
        f1, f2 = stack(held.repeat_interleave(2, 0)).unflatten(0, (seeds, 2)).unbind(1)
        for name, other in (("f1 and f2", f2), ("f1 and y", wanted)):
            kept[name].append(sweep.summary((f1 - other).square().mean((1, 2)).tolist()))
    # Per output, as the errors are.
    return kept | {"variance of y": sweep.summary(wanted.var(1).mean(1).tolist()), "epochs": epochs, "seeds": seeds}


@app.default
def main(
    spaces: tuple[str, ...] = ("uniform", "mnist", "cifar10"),
    *,
    epochs: int = 50,
    seeds: int = 5,
    result: Path = RESULT,
    smoke: bool = False,
) -> None:
    """Train the pairs; spaces that the result file holds with as many epochs and seeds are not run again."""
    torch.set_num_threads(1)
    count = 200 if smoke else AN_EPOCH
    rows = json.loads(result.read_text())["spaces"] if result.exists() else {}
    for space in spaces:
        done = rows.get(space, {"epochs": 0, "seeds": 0})
        if done["epochs"] >= epochs and done["seeds"] >= seeds:
            continue
        rows[space] = found = run(space, epochs, seeds, count)
        report.write(result, {"measure": "mean squared difference an output, on 2,000 held points", "spaces": rows})
        last = {name: sweep.line(found[name][-1]) for name in ("f1 and f2", "f1 and y")}
        print(f"{space}: {last}, variance of y {sweep.line(found['variance of y'])}", flush=True)


if __name__ == "__main__":
    app()
