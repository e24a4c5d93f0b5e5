"""Ten seeds in one batched program against one plain seed, and against the matrix products that it consists of.

Command: `python -m benchmarks.seeds`, 1 minute on a quiet machine; writes results/benchmark_seeds.json.
Small: a step of `experiments.galanti2020.batched.Stack` with ten networks of Fig. 1 (b) at i = 1 (batches of 200) and
of the rotation of digits at k = 3 (batches of 64), a step of one of them as one writes it (module, loss, backward,
torch.optim.SGD), and the products of the ten networks' step alone, `torch.bmm` of the same shapes: the floor. A tenth
of the floor is the products' share of one plain seed's time; the rest is overhead, which ten at once pay once. Asked:
at most three times as long as one plain seed, which is out of reach where the floor itself is longer.
Large: ten networks of three layers of 1,024, batches of 200, and the eight products of their step. Asked: at least 70 %
of their throughput.
Medians of 15 in one process with two threads, the ways taking turns; "warm": each run once untimed before it is timed,
as the steps of a training follow each other.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.local_conv import milliseconds
from experiments import report
from experiments.galanti2020 import embedding_size, rotation
from experiments.galanti2020.batched import Loss, Stack, layers

RESULT = Path("results/benchmark_seeds.json")
SEEDS, REPEATS, WIDTH, BATCH = 10, 15, 1024, 200


def plain_step(network: nn.Module, inputs: tuple[Tensor, ...], target: Tensor, loss: Loss) -> Callable[[], None]:
    """One step of one network, as one writes it."""
    optimiser = torch.optim.SGD(network.parameters(), 0.001)

    def step() -> None:
        optimiser.zero_grad()
        loss(network(*inputs), target).backward()
        optimiser.step()

    return step


Shapes = list[tuple[int, int, int]]  # (m, k, n) of products (m x k) (k x n)


def layer(rows: int, i: int, j: int, first: bool = False) -> Shapes:
    """Products of a linear layer in a step: forward, for the weight, and for the input unless it is data."""
    return [(rows, i, j), (j, rows, i), *([] if first else [(rows, j, i)])]


def shapes(method: str, rows: int, primary: tuple[int, ...], trunk: tuple[int, ...], outputs: int) -> Shapes:
    """Products of a step of one network: g or q, f or e before its last layer, and the outputs of e.

    Those of one sample's code with its part of the templates are left out: 1 x k times k x j.
    """
    (x, hidden, y), k = primary, trunk[-1]
    found = [shape for n, (i, j) in enumerate(itertools.pairwise(trunk)) for shape in layer(rows, i, j, first=n == 0)]
    if method == "embedding":
        merged = [(hidden, outputs, k), (hidden, k, outputs), (outputs, hidden, k)]
        return [*found, *merged, *layer(rows, k, hidden), *layer(rows, x, hidden, first=True), *layer(rows, hidden, y)]
    for width in (1, k):  # the base, and the templates
        found += [*layer(rows, x, width * hidden, first=True), *layer(rows, hidden, width * y)]
    return found


def products(seeds: int, found: Shapes) -> Callable[[], None]:
    """All of them, for all seeds."""
    pairs = [(torch.randn(seeds, m, k), torch.randn(seeds, k, n)) for m, k, n in found]

    def run() -> None:
        for one, other in pairs:
            torch.bmm(one, other)

    return run


def small(name: str, method: str, seeds: int, repeats: int) -> dict[str, Any]:
    """A row: ten seeds at once against one."""
    torch.manual_seed(0)
    if name == "Fig. 1b, i = 1":
        make, batch, sizes = partial(embedding_size.build, method, 1), 200, (100, 100)
        found = shapes(method, batch, (100, 10, 1), (100, 100, 100), 1000)
        target: Tensor = torch.randn(seeds, batch, 1)
        loss: Loss = nn.functional.mse_loss
    else:
        make, batch, sizes = partial(rotation.build, method, 3), rotation.BATCH, (784, 784)
        found = shapes(method, batch, (784, 10, rotation.CLASSES), (784, 50, 50), 7850)
        target, loss = torch.randint(rotation.CLASSES, (seeds, batch)), nn.functional.cross_entropy
    inputs = tuple(torch.randn(seeds, batch, size) for size in sizes)
    stack = Stack([make() for _ in range(seeds)])
    calls: dict[str, Callable[[], object]] = {
        "all seeds": lambda: stack.step(inputs, target, loss, 0.001),
        "products alone": products(seeds, found),
        "one plain seed": plain_step(make(), tuple(x[0] for x in inputs), target[0], loss),
    }
    row: dict[str, Any] = {"case": name, "method": method, "seeds": seeds}
    for how, warm in (("in turn", False), ("warm", True)):
        times = milliseconds(calls, repeats, warm)
        row[how] = {
            "milliseconds": {way: round(value, 2) for way, value in times.items()},
            "times one seed": round(times["all seeds"] / times["one plain seed"], 2),
            "floor, times one seed": round(times["products alone"] / times["one plain seed"], 2),
        }
    return row


def large(seeds: int, width: int, repeats: int) -> dict[str, Any]:
    """A row: three layers, whose step is three products forward, three for the weights, two for the inputs."""
    torch.manual_seed(0)
    stack = Stack([layers(width, width, width, width) for _ in range(seeds)])
    x, target = torch.randn(2, seeds, BATCH, width)
    found = [shape for n in range(3) for shape in layer(BATCH, width, width, first=n == 0)]
    calls: dict[str, Callable[[], object]] = {
        "all seeds": lambda: stack.step((x,), target, nn.functional.mse_loss, 0.001),
        "products alone": products(seeds, found),
    }
    times = milliseconds(calls, repeats)
    return {
        "case": f"three layers of {width:,}",
        "seeds": seeds,
        "milliseconds": {way: round(value, 2) for way, value in times.items()},
        "share of the products' throughput": round(times["products alone"] / times["all seeds"], 2),
    }


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two seeds and one repeat, nothing written")
    smoke = parser.parse_args().smoke
    torch.set_num_threads(2)
    seeds, repeats = (2, 1) if smoke else (SEEDS, REPEATS)
    cases = [
        (name, method) for name in ("Fig. 1b, i = 1", "rotation, k = 3") for method in ("embedding", "hypernetwork")
    ]
    rows = [small(name, method, seeds, repeats) for name, method in cases]
    rows.append(large(seeds, 64 if smoke else WIDTH, repeats))
    for row in rows:
        print(json.dumps(row), flush=True)
    if not smoke:
        report.write(RESULT, {"repeats": repeats, "rows": rows})


if __name__ == "__main__":
    main()
