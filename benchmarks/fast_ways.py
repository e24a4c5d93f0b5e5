"""Every other fast way of the library against what is written without it: time, forward and with backward.

Command: `python -m benchmarks.fast_ways`, 2 minutes; writes results/benchmark_fast_ways.json. The first way of a row is
the library's. "gathered" is `fastweights.ops.table.plain`: gather, multiply, scatter. Times are medians of 5 in one
process with one thread, alternating between the ways. Refuses to time what does not agree. `benchmarks.local_conv` and
`benchmarks.convolutions` have the local, the per-image and the separable convolution.
The library's way is behind in the smallest cases only, where it stays, as one way serves all sizes: a machine of 64
features forward, attention over 64 positions (and over 512 with backward, by a tenth), by up to a fifth where gates of
the picture's size are multiplied as one would by hand, and forward by a twelfth where 12 gates are of half its size.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.convolutions import REPEATS, compare
from experiments import report
from fastweights import PredictedWeight, zoo
from fastweights.axes import Sequence
from fastweights.codes import Sliced, Upsampled
from fastweights.ops import table
from fastweights.structures import Mixture, Outer, softmax

RESULT = Path("results/benchmark_fast_ways.json")
Case = tuple[dict[str, Callable[..., Tensor]], tuple[Tensor, ...]]


def cond_conv(b: int, channels: int, size: int, experts: int) -> Case:
    """CondConv, 3 x 3: the kernels mixed, or what the experts make of x."""
    layer = zoo.CondConv(channels, channels, 3, experts).requires_grad_(False)
    templates = cast(Mixture, layer.structure).templates

    def mixed_outputs(x: Tensor, code: Tensor) -> Tensor:
        kernels = templates.flatten(0, 1).unflatten(-1, (channels, 3, 3))
        each = F.conv2d(x, kernels, padding=1).unflatten(1, (experts, channels))
        return torch.einsum("bkjhw,bk->bjhw", each, code[..., 0, 0])

    ways = {"kernels mixed": _by_table(layer), "outputs mixed": mixed_outputs, "gathered": _gathered(layer)}
    return ways, (torch.randn(b, channels, size, size), torch.rand(b, experts, 1, 1))


def basis_prediction(frames: int, taps: int, basis: int, size: int) -> Case:
    """Basis prediction: the basis as filters, then a sum, or kernels of all pixels formed."""
    layer = zoo.BasisPrediction(frames, taps, basis).requires_grad_(False)
    kernels = torch.randn(1, frames * taps**2 * basis, 1, 1) / taps

    def formed(x: Tensor, coefficients: Tensor, kernels: Tensor) -> Tensor:
        weight = torch.einsum("brhw,bir->bihw", coefficients, kernels[..., 0, 0].unflatten(1, (-1, basis)))
        padded = F.pad(x, (taps // 2,) * 4, mode="reflect")
        return (F.unfold(padded, taps).unflatten(2, x.shape[-2:]) * weight).sum(1, keepdim=True)

    ways = {
        "basis as filters": lambda x, p, q: layer.product((p, q), x),
        "kernels formed": formed,
        "gathered": lambda x, p, q: table.plain(layer.structure, layer.axes, (p, q), x),
    }
    return ways, (torch.randn(1, frames, size, size), torch.randn(1, basis, size, size) / basis, kernels)


def gated_kernels(frames: int, taps: int, gates: int, size: int, factor: int) -> Case:
    """Gates between fixed filters, one output: as the table does it, or every step written out.

    Gates of the picture's size are multiplied in between; smaller ones are interpolated while the maps are summed.
    """
    layer = zoo.GatedKernelPrediction(frames, taps, gates, out_kernel_size=1).requires_grad_(False)
    filters, second = (cast(Tensor, side) for side in (layer.structure.v, layer.structure.u))

    def coded(code: Tensor) -> Tensor | Upsampled:
        return code if factor == 1 else Upsampled(code, factor, (size, size))

    def by_hand(x: Tensor, code: Tensor) -> Tensor:
        hidden = F.conv2d(x, filters.unflatten(1, (frames, taps, taps)), padding=taps // 2)
        whole = code if factor == 1 else F.interpolate(code, scale_factor=factor, mode="bilinear")
        return F.conv2d(hidden * whole, second[..., None, None])

    ways = {
        "by the table": lambda x, code: layer.product(coded(code), x),
        "convolution, gates, convolution": by_hand,
        "gathered": lambda x, code: table.plain(layer.structure, layer.axes, coded(code), x),
    }
    code = torch.randn(1, gates, size // factor, size // factor).contiguous(memory_format=torch.channels_last)
    return ways, (torch.randn(1, frames, size, size), code if factor > 1 else code.contiguous())


def slicing(bins: int, numbers: int, grid: int, size: int) -> Case:
    """A bilateral grid read at every pixel: as a sample of a volume, or its eight corners gathered and weighed."""

    def corners(guide: Tensor, cells: Tensor) -> Tensor:
        where = [(torch.arange(size) + 0.5) * grid / size - 0.5] * 2
        places = [guide * bins - 0.5, where[0][:, None].expand_as(guide), where[1].expand_as(guide)]
        terms = []
        for offsets in itertools.product((0, 1), repeat=3):
            at = [place.floor().long() + offset for place, offset in zip(places, offsets, strict=True)]
            weights = [1 - (place - n).abs() for place, n in zip(places, at, strict=True)]
            z, row, column = (n.clamp(0, last - 1) for n, last in zip(at, (bins, grid, grid), strict=True))
            each = [one[a, :, b, c] for one, a, b, c in zip(cells, z, row, column, strict=True)]
            terms.append(torch.stack(each).movedim(-1, 1) * (weights[0] * weights[1] * weights[2])[:, None])
        return torch.stack(terms).sum(0)

    ways = {"sample of a volume": lambda guide, cells: Sliced(cells, guide).dense(), "eight corners": corners}
    return ways, (torch.rand(1, size, size), torch.randn(1, bins, numbers, grid, grid))


def machine(b: int, features: int, rank: int) -> Case:
    """A factorization machine on vectors: sums, or the weights of all pairs."""
    layer = zoo.FactorizationMachine(features, rank=rank).requires_grad_(False)

    def pairs(x: Tensor, v: Tensor) -> Tensor:
        weight = torch.triu(v[0] @ v[0].T, diagonal=1)
        return torch.einsum("bi,ik,bk->b", x, weight, x)[:, None]

    return {"sums": partial(_machine, layer), "all pairs": pairs}, (torch.randn(b, features), 0.1 * layer.v)


def ids(b: int, users: int, items: int, rank: int) -> Case:
    """The same on users and items: ids, or the vectors that they stand for."""
    layer = zoo.FactorizationMachine(users + items, rank=rank).requires_grad_(False)
    pairs = torch.stack([torch.randint(users, (b,)), users + torch.randint(items, (b,))], 1)

    def vectors(pairs: Tensor, v: Tensor) -> Tensor:
        return _machine(layer, F.one_hot(pairs, users + items).sum(1).float(), v)

    called = _Ids(layer)
    return {"ids": partial(_machine, called, name="machine.v"), "vectors": vectors}, (pairs, layer.v)


def attention(heads: int, positions: int, channels: int) -> Case:
    """Softmax attention: torch's operation, which holds no scores, or scores, softmax, product."""
    layer = PredictedWeight(Outer(channels, softmax), Sequence(), nn.Identity())
    code = torch.randn(2, 1, heads, positions * channels) / channels**0.5
    ways = {
        "scaled dot-product": lambda x, p, q: layer.product((p, q), x),
        "scores": lambda x, p, q: table.plain(layer.structure, layer.axes, (p, q), x),
    }
    return ways, (torch.randn(1, heads, positions, channels), *code)


class _Ids(nn.Module):
    """A machine called by ids."""

    def __init__(self, layer: zoo.FactorizationMachine):
        super().__init__()
        self.machine = layer

    def forward(self, pairs: Tensor) -> Tensor:
        return self.machine.forward_ids(pairs)


def _machine(layer: nn.Module, x: Tensor, v: Tensor, name: str = "v") -> Tensor:
    return torch.func.functional_call(layer, {name: v}, (x,))


def _by_table(layer: PredictedWeight) -> Callable[..., Tensor]:
    return lambda x, code: layer.product(code, x)


def _gathered(layer: PredictedWeight) -> Callable[..., Tensor]:
    return lambda x, code: table.plain(layer.structure, layer.axes, code, x)


CASES: list[tuple[Callable[..., Case], list[tuple[int, ...]]]] = [
    (cond_conv, [(1, 64, 32, 8), (8, 64, 32, 8), (8, 64, 16, 4)]),
    (basis_prediction, [(4, 7, 16, 64), (8, 15, 90, 32)]),
    (gated_kernels, [(8, 5, 64, 128, 1), (8, 5, 12, 256, 1), (8, 5, 64, 128, 2), (8, 5, 12, 256, 2)]),
    (slicing, [(8, 12, 16, 256), (8, 12, 16, 1024)]),
    (machine, [(1024, 64, 8), (1024, 1024, 8)]),
    (ids, [(1024, 943, 1682, 8)]),
    (attention, [(8, 64, 64), (8, 512, 64), (8, 2048, 64)]),
]
SMOKE = {
    "cond_conv": (2, 3, 8, 4),
    "basis_prediction": (2, 3, 4, 8),
    "gated_kernels": (2, 3, 4, 8, 2),
    "slicing": (4, 3, 2, 8),
    "machine": (3, 5, 2),
    "ids": (4, 3, 5, 2),
    "attention": (2, 5, 4),
}


def measure(build: Callable[..., Case], sizes: tuple[int, ...], repeats: int = REPEATS) -> dict[str, Any]:
    """A row of the table."""
    names = ", ".join(name for name in build.__annotations__ if name != "return")
    ways, inputs = build(*sizes)
    return {"operation": build.__name__, names: list(sizes), "milliseconds": compare(ways, inputs, repeats)}


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small case each, nothing written")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if parser.parse_args().smoke:
        print(json.dumps([measure(build, SMOKE[build.__name__], 1) for build, _ in CASES]))
        return
    rows = []
    for build, cases in CASES:
        for sizes in cases:
            rows.append(measure(build, sizes))
            print(rows[-1], flush=True)
    report.write(RESULT, {"repeats": REPEATS, "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
