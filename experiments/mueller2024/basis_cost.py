"""What large kernels cost: a basis for each image and coefficients a pixel, beside kernels a pixel.

Claim (Müller 2024, Sec. 4.3, after Xia et al. 2020): kernels of a burst do not need full rank; with B basis kernels an
image, large kernels (K = 15) cost what small ones (K = 5) do.
Command: `python -m experiments.mueller2024.basis_cost`, half a minute on an idle core.
What runs: one forward pass of 8 grey frames of 512 x 512 pixels through the released U-Net (width 64) with different
heads, not trained: this is a table of cost, and `table1_burst` trains a network with a smaller basis ("basis-48").
Multiply-adds and the largest tensor by `fastweights.cost.measure`; peak memory as the growth of a process's resident
size during the pass, a process each.
Measured: results/basis_cost.json. 90 basis kernels of K = 15 take 18 % more multiply-adds than kernels of K = 5
(729,371 and 616,232 a pixel) and about as much memory (379 and 367 MiB; the largest tensor is the U-Net's in both);
kernels of K = 15 take 1,337,832 and 585 MiB, 64 gates between filters of K = 15 and 1 take 670,096 and 383 MiB. From
run to run the memory differs by some 10 MiB, for the kernels of K = 15 by up to 48.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from cyclopts import App
from torch import Tensor

from experiments import report
from fastweights import cost
from fastweights.burst.models import Denoiser, ModelConfig, build

RESULT = Path("results/basis_cost.json")
KPN = ModelConfig()
app = App(help=__doc__, help_format="plaintext")


def network(name: str) -> Denoiser:
    """A network of the table."""
    kinds = {
        "kernels, K = 5": KPN,
        "kernels, K = 15": replace(KPN, kernel_size=15),
        "64 gates, K = 5": replace(KPN, kind="gated", maps=64),
        "64 gates, K = 15 and 1": replace(KPN, kind="gated", maps=64, kernel_size=15, out_kernel_size=1),
        "90 basis kernels, K = 15": replace(KPN, kind="basis", maps=90, kernel_size=15),
    }
    return build(kinds[name])


NAMES = ("kernels, K = 5", "kernels, K = 15", "64 gates, K = 5", "64 gates, K = 15 and 1", "90 basis kernels, K = 15")


def inputs(size: int) -> tuple[Tensor, Tensor]:
    """A burst and its noise."""
    torch.manual_seed(0)
    return torch.rand(1, 8, size, size), torch.rand(1, 1, size, size)


@app.command
def one(name: str, size: int) -> None:
    """Print, as JSON, what one pass costs, and by how many bytes the process grows with it.

    Args:
        name: Of the network.
        size: Side of the frames in pixels.
    """
    torch.set_num_threads(1)
    model, burst = network(name).eval(), inputs(size)
    cost.measure(model, *inputs(64))  # compiles and allocates what every pass needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = cost.measure(model, *burst)
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps(asdict(found) | {"peak_bytes": peak}))


@app.default
def main(*, size: int = 512, result: Path = RESULT, smoke: bool = False) -> None:
    """Measure all networks.

    Args:
        size: Side of the frames in pixels.
        result: The JSON file written.
        smoke: Three networks on small frames, for a test.
    """
    rows: dict[str, Any] = {}
    names, size = ((NAMES[0], NAMES[1], NAMES[-1]), 64) if smoke else (NAMES, size)
    for name in names:
        command = [sys.executable, "-m", "experiments.mueller2024.basis_cost", "one", name, str(size)]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        row["largest in maps"] = row["largest_bytes"] / 4 / size**2
        row["multiply-adds a pixel"] = round(row["multiply_adds"] / size**2)
        rows[name] = row
        print(
            f"{name:26} {row['parameters']:10,} parameters, {row['multiply-adds a pixel']:9,} multiply-adds a pixel, "
            f"largest tensor {row['largest in maps']:5.0f} maps, peak {row['peak_bytes'] / 2**20:.0f} MiB",
            flush=True,
        )
    report.write(result, {"frames": [8, size, size], "trained": False, "networks": rows})


if __name__ == "__main__":
    app()
