"""`shared_conv` (a kernel an image) and `separable_conv` (a pair of kernels a pixel) against gathering patches: time.

Command: `python -m benchmarks.convolutions`, 2 minutes; writes results/benchmark_convolutions.json. Times are medians
of 5 in one process with one thread, alternating between the ways. Refuses to time what does not agree with its
reference.
Behind in one case: a few large kernels of few channels on small images (11 x 11, 3 to 1), where image by image takes
half the time. A basis of 48 kernels of 15 x 15 on 8 frames takes half of a grouped convolution's time, trained .6.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.local_conv import milliseconds
from experiments import report
from fastweights.ops.local_conv import local_conv
from fastweights.ops.separable_conv import separable_conv
from fastweights.ops.shared_conv import shared_conv, shared_conv_reference

RESULT = Path("results/benchmark_convolutions.json")
SHARED = [
    (8, 64, 64, 3, 32),
    (2, 64, 64, 3, 56),
    (8, 16, 16, 3, 64),
    (32, 32, 32, 1, 16),
    (8, 3, 1, 11, 64),
    (4, 8, 48, 15, 128),
    (4, 48, 20, 3, 64),
]
SEPARABLE = [(1, 2, 5, 128), (1, 2, 13, 128), (1, 2, 25, 128), (1, 2, 51, 64)]
REPEATS = 5


def whole_kernels(frames: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The way without an operation for separable codes: form the kernels, then `local_conv`."""
    r = vertical.shape[2] // 2
    kernels = torch.einsum("btuhw,btvhw->btuvhw", vertical, horizontal)
    return local_conv(frames[..., r:-r, r:-r], kernels, per_frame=True).squeeze(2)


def one_by_one(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution for each image."""
    return torch.cat([F.conv2d(image[None], kernel) for image, kernel in zip(x, weight, strict=True)])


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """One convolution with a group for each image."""
    return F.conv2d(x.flatten(0, 1), weight.flatten(0, 1), groups=len(x)).unflatten(0, weight.shape[:2])


def call(way: Any, *inputs: Tensor, backward: bool) -> None:
    """A call, or a call and the gradients of its kernels."""
    if not backward:
        with torch.no_grad():
            way(*inputs)
        return
    leaves = [inputs[0], *(x.detach().requires_grad_() for x in inputs[1:])]
    torch.autograd.grad(way(*leaves).sum(), leaves[1:])


def compare(ways: dict[str, Any], inputs: tuple[Tensor, ...], repeats: int) -> dict[str, float]:
    """Medians of all ways, forward and with backward; exits if they disagree."""
    first, *others = (way(*inputs) for way in ways.values())
    if any(not torch.allclose(first, other, rtol=1e-3, atol=1e-3) for other in others):
        sys.exit(f"{' and '.join(ways)} differ: nothing is timed")
    calls: dict[str, Callable[[], object]] = {
        f"{name}{', backward' * b}": partial(call, way, *inputs, backward=b)
        for name, way in ways.items()
        for b in (False, True)
    }
    return {name: round(value, 2) for name, value in milliseconds(calls, repeats).items()}


def shared(b: int, i: int, j: int, f: int, size: int, repeats: int = REPEATS) -> dict[str, Any]:
    """A row for one kernel an image."""
    x, weight = torch.randn(b, i, size, size), torch.randn(b, j, i, f, f)
    ways: dict[str, Any] = {
        "shared_conv": shared_conv,
        "unfold": shared_conv_reference,
        "grouped": grouped,
        "image by image": one_by_one,
    }
    return {"batch, in, out, taps, size": [b, i, j, f, size], "milliseconds": compare(ways, (x, weight), repeats)}


def separable(b: int, t: int, k: int, size: int, repeats: int = REPEATS) -> dict[str, Any]:
    """A row for a pair of kernels a pixel; the frames' borders are zero, as `local_conv` has them."""
    frames = F.pad(torch.randn(b, t, size, size), (k // 2,) * 4)
    kernels = torch.randn(2, b, t, k, size, size) / k
    ways: dict[str, Any] = {"separable_conv": separable_conv, "whole kernels": whole_kernels}
    return {"batch, frames, taps, size": [b, t, k, size], "milliseconds": compare(ways, (frames, *kernels), repeats)}


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small case each, nothing written")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if parser.parse_args().smoke:
        print(json.dumps({"shared": shared(2, 3, 4, 3, 8, 1), "separable": separable(1, 2, 3, 8, 1)}))
        return
    rows = []
    for measure, cases in ((shared, SHARED), (separable, SEPARABLE)):
        for case in cases:
            rows.append({"operation": f"{measure.__name__}_conv", **measure(*case)})
            print(rows[-1], flush=True)
    report.write(RESULT, {"repeats": REPEATS, "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
