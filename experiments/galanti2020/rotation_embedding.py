"""Appendix 1.2: the rotation task of Fig. 3 against the embedding's size, i = 1..8 times 10,000 numbers.

Claim: a larger embedding does not bring the embedding method near the hypernetwork.
Command: `python -m experiments.galanti2020.rotation_embedding --epochs 10`, resumed by calling it again; needs
FASTWEIGHTS_DATA. e is d -> 100 -> 10^4 i, q (d + 10^4 i) -> 10 -> 12, g d -> 10 -> 12, f d -> 100 -> N_g, with two
layers; nothing in g and f depends on i, so the hypernetwork is trained once (x 0). The published code has i = 2..9,
10,000 (i + 1) numbers and depth 3 instead.
Measured (results/galanti2020_rotation_embedding.json: `--x 1 --seeds 1`, one epoch): the embedding method has
.458 wrong at i = 1. Larger i and the hypernetwork were not run.
"""

import dataclasses
import functools
from pathlib import Path

import torch
from torch import nn

from experiments.galanti2020 import rotation, sweep
from experiments.galanti2020.batched import embedding_method, hypernetwork
from experiments.galanti2020.mnist import CLASSES
from experiments.galanti2020.sweep import Given, Options

RESULT = Path("results/galanti2020_rotation_embedding.json")
PIXELS, WIDTH, UNIT = 784, 100, 10_000
app = sweep.app(__doc__)


def build(method: str, i: int, unit: int = UNIT) -> nn.Module:
    """The network of one point."""
    if method == "hypernetwork":
        return hypernetwork((PIXELS, 10, CLASSES), (PIXELS, WIDTH))
    return embedding_method((PIXELS, 10, CLASSES), (PIXELS, WIDTH, unit * i))


@app.default
def main(options: Given = Options(seeds=5)) -> None:  # noqa: B008
    """Run the jobs that the result file does not hold yet; x is i, and 0 for the hypernetwork."""
    torch.set_num_threads(1)
    load = sweep.Once(lambda: rotation.images("mnist", 300 if options.smoke else None))
    make = functools.partial(build, unit=20) if options.smoke else build
    jobs = options.jobs(range(1, 9), ("embedding",))
    jobs += dataclasses.replace(options, x=[0]).jobs([0], ("hypernetwork",))
    head = {"measure": rotation.MEASURE}
    sweep.sweep(jobs, lambda job: rotation.run(job, *load(), make), lambda: head, options.file(RESULT), options)


if __name__ == "__main__":
    app()
