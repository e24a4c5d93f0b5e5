"""Fig. 3 (c), (d): a hypernetwork layer H trained on CIFAR-10 features, imitated by gated double layers G and MLPs M.

Claim (Müller 2024, Sec. 4.2): with features of length l = 16, 32, 64 or 128 the results look as for a random H: a large
G imitates a trained H well and better than M; but the error falls at a smaller scale, as if the weights that a trained
H predicts had low rank. The values of the figure are in no text, nor are the layers of the feature network (Fig. 6).
Command: `python -m experiments.mueller2024.fig3_cifar`, half an hour on an idle core; what has run is kept in
runs/fig3-cifar. Needs FASTWEIGHTS_DATA.
What runs: three convolutions of 32, 64, 128 channels, shared by the lengths, trained for 3 epochs; on the features of
all 50,000 images H (10 x l weights, from a hidden layer of 128) learns to classify for 3 epochs; then G and M learn H's
ten scores from 500,000 images (10 epochs), by Adagrad and a cosine, at the rate of three that is best at scale 1 on
held-back training images, judged on the 10,000 test images. Three seeds of H, G and M. The paper gives no epochs; its
random H had 5,000,000 vectors and ten seeds.
Beside the figure: what needs no predicted weight (a constant, an affine map of the features), the same G on an H that
was not trained (l = 16), and the ranks of the weights that H predicts over the images, for 1 % error.
Measured: results/fig3_cifar.json, docs/images/fig3_cifar.png. Features classify 73 % of the test images rightly, H 73
to 75 %. G lies below M at every scale and length. At 1/8, 1 and the largest scale (4; 2 for l = 128), G and M: l = 16
.0049, .0015, .0014 and .012, .0052, .0035; l = 32 .0059, .0047, .0035 and .013, .0079, .0084; l = 64 .015, .0096, .0078
and .020, .015, .022; l = 128 .019, .019, .014 and .037, .028, .025. The rate is .01 for G of l = 64 and both of 128,
and .03, the largest tried, for the others. An affine map of the features leaves .09. An H that was not trained is
harder, l = 16: .048 at 1/8, .012 to .013 from 1 on, so at 1/8 of the gates the trained one is met better than the other
at any scale, but both errors fall alike from 1/8 to 1, by 3.3 and 3.8. Low rank: a predicted matrix of 10 rows has rank
9 to 10 whether H was trained or not; but all of them together span 17 of 160 dimensions when trained and 46 when not,
and 54 and 94 gates hold them (l = 16); trained 42 of 320 (135 gates), 83 of 640, 105 of 1,280, where H's 128 hidden
units leave 129.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cyclopts import App, Parameter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments import report
from experiments.mueller2024 import cifar_features, fig3_cifar_result
from experiments.mueller2024.cifar_features import CLASSES, LENGTHS, Features, build_h, train_h
from experiments.mueller2024.emulation import (
    TESTED,
    Network,
    Stack,
    Training,
    hidden_for,
    relative_errors,
    train,
)
from experiments.mueller2024.fixed_basis import ALLOWED, fewest_gates, span
from fastweights import zoo
from fastweights.layer import PredictedWeight

RESULT = Path("results/fig3_cifar.json")
FIGURE = Path("docs/images/fig3_cifar.png")
RUNS = Path("runs/fig3-cifar")
HIDDEN = 128  # of every predictor
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
LARGEST = 2560  # gates of a cell; larger ones are left out
RATES = (0.003, 0.01, 0.03)  # of Adagrad, tried at scale 1
HELD_BACK = 10  # one in so many training images judges them
CONTROLS = (16,)  # lengths at which an H that was not trained is imitated too
FITTED = 32  # largest length at which gates are fitted to the predicted weights
app = App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


def build_g(length: int, gates: int) -> nn.Module:
    """The gated double layer; its predictor's hidden layer is as wide as H's."""
    return zoo.GatedDoubleLayer(length, CLASSES, gates)


def multiply_adds_g(length: int, gates: int) -> int:
    """Of one vector through G: trunk, gate head, V, gates, U."""
    return length * HIDDEN + gates * (HIDDEN + length + 1 + CLASSES)


def build_m(length: int, gates: int) -> nn.Module:
    """A perceptron of two hidden layers with at least the multiply-adds of a G with so many gates."""
    m = hidden_for(multiply_adds_g(length, gates), length, CLASSES)
    return nn.Sequential(nn.Linear(length, m), nn.ReLU(), nn.Linear(m, m), nn.ReLU(), nn.Linear(m, CLASSES))


def teacher(path: Path | None, length: int, seeds: int) -> Stack:
    """H as trained, with the parameters of a file, or without one as initialised."""
    stack = Stack(lambda: build_h(length), range(10_000, 10_000 + seeds)).freeze()
    if path is not None:
        stack.parameters = load_file(path)
    return stack


def learn_h(path: Path, features: Features, length: int, seeds: int, epochs: int) -> dict[str, Any]:
    """Train H and keep its parameters."""
    stack, right = train_h(features, length, seeds, epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: p.detach().contiguous() for name, p in stack.parameters.items()}, path)
    return {"length": length, "epochs": epochs, "accuracy": right}


def imitate(stack: Stack, features: Features, network: Network, scale: float, training: Training) -> dict[str, Any]:
    """One point of (c) with its curves (d)."""
    length = features.train.shape[1]
    gates = round(scale * CLASSES * length)
    build = build_g if network == "G" else build_m
    seeds = len(next(iter(stack.parameters.values())))
    student = Stack(lambda: build(length, gates), range(seeds))
    learned = train(student, stack, training, features)
    learned.final = relative_errors(student, stack, 1000, min(len(features.test), 10 * TESTED), features).tolist()
    point = {"length": length, "network": network, "scale": scale, "gates": gates, "rates": training.rates}
    return point | asdict(learned)


def rates(stack: Stack, features: Features, network: Network, training: Training) -> dict[str, Any]:
    """Relative error at scale 1 by learning rate, on training images that were held back, and the best rate."""
    cut = len(features.train) // HELD_BACK
    held_back = replace(features, train=features.train[cut:], test=features.train[:cut])
    tried = {rate: imitate(stack, held_back, network, 1.0, replace(training, rates=(rate,))) for rate in RATES}
    errors = {rate: statistics.mean(cell["final"]) for rate, cell in tried.items()}
    return {"errors": {str(rate): error for rate, error in errors.items()}, "best": min(errors, key=errors.__getitem__)}


@torch.no_grad()
def trivial(stack: Stack, features: Features) -> dict[str, list[float]]:
    """Relative error of the best constant and of the best affine map of the features, which predict no weights."""
    y, target = stack(features.train).double(), stack(features.test).double()
    ones = torch.ones(len(features.train), 1, dtype=torch.float64)
    x, new = (torch.cat([part.double(), ones[: len(part)]], 1) for part in (features.train, features.test))
    affine = torch.linalg.solve(x.T @ x, x.T @ y)
    power = target.square().mean((1, 2))
    errors = {"constant": target - y.mean(1, keepdim=True), "affine map": target - new @ affine}
    return {name: (error.square().mean((1, 2)) / power).tolist() for name, error in errors.items()}


@torch.no_grad()
def ranks(stack: Stack, features: Features) -> dict[str, Any]:
    """Of the weights that each H predicts: rank of one, span of all, gates that hold them, for 1 % error."""
    length, seeds = features.train.shape[1], len(next(iter(stack.parameters.values())))
    rows = []
    for seed in range(seeds):
        layer = build_h(length).double()
        assert isinstance(layer, PredictedWeight)
        layer.load_state_dict({name: p[seed] for name, p in stack.parameters.items()})
        found, held_out = (moment(layer, part) for part in (features.train[:20_000], features.test))
        exact, dimension = span(found, held_out)
        power = torch.linalg.svdvals(layer.weight(features.test[:1000].double())).square()
        left = 1 - power.cumsum(1) / power.sum(1, keepdim=True)
        row = {"rank of one": 1 + (left > ALLOWED).sum(1).double().mean().item(), "span": dimension, "exact": exact}
        if length <= FITTED:
            high = min(CLASSES * length, CLASSES * dimension)
            with torch.enable_grad():
                row["gates"], _ = fewest_gates(found, held_out, CLASSES, dimension, high)
        rows.append(row)
    return {"length": length, "weights": CLASSES * length, "each": rows}


def moment(layer: PredictedWeight, features: Tensor) -> Tensor:
    """Second moment of the predicted weights, flat."""
    flat = torch.cat([layer.code(some) for some in features.double().split(1000)])  # type: ignore[misc]
    return flat.T @ flat / len(flat)


def points(state: str, length: int, scales: Sequence[float]) -> Iterator[tuple[Network, float]]:
    """Which networks imitate an H, at which scales; M only a trained one."""
    for scale in scales:
        if scale * CLASSES * length <= LARGEST:
            yield "G", scale
            if state == "trained":
                yield "M", scale


@app.default
def main(
    *,
    lengths: tuple[int, ...] = LENGTHS,
    seeds: int = 3,
    epochs: int = 3,
    samples: int = 500_000,
    runs: Path = RUNS,
    result: Path = RESULT,
    figure: Path = FIGURE,
    smoke: bool = False,
) -> None:
    """Run what is missing, then write the result and the figure.

    Args:
        lengths: Of the features, of 16, 32, 64, 128.
        seeds: Of H, G and M.
        epochs: Of the feature network and of H.
        samples: Images that G and M learn from.
        runs: Folder of one file a part; delete a file to run it again.
        result: The JSON file written.
        figure: The picture written.
        smoke: Few images and scales, for a test.
    """
    torch.set_num_threads(1)
    images = 50_000
    scales: tuple[float, ...] = SCALES
    if smoke:
        lengths, scales, seeds, epochs, samples, images = (16,), (0.125, 1.0), 2, 1, 2560, 2000
    path = runs / "features.safetensors"
    start = report.once(runs / "features.json", partial(cifar_features.extract, path, epochs, images))
    print(start)
    content: dict[str, Any] = {"features": start, "H": {}, "rates": {}, "cells": {}}
    training = Training(samples=samples, batch=256)
    for length in lengths:
        features, kept = Features.load(path, length), runs / f"h-{length}.safetensors"
        learned = report.once(runs / f"h-{length}.json", partial(learn_h, kept, features, length, seeds, epochs))
        for state in ("trained", "random") if length in CONTROLS else ("trained",):
            stack, name = teacher(kept if state == "trained" else None, length, seeds), f"{state}-{length}"
            content["H"][name] = (learned if state == "trained" else {}) | {
                "trivial": report.once(runs / f"{name}-trivial.json", partial(trivial, stack, features)),
                "ranks": report.once(runs / f"{name}-ranks.json", partial(ranks, stack, features)),
            }
            for network, scale in points(state, length, scales):
                point, tried = f"{name}-{network}-{scale}", f"{name}-{network}"
                choice = partial(rates, stack, features, network, training)
                content["rates"][tried] = report.once(runs / f"{tried}-rates.json", choice)
                chosen = replace(training, rates=(content["rates"][tried]["best"],))
                cell = partial(imitate, stack, features, network, scale, chosen)
                content["cells"][point] = report.once(runs / f"{point}.json", cell) | {"state": state}
                shown = content["cells"][point]
                print(point, [f"{error:.3g}" for error in shown["final"]], shown["seconds"], flush=True)
    fig3_cifar_result.show(content)
    cells = {name: fig3_cifar_result.with_mean_curves(cell) for name, cell in content["cells"].items()}
    report.write(result, content | {"cells": cells, "training": asdict(training)})
    fig3_cifar_result.draw(content, figure)


if __name__ == "__main__":
    app()
