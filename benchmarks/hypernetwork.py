"""`HyperNetwork` against vmap, a batched product written by hand, and three libraries: time and extra memory.

Command: `python -m benchmarks.hypernetwork`, 2 minutes on a quiet machine; writes results/benchmark_hypernetwork.json.
A 64-64-64-1 network with 8,385 weights from 64 features by a linear head, for 128 contexts of one sample and for 32
contexts of 256 samples; a ResNet with a context for each of 32 images. Times are medians of 21 in one process, the ways
taking turns, each run three times untimed before: what follows a library's loop would find threads asleep, caches cold
and memory cut in other sizes.
"products alone" is a yardstick near the floor: the multiplications that every way has to do, without biases, ReLU or
memory to take. Its operands come from memory where a network's may still be in the cache, so a way can be below it.
Extra memory is the peak above the inputs, each way in a process of its own (Linux), also for 4,096 contexts, where it
is above 100 MiB.
hyperlight, hypnettorch (extra `bench`) and hyper-nn (`pip install --no-deps hyper-nn`: its half for torch needs none of
the JAX that it names) have one set of weights a call, so they loop over contexts. Refuses to time when ways that share
weights do not agree.
Measured: at 32 x 256 the products alone are 2.0 times as fast as hyperlight forward and 2.7 times with backward, the
product by hand 2.2 and 2.2 times, so what any way can gain there is small.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hypernetwork_ways import FEATURES, products, resnet, ways
from benchmarks.local_conv import milliseconds
from experiments import report
from fastweights import HyperNetwork

RESULT = Path("results/benchmark_hypernetwork.json")
REPEATS = 21
FLOOR = "products alone"
SIZES = {"128 x 1": (128, 1), "32 x 256": (32, 256)}
LARGE = {"4096 x 1": (4096, 1), "4096 x 16": (4096, 16)}  # weights of 131 MiB: for the memory only


def check(contexts: int, samples: int) -> None:
    """Stop with a sentence if ways that share their weights differ: values, and the context's gradient."""
    found = ways()
    x, context = inputs(contexts, samples)
    context.requires_grad_()
    expected = found["vmap"](x, context)
    (wanted,) = torch.autograd.grad(expected.square().sum(), context)
    for name in ("HyperNetwork", "by hand"):
        y = found[name](x, context)
        (gradient,) = torch.autograd.grad(y.square().sum(), context)
        if not (torch.allclose(y, expected, atol=1e-4) and torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-2)):
            sys.exit(f"{name} differs from vmap at {contexts} x {samples}: nothing is timed")


def inputs(contexts: int, samples: int) -> tuple[Tensor, Tensor]:
    """x and contexts."""
    torch.manual_seed(1)
    return torch.randn(contexts, samples, 64), torch.randn(contexts, FEATURES)


def step(way: nn.Module, x: Tensor, context: Tensor, backward: bool) -> None:
    """A call, or a call and the gradients of context and parameters."""
    if not backward:
        with torch.no_grad():
            way(x, context)
        return
    context.requires_grad_()
    y = way(x, context)
    wanted = [context, *(parameter for parameter in way.parameters() if parameter.requires_grad)]
    torch.autograd.grad(y, wanted, torch.ones_like(y), allow_unused=True)


def extra_memory(case: str, name: str) -> dict[str, float]:
    """Peak memory above the inputs in MiB, measured by this file in a process of its own (Linux only)."""
    command = [sys.executable, "-m", "benchmarks.hypernetwork", "--memory", case, name]
    # Freed memory goes back to the system at once, or a first run would leave some to the second.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def print_extra_memory(case: str, name: str) -> None:
    """The process of `extra_memory`."""
    torch.set_num_threads(2)
    way, (x, context), peaks = ways()[name], inputs(*(SIZES | LARGE)[case]), {}
    for backward in (False, True):
        for _ in range(2):  # the first makes what libraries keep
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            step(way, x, context, backward)
            peaks["backward" if backward else "forward"] = round((_status("VmHWM") - before) / 1024, 1)
    print(json.dumps(peaks))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def measure(case: str, repeats: int) -> dict[str, Any]:
    """A row of the table: the multilayer network."""
    found = ways()
    x, context = inputs(*SIZES[case])
    row: dict[str, Any] = {"case": case, "routes": found["HyperNetwork"].network.routes(x, context, grouped=True)}  # type: ignore[union-attr, operator]
    for mode in ("forward", "backward"):
        calls: dict[str, Callable[[], object]] = {
            name: partial(step, way, x, context, mode == "backward") for name, way in found.items()
        }
        calls[FLOOR] = products(*SIZES[case], mode == "backward")
        times = milliseconds(calls, repeats, warm=3)
        floor = times.pop(FLOOR)
        best = min(value for name, value in times.items() if name != "HyperNetwork")
        row[mode] = {
            "milliseconds": {name: round(value, 2) for name, value in times.items()},
            FLOOR: round(floor, 2),
            "times the best other": round(times["HyperNetwork"] / best, 2),
            "times faster": {n: round(times[n] / times["HyperNetwork"], 1) for n in times if n != "HyperNetwork"},
        }
    return row | measure_memory(case)


def measure_memory(case: str) -> dict[str, Any]:
    """Of a row of the table: ours and what one writes by hand."""
    return {"case": case, "extra MiB": {name: extra_memory(case, name) for name in ("HyperNetwork", "by hand")}}


def measure_resnet(norm: str, repeats: int) -> dict[str, Any]:
    """A row of the table: the ResNet, the route that is taken against a loop over contexts."""
    torch.manual_seed(0)
    build: Callable[[int], nn.Module] = partial(nn.GroupNorm, 4) if norm == "GroupNorm" else nn.BatchNorm2d
    network = HyperNetwork(resnet(build), nn.Identity(), features=8).eval()
    x, context = torch.randn(32, 3, 32, 32), torch.randn(32, 8)
    row: dict[str, Any] = {"case": f"ResNet, {norm}", "routes": network.routes(x, context)}

    def run(route: str, backward: bool) -> None:
        network.route = route  # type: ignore[assignment]
        step(network, x, context, backward)

    for mode in ("forward", "backward"):
        times = milliseconds({r: partial(run, r, mode == "backward") for r in ("auto", "loop")}, repeats)
        row[mode] = {
            "milliseconds": {name: round(value, 2) for name, value in times.items()},
            "times faster": round(times["loop"] / times["auto"], 1),
        }
    return row


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="one case and one repeat, nothing written")
    arguments = parser.parse_args()
    if arguments.memory:
        print_extra_memory(*arguments.memory)
        return
    torch.set_num_threads(2)
    repeats = 1 if arguments.smoke else REPEATS
    rows = []
    for case, size in list(SIZES.items())[: 1 if arguments.smoke else None]:
        check(*size)
        rows.append(measure(case, repeats))
    rows += [measure_memory(case) for case in (() if arguments.smoke else LARGE)]
    rows += [measure_resnet(norm, repeats) for norm in (() if arguments.smoke else ("GroupNorm", "BatchNorm"))]
    if arguments.smoke:
        print(json.dumps(rows[0]))
        return
    for row in rows:
        print(json.dumps(row), flush=True)
    report.write(RESULT, {"features": FEATURES, "repeats": REPEATS, "rows": rows})


if __name__ == "__main__":
    main()
