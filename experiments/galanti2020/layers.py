"""Fig. 1 (a): test error on the synthetic target against the number of layers of f and e.

Claim: with three or more layers the hypernetwork beats the embedding method; it gains from every further layer, the
embedding method does not.
Command: `python -m experiments.galanti2020.layers`, resumed by calling it again.
"""

import functools
from pathlib import Path

import torch
from torch import nn

from experiments.galanti2020 import sweep, synthetic
from experiments.galanti2020.batched import embedding_method, hypernetwork
from experiments.galanti2020.sweep import Given, Job, Options

RESULT = Path("results/galanti2020_layers.json")
WIDTH = 100
app = sweep.app(__doc__)


def build(method: str, k: int, size: int = 1000, embedding: int = 10_000) -> nn.Module:
    """The network of one point: f or e with k linear layers, g or q with two."""
    trunk = (size, *(WIDTH,) * (k - 1))
    if method == "hypernetwork":
        return hypernetwork((size, 10, 1), trunk)
    return embedding_method((size, 10, 1), (*trunk, embedding))


@app.default
def main(options: Given = Options()) -> None:  # noqa: B008
    """Run the jobs that the result file does not hold yet; x is k, the linear layers of f and e."""
    torch.set_num_threads(1)
    sizes = {"size": 20, "embedding": 30} if options.smoke else {}

    @functools.cache
    def data() -> synthetic.Data:
        if options.smoke:
            return synthetic.Data(options.seeds, 20, 400, 500)
        return synthetic.Data(options.seeds, 1000)

    def run(job: Job) -> dict[str, object]:
        return synthetic.run(job, functools.partial(build, **sizes), data())

    sweep.sweep(options.jobs(range(2, 10)), run, lambda: data().head, options.file(RESULT), options.seconds)


if __name__ == "__main__":
    app()
