"""Gates in place of the kernels of trained networks: the same picture, and what it saves.

Claim: Corollary 3.2, any kernel prediction layer is a convolutional gated double layer; with n gates for n kernel
numbers in general, and with C + 1 where a 1 x 1 head makes the kernels from C features.
Command: `python -m experiments.mueller2024.converted_networks`, about 5 minutes on two threads. Converts the shipped
`kpn` (3 x 3 heads) on the demo's burst and a network with a 1 x 1 head from 16 features, trained for 300 steps by the
paper's protocol (needs FASTWEIGHTS_DATA; left out without it).
Measured: results/converted_networks.json.
"""

import os
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from cyclopts import App
from torch import Tensor

from experiments import report
from experiments.mueller2024.paper_protocol import settings
from fastweights.burst import demo, images, weights
from fastweights.burst.models import Denoiser, ModelConfig
from fastweights.burst.train import train
from fastweights.burst.transfer import srgb_decode

RESULT = Path("results/converted_networks.json")
app = App(help=__doc__, help_format="plaintext")


def seconds(model: Denoiser, inputs: tuple[Tensor, ...], repeats: int = 5) -> float:
    """Median time of a call without gradients."""
    taken = []
    with torch.no_grad():
        for _ in range(repeats):
            start = time.perf_counter()
            model(*inputs)
            taken.append(time.perf_counter() - start)
    return round(statistics.median(taken), 4)


def compare(name: str, model: Denoiser, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Both networks on the same burst: difference, gates, cost, seconds."""
    converted, found = model.converted(inputs)
    print(f"== {name}\n{found}")
    times = {"before": seconds(model, inputs), "after": seconds(converted, inputs)}
    print(f"seconds: {times['before']} before, {times['after']} after")
    assert found.before is not None
    assert found.after is not None
    return {
        "largest difference": found.difference,
        "layers": [str(line) for line in found.layers],
        "before": asdict(found.before) | {"seconds": times["before"]},
        "after": asdict(found.after) | {"seconds": times["after"]},
    }


@app.default
def main(
    *, steps: int = 300, out: Path = Path("runs/paper-kpn-16"), result: Path = RESULT, smoke: bool = False
) -> None:
    """Convert and compare.

    Args:
        steps: Training steps of the network with a 1 x 1 head.
        out: Folder of its run.
        result: The JSON file written.
        smoke: Small pictures, for a test.
    """
    size = 64 if smoke else 512
    frames = srgb_decode(demo.synthesise(images.read(images.SAMPLE))[0])[None, :, :, :size, :size]
    rows = {"kpn, 3 x 3 heads": compare("kpn, 3 x 3 heads", weights.load("kpn"), (frames, torch.ones(1, 8)))}
    if "FASTWEIGHTS_DATA" in os.environ:
        config = settings(ModelConfig(width=32, post=100, features=16), out, steps)
        grey = frames.mean(2)
        noise = torch.full_like(grey[:, :1], 0.05)
        name = "paper's grey network, 1 x 1 head from 16 features"
        rows[name] = compare(name, cast(Denoiser, train(config).model), (grey, noise))
    report.write(result, {"picture": [size, size], "networks": rows})


if __name__ == "__main__":
    app()
