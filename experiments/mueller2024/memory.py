"""What each burst network costs beside what it reaches: peak memory, seconds and PSNR, for inference and training.

Claim (Müller 2024, Sec. 4.3, Table 1): gates in place of kernels save memory, fewer maps save more, and PSNR stays.
Command: `python -m experiments.mueller2024.memory`, 3 minutes on an idle core. Needs FASTWEIGHTS_DATA and the networks
of `python -m experiments.mueller2024.table1_burst train NETWORK`.
What runs: every trained network of one seed; the kernel network also as people write it, its kernels interpolated to
the picture's size and held ("kernels held") and cut to 16 gates (`fold`), and the bottleneck network also as the gates
that it is equal to. Memory
is the growth of a process's peak over what it held before: a float32 pass of 8 grey frames of 512 x 512 pixels, and
a step of training as `table1_burst` trains (4 bursts of 128 x 128, bfloat16 convolutions); seconds are the median of
five, one thread. PSNR (unclipped, random noise) on McMaster bursts.
Measured: results/memory.json, docs/images/memory.png, half width, one seed. A pass takes 182 MiB and .57 s with kernels
applied in one pass (29.34 dB), 292 MiB and 1.03 s with kernels held, 298 MiB and .71 s with 64 gates (29.10 dB), 570
MiB and 1.02 s with 128 (29.18 dB); a step 52, 151, 120 and 201 MiB. So gates trained between two filters of 5 x 5 save
memory in the widest predicted tensor alone (128 or 64 maps, not 200): hidden maps, gates and their products are all of
the picture's size. Gates that kernels become, with a second filter of one tap, are summed as they are interpolated: the
kernel network cut to 16 has its PSNR (29.35 dB) and memory in .44 s, the fastest of all. Kernels from 16 features reach
29.23 dB, from 64 features 29.46; the 17 gates that the first are equal to take as much memory and time, the 65 of the
others more: .56 s instead of .54, and 108 MiB instead of 69 for a step.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from cyclopts import App
from torch import Tensor, nn
from torch.utils.data import default_collate

from experiments import data, report
from experiments.mueller2024 import fold
from experiments.mueller2024.burst_names import burst_name
from experiments.mueller2024.table1_burst import RUNS, TEST_SEED, trained_files
from fastweights.burst import cases, evaluate, methods, weights
from fastweights.burst.models import Denoiser, PaperDenoiser
from fastweights.burst.synthesis.paper import PaperBursts, noise_map
from fastweights.burst.synthesis.photos import load_photos
from fastweights.codes import Upsampled
from fastweights.ops.local_conv import local_conv_reference

matplotlib.use("agg")
import matplotlib.pyplot as plt

RESULT = Path("results/memory.json")
FIGURE = Path("docs/images/memory.png")
SIZE, PATCH, BATCH, REPEATS = 512, 128, 4, 5
HELD, GATES, FEW, FEW_GATES = ", kernels held", ", as gates", ", 16 gates", 16
app = App(help=__doc__, help_format="plaintext")


class KernelsHeld(nn.Module):
    """A kernel network as people write it: kernels of the picture's size first, then the product."""

    def __init__(self, network: PaperDenoiser):
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, noise: Tensor) -> Tensor:
        """The picture (B, 1, H, W)."""
        code = self.network.code(frames, noise)
        assert isinstance(code, Upsampled)
        size = self.network.config.kernel_size
        kernels = code.dense().unflatten(1, (frames.shape[1], size, size))
        return local_conv_reference(frames, kernels).unsqueeze(1)


def network(name: str, runs: Path, seen: int = 0) -> nn.Module:
    """A row's network: that of a run, or its picture by another way; so many training bursts choose few gates."""
    found = weights.load(runs / f"{name.split(',')[0]}-seed0" / "weights.safetensors")
    assert isinstance(found, PaperDenoiser)
    if name.endswith(HELD):
        return KernelsHeld(found)
    if name.endswith(FEW):
        return fold.folded(found, FEW_GATES, fold.observed(found, seen))[0]
    return found.converted()[0] if name.endswith(GATES) else found


def names(runs: Path) -> list[str]:
    """Rows for the trained networks: kernel networks also held and cut, bottleneck networks also as gates."""
    trained = sorted(path.parent.name.removesuffix("-seed0") for path in trained_files(runs, "*-seed0"))
    rows = []
    for name in trained:
        kernels = name in ("kpn", "kpn-full")  # kpn-3500 and the like cost what kpn costs
        if kernels or name.startswith(("gated-", "kpn-from-", "basis-")):
            rows += [name] + [name + HELD, name + FEW] * kernels + [name + GATES] * name.startswith("kpn-from-")
    return rows


def burst(number: int, size: int) -> tuple[Tensor, Tensor]:
    """Frames and noise."""
    torch.manual_seed(0)
    return torch.rand(number, 8, size, size), torch.rand(number, 1, size, size)


def calls(model: nn.Module, training: bool) -> Callable[[int], None]:
    """A pass over frames of a size, or a step of training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)

    def infer(size: int) -> None:
        with torch.no_grad():
            model(*burst(1, size))

    def step(size: int) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            picture = model(*burst(BATCH, size))
        picture.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step if training else infer


@app.command
def one(name: str, runs: Path, inference: int, training: int) -> None:
    """Print, as JSON, MiB by which the process grows, and seconds.

    Args:
        name: Of the network.
        runs: Folder of the runs.
        inference: Side of the frames in pixels.
        training: The same, of a training step.
    """
    torch.set_num_threads(1)
    row = {}
    for kind, size in (("inference", inference), ("training", training)):
        call = calls(network(name, runs).train(kind == "training"), kind == "training")
        call(32)  # compiles and allocates what every pass needs
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        call(size)
        row[f"{kind} MiB"] = round((status("VmHWM") - before) / 1024, 1)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            call(size)
            seconds.append(time.perf_counter() - start)
        row[f"{kind} seconds"] = round(statistics.median(seconds), 3)
    print(json.dumps(row))


def status(field: str) -> int:
    """KiB that Linux reports of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


@app.default
def main(
    *, runs: Path = RUNS, count: int = 72, result: Path = RESULT, figure: Path = FIGURE, smoke: bool = False
) -> None:
    """Measure all rows, and draw them.

    Args:
        runs: Folder of the runs.
        count: McMaster bursts of the PSNR.
        result: The JSON file written.
        figure: The plot written.
        smoke: Small frames, for a test.
    """
    sizes = {"inference": 64, "training": 32} if smoke else {"inference": SIZE, "training": PATCH}
    # Freed memory goes back to the system at once, or a later tensor would hide in what an earlier one left.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    rows: dict[str, Any] = {}
    for name in names(runs):
        command = [sys.executable, "-m", "experiments.mueller2024.memory", "one", name, str(runs)]
        command += [str(size) for size in sizes.values()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        rows[name] = json.loads(done.stdout)
        print(f"{name:26}", ", ".join(f"{key} {value}" for key, value in rows[name].items()), flush=True)
    photos = load_photos(data.path("mcmaster"))
    ways = {name: network(name, runs, -(-count // 2)) for name in rows if not name.endswith(HELD)}
    methods_ = {name: methods.network_method(one) for name, one in ways.items() if isinstance(one, Denoiser)}
    scores, _ = evaluate.evaluate(cases.cases("paper", photos, TEST_SEED), count, methods_)
    for name, row in rows.items():
        row["psnr"] = scores[name.removesuffix(HELD)].psnr
        print(f"{name:26} {row['psnr']:.2f} dB")
        if name.endswith(GATES):
            row["largest difference"] = difference(ways[name.removesuffix(GATES)], ways[name], photos)
    report.write(result, {"sizes": sizes, "bursts": count, "networks": rows})
    draw(rows, figure)


@torch.no_grad()
def difference(kernels: nn.Module, gates: nn.Module, photos: Sequence[np.ndarray], count: int = 4) -> float:
    """By how much the pictures of two forms of a network differ at most, on McMaster bursts, in float32."""
    bursts, found = PaperBursts(photos, TEST_SEED), 0.0
    for number in range(count):
        shown = default_collate([bursts[number]])
        inputs = shown.frames, noise_map(shown.frames[:, 0], shown.sigma_read, shown.sigma_shot)[:, None]
        found = max(found, (kernels(*inputs) - gates(*inputs)).abs().max().item())
    return found


def draw(rows: dict[str, Any], path: Path) -> None:
    """PSNR against the peak memory of a pass; rows at one place share a label."""
    picture, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    places: dict[tuple[int, int], list[str]] = {}
    for name, row in rows.items():
        places.setdefault((round(row["inference MiB"] / 4), round(50 * row["psnr"])), []).append(name)
    for names in places.values():
        place = (rows[names[0]]["inference MiB"], rows[names[0]]["psnr"])
        (dot,) = axes.plot(*place, "o")
        label, colour = "\n".join(map(burst_name, names)), dot.get_color()
        # A label reads leftwards where another point would lie under it.
        others = ((row["inference MiB"] - place[0], abs(row["psnr"] - place[1])) for row in rows.values())
        left = any(20 < right < 300 and beside < 0.03 for right, beside in others)
        side: Any = {"xytext": (-8 if left else 8, 0), "ha": "right" if left else "left"}
        axes.annotate(label, place, textcoords="offset points", color=colour, fontsize=9, va="center", **side)
    axes.set(
        xlabel=f"peak memory of a pass over 8 frames of {SIZE} x {SIZE} pixels, MiB",
        ylabel="PSNR in dB, unclipped, McMaster",
        xlim=(0, 1.25 * max(row["inference MiB"] for row in rows.values())),
    )
    axes.margins(y=0.2)
    picture.savefig(path, dpi=130)
    plt.close(picture)


if __name__ == "__main__":
    app()
