"""`local_conv` against its floor (reading the kernels once) and against unfold, multiply, sum: time and extra memory.

Command: `python -m benchmarks.local_conv`, 3 minutes on a quiet machine; writes results/benchmark_local_conv.json.
Times are medians of 7 in one process, alternating between the ways; extra memory is the peak above the inputs, in a
process of its own. Refuses to time when the operation does not agree with its reference.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments import report
from fastweights.ops.local_conv import local_conv, local_conv_reference

RESULT = Path("results/benchmark_local_conv.json")
FRAMES, TAPS, REPEATS = 8, 5, 7
MIB = 2**20
Way = Callable[[Tensor, Tensor, int], Tensor]


def fast(frames: Tensor, kernels: Tensor, upsample: int) -> Tensor:
    """Ours."""
    return local_conv(frames, kernels, upsample=upsample)


def unfold(frames: Tensor, kernels: Tensor, upsample: int) -> Tensor:
    """What everybody writes: gather the windows of every pixel, multiply, sum, a colour at a time."""
    planes = kernels.flatten(1, 3)
    if upsample > 1:
        planes = F.interpolate(planes, scale_factor=upsample, mode="bilinear", align_corners=False)
    weights = planes.flatten(2)
    colours = [F.unfold(colour.to(weights.dtype), TAPS, padding=TAPS // 2) for colour in frames.unbind(2)]
    return torch.stack([(columns * weights).sum(1) for columns in colours], 1).unflatten(2, frames.shape[-2:])


WAYS: dict[str, Way] = {"local_conv": fast, "unfold": unfold}


def inputs(size: int, colours: int, upsample: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Frames (1, 8, C, size, size) in float32 and kernels at the predicted resolution in a dtype."""
    torch.manual_seed(0)
    kernels = torch.randn(1, FRAMES, TAPS, TAPS, size // upsample, size // upsample, dtype=dtype)
    return torch.randn(1, FRAMES, colours, size, size), kernels


def check() -> None:
    """Stop with a sentence if the operation is not its reference: values and gradient, every case of the table."""
    for colours, upsample, dtype in product((1, 3), (1, 2), (torch.float32, torch.bfloat16)):
        frames, kernels = inputs(38, colours, upsample, dtype)
        kernels.requires_grad_()
        found = []
        for way in (local_conv, local_conv_reference):
            y = way(frames, kernels, upsample=upsample)
            found.append((y, torch.autograd.grad(y.sum(), kernels)[0].float()))
        for ours, reference in zip(*found, strict=True):
            if not torch.allclose(ours, reference, rtol=1e-2 if dtype is torch.bfloat16 else 1e-4, atol=1e-3):
                sys.exit(f"local_conv differs from its reference ({colours=}, {upsample=}, {dtype}): nothing is timed")


def step(way: Way, frames: Tensor, kernels: Tensor, upsample: int, backward: bool) -> None:
    """A call, or a call and the gradient of the kernels."""
    if not backward:
        with torch.no_grad():
            way(frames, kernels, upsample)
        return
    y = way(frames, kernels.requires_grad_(), upsample)
    torch.autograd.grad(y, kernels, torch.ones_like(y))
    kernels.requires_grad_(False)


def milliseconds(calls: dict[str, Callable[[], object]], repeats: int, warm: int = 0) -> dict[str, float]:
    """Median of every call, the calls taking turns; each runs `warm` times untimed before it is timed.

    At 0 a call finds caches, threads and freed memory as the one before it left them, always the same one.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            for _ in range(warm):
                call()
            start = time.perf_counter()
            call()
            if turn:  # the first compiles and warms up
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def extra_memory(size: int, colours: int, upsample: int, dtype: str) -> dict[str, float]:
    """Peak memory above the inputs in MiB of every way, measured by this file in a process of its own (Linux only)."""
    arguments = [str(size), str(colours), str(upsample), dtype]
    command = [sys.executable, "-m", "benchmarks.local_conv", "--memory", *arguments]
    # Freed memory goes back to the system at once, or one way would use what another left.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def print_extra_memory(size: str, colours: str, upsample: str, dtype: str) -> None:
    """The process of `extra_memory`."""
    torch.set_num_threads(2)
    factor, typed = int(upsample), getattr(torch, dtype)
    small, large = (inputs(n, int(colours), factor, typed) for n in (64, int(size)))
    peaks = {}
    for name, way in WAYS.items():
        for backward in (False, True):
            step(way, *small, factor, backward)
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            step(way, *large, factor, backward)
            peaks[f"{name}{', backward' * backward}"] = round((_status("VmHWM") - before) / 1024, 1)
    print(json.dumps(peaks))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def measure(size: int, colours: int, upsample: int, dtype: str, repeats: int) -> dict[str, Any]:
    """A row of the table."""
    frames, kernels = inputs(size, colours, upsample, getattr(torch, dtype))
    calls: dict[str, Callable[[], object]] = {"read": kernels.sum}
    for name, way in WAYS.items():
        calls[name] = partial(step, way, frames, kernels, upsample, False)
        calls[f"{name}, backward"] = partial(step, way, frames, kernels, upsample, True)
    times = milliseconds(calls, repeats)
    return {
        "size": size,
        "colours": colours,
        "upsample": upsample,
        "dtype": dtype,
        "milliseconds": {name: round(value, 2) for name, value in times.items()},
        "times the read": round(times["local_conv"] / times["read"], 2),
        "faster than unfold": round(times["unfold"] / times["local_conv"], 1),
        "faster than unfold, backward": round(times["unfold, backward"] / times["local_conv, backward"], 1),
        "kernels MiB": kernels.nbytes / MIB,
        "extra MiB": extra_memory(size, colours, upsample, dtype),
    }


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="one small case, nothing written")
    arguments = parser.parse_args()
    if arguments.memory:
        print_extra_memory(*arguments.memory)
        return
    torch.set_num_threads(2)
    check()
    if arguments.smoke:
        print(json.dumps(measure(64, 1, 2, "float32", repeats=1)))
        return
    rows = []
    for size, colours, upsample, dtype in product((512, 1024), (1, 3), (1, 2), ("float32", "bfloat16")):
        row = measure(size, colours, upsample, dtype, REPEATS)
        rows.append(row)
        extra = row["extra MiB"]
        print(
            f"{size:5} {colours} colours x{upsample} {dtype:9} {row['milliseconds']['local_conv']:7.1f} ms, "
            f"{row['times the read']:5.2f} x read, unfold {row['faster than unfold']:5.1f} x, "
            f"with backward {row['faster than unfold, backward']:5.1f} x; kernels {row['kernels MiB']:.0f} MiB, "
            f"extra {extra['local_conv']:.0f} / {extra['local_conv, backward']:.0f} MiB "
            f"(unfold {extra['unfold']:.0f} / {extra['unfold, backward']:.0f})",
            flush=True,
        )
    report.write(RESULT, {"frames": FRAMES, "taps": TAPS, "repeats": REPEATS, "rows": rows})


if __name__ == "__main__":
    main()
