"""`HyperNetwork` against vmap, a batched product written by hand, and two libraries: time and extra memory.

Command: `python -m benchmarks.hypernetwork`, 2 minutes on a quiet machine; writes results/benchmark_hypernetwork.json.
A 64-64-64-1 network with 8,385 weights from 64 features by a linear head, for 128 contexts of one sample and for 32
contexts of 256 samples; a ResNet with a context for each of 32 images. Times are medians of 7 in one process, the ways
taking turns, each run once untimed before: what follows a library's loop would find threads asleep and caches cold.
Extra memory is the peak above the inputs, each way in a process of its own (Linux), also for 4,096 contexts, where it
is above 100 MiB.
hyperlight and hypnettorch (extra `bench`) have one set of weights a call, so they loop over contexts; hyper-nn is left
out, as it brings JAX. Refuses to time when ways that share weights do not agree.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.local_conv import milliseconds
from experiments import report
from fastweights import HyperNetwork

RESULT = Path("results/benchmark_hypernetwork.json")
FEATURES, REPEATS = 64, 7
SIZES = {"128 x 1": (128, 1), "32 x 256": (32, 256)}
LARGE = {"4096 x 1": (4096, 1), "4096 x 16": (4096, 16)}  # weights of 131 MiB: for the memory only
Way = Callable[[Tensor, Tensor], Tensor]


def mlp() -> nn.Sequential:
    """64-64-64-1."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = norm(out), norm(out)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """relu(x + f(x))."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Three blocks of 16, 32, 64 channels, on 3 x 32 x 32 images."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        *(Block(16, 16, 1, norm), Block(16, 32, 2, norm), Block(32, 64, 2, norm)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    ).eval()


class Ours(nn.Module):
    """One line."""

    def __init__(self) -> None:
        super().__init__()
        self.network = HyperNetwork(mlp(), nn.Identity(), features=FEATURES)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        return self.network(x, context, grouped=True)


class OneHead(nn.Module):
    """What one writes without a library: a linear layer for all weights, split by name."""

    def __init__(self) -> None:
        super().__init__()
        self.primary = mlp()
        self.shapes = {name: value.shape for name, value in self.primary.named_parameters()}
        self.head = nn.Linear(FEATURES, sum(shape.numel() for shape in self.shapes.values()))

    def weights(self, context: Tensor) -> dict[str, Tensor]:
        """(B, *shape) by name."""
        parts = self.head(context).split([shape.numel() for shape in self.shapes.values()], -1)
        return {n: part.unflatten(-1, shape) for (n, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def parameters(self, recurse: bool = True) -> Any:
        """The head's: the primary holds sizes only."""
        return self.head.parameters(recurse)


class ByHand(OneHead):
    """Batched products of this one network, written out."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        w1, b1, w2, b2, w3, b3 = self.weights(context).values()
        x = F.relu(torch.baddbmm(b1[:, None], x, w1.mT))
        x = F.relu(torch.baddbmm(b2[:, None], x, w2.mT))
        return torch.baddbmm(b3[:, None], x, w3.mT)


class ByVmap(OneHead):
    """torch.func.vmap over functional_call."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        return torch.vmap(lambda w, x: functional_call(self.primary, w, (x,)))(self.weights(context), x)


class Hyperlight(nn.Module):
    """hyperlight: weights of all contexts at once, `unbind` instead of indexing, one call a context."""

    def __init__(self) -> None:
        super().__init__()
        import hyperlight

        primary = mlp()
        self.primary = hyperlight.hypernetize(primary, modules=hyperlight.find_modules_of_type(primary, [nn.Linear]))
        self.hyper = hyperlight.HyperNet(
            input_shapes={"h": (FEATURES,)},
            output_shapes=self.primary.external_shapes(),
            hidden_sizes=[],
            encoding=None,
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        weights = {name: value.unbind() for name, value in self.hyper(h=context).items()}
        rows = []
        for number, part in enumerate(x.unbind()):
            with self.primary.using_externals({name: value[number] for name, value in weights.items()}):
                rows.append(self.primary(part))
        return torch.stack(rows)


class Hypnettorch(nn.Module):
    """hypnettorch: a list of weights for each context, one call a context."""

    def __init__(self) -> None:
        super().__init__()
        from hypnettorch.hnets import HMLP
        from hypnettorch.mnets import MLP

        self.primary = MLP(n_in=64, n_out=1, hidden_layers=(64, 64), no_weights=True, verbose=False)
        shapes = self.primary.param_shapes
        self.hyper = HMLP(shapes, uncond_in_size=FEATURES, cond_in_size=0, num_cond_embs=0, layers=(), verbose=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, 64)."""
        weights = self.hyper.forward(uncond_input=context, ret_format="sequential")
        return torch.stack([self.primary.forward(p, weights=w) for p, w in zip(x.unbind(), weights, strict=True)])


def ways() -> dict[str, nn.Module]:
    """Every way whose packages are installed; the first three share their weights."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"HyperNetwork": Ours(), "by hand": ByHand(), "vmap": ByVmap()}
    structures = list(found["HyperNetwork"].network.head.structures)  # type: ignore[union-attr, arg-type]
    for name in ("by hand", "vmap"):
        head = found[name].head
        with torch.no_grad():
            head.weight.copy_(torch.cat([s.templates.flatten(1).T for s in structures]))  # type: ignore[union-attr, operator]
            head.bias.copy_(torch.cat([s.base.flatten() for s in structures]))  # type: ignore[union-attr, operator]
    for name, build in (("hyperlight", Hyperlight), ("hypnettorch", Hypnettorch)):
        if find_spec(name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = build()
    return found


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
        calls = {name: partial(step, way, x, context, mode == "backward") for name, way in found.items()}
        times = milliseconds(calls, repeats, warm=True)  # type: ignore[arg-type]
        best = min(value for name, value in times.items() if name != "HyperNetwork")
        row[mode] = {
            "milliseconds": {name: round(value, 2) for name, value in times.items()},
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
