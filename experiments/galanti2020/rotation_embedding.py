"""Appendix 1.2: the rotation task of Fig. 3 against the embedding's size, i = 1..8 times 10,000 numbers.

Claim: a larger embedding does not bring the embedding method near the hypernetwork.
Command: `python -m experiments.galanti2020.rotation_embedding --epochs 10`, resumed by calling it again; needs
FASTWEIGHTS_DATA; 10 minutes of one processor. e is d -> 100 -> 10^4 i, q (d + 10^4 i) -> 10 -> 12, g d -> 10 -> 12, f
d -> 100 -> N_g, with two layers; nothing in g and f depends on i, so the hypernetwork is trained once (x 0). The
published code has i = 2..9, 10,000 (i + 1) numbers and depth 3 instead. Embeddings are trained as 111 numbers, which is
the same (`narrowed`).
Measured (results/galanti2020_rotation_embedding.json: 10 epochs, 5 repetitions), share of wrong classes:

    i           1           2           3           4           5           6           7           8
    embedding   .110+-.006  .126+-.005  .119+-.007  .131+-.007  .148+-.011  .145+-.005  .160+-.013  .171+-.012
    hypernetwork .120 +- .003

A larger embedding is worse, if anything; but at i = 1 to 3 the embedding method has no more errors than the
hypernetwork, whose f has two layers here as e has (after one epoch it has .255, the embedding method .43 to .57). In
Fig. 3 (a) the hypernetwork gains from a third and a fourth layer.
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
