"""Ten seeds in one batched program against one plain seed, and against the matrix products that it consists of.

Command: `python -m benchmarks.seeds`, 1 minute on a quiet machine; writes results/benchmark_seeds.json.
Small: a step of `experiments.galanti2020.batched.Stack` with ten networks of Fig. 1 (b) at i = 1 (batches of 200) and
of the rotation of digits at k = 3 (batches of 64), and a step of one of them as one writes it: module, loss, backward,
torch.optim.SGD. Asked: at most three times as long. Large: ten networks of three layers of 1,024, batches of 200, and
the eight products of their step alone, `torch.bmm` of the same shapes. Asked: at least 70 % of their throughput.
Medians of 15 in one process with two threads, the ways taking turns.
"""

import argparse
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


def small(name: str, method: str, seeds: int, repeats: int) -> dict[str, Any]:
    """A row: ten seeds at once against one."""
    torch.manual_seed(0)
    if name == "Fig. 1b, i = 1":
        make, batch, sizes = partial(embedding_size.build, method, 1), 200, (100, 100)
        target: Tensor = torch.randn(seeds, batch, 1)
        loss: Loss = nn.functional.mse_loss
    else:
        make, batch, sizes = partial(rotation.build, method, 3), rotation.BATCH, (784, 784)
        target, loss = torch.randint(rotation.CLASSES, (seeds, batch)), nn.functional.cross_entropy
    inputs = tuple(torch.randn(seeds, batch, size) for size in sizes)
    stack = Stack([make() for _ in range(seeds)])
    calls: dict[str, Callable[[], object]] = {
        "all seeds": lambda: stack.step(inputs, target, loss, 0.001),
        "one plain seed": plain_step(make(), tuple(x[0] for x in inputs), target[0], loss),
    }
    times = milliseconds(calls, repeats)
    ratio = times["all seeds"] / times["one plain seed"]
    return {
        "case": name,
        "method": method,
        "seeds": seeds,
        "milliseconds": {way: round(value, 2) for way, value in times.items()},
        "times one seed": round(ratio, 2),
    }


def large(seeds: int, width: int, repeats: int) -> dict[str, Any]:
    """A row: three layers, whose step is three products forward, three for the weights, two for the inputs."""
    torch.manual_seed(0)
    stack = Stack([layers(width, width, width, width) for _ in range(seeds)])
    x, target = torch.randn(2, seeds, BATCH, width)
    weight = torch.randn(seeds, width, width)

    def products() -> None:
        for _ in range(5):
            torch.bmm(x, weight)
        for _ in range(3):
            torch.bmm(x.mT, target)

    step = partial(stack.step, (x,), target, nn.functional.mse_loss, 0.001)
    calls: dict[str, Callable[[], object]] = {"all seeds": step, "products alone": products}
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
