"""Fig. 1 (b), Appendix 1.1: test error on synthetic targets against the width before f's last layer, and e's outputs.

Claim: a larger embedding does not help the embedding method, whose error stays far above that of hypernetworks with a
wider f.
Command: `python -m experiments.galanti2020.embedding_size --epochs 10`, resumed by calling it again: i = 1..8, 10
repetitions; 20 minutes of one processor. Embeddings are trained as 111 numbers, which is the same (`narrowed`).
Measured (results/galanti2020_embedding_size.json, errors times 1000; variance 17.1, best that ignores I .22), torch's
start; the opposite of the claim:

    i             1            2            3            4            5            6            7            8
    after 1 pass
    embedding     12.3 +- 1.2  9.2 +- 1.1   9.3 +- .9    7.4 +- .9    8.5 +- .9    8.0 +- .6    9.1 +- 1.1   5.7 +- .5
    hypernetwork  33.0 +- .5   33.0 +- .7   32.2 +- .5   31.8 +- .5   30.9 +- .7   30.2 +- .6   29.1 +- .6   29.1 +- .7
    after 10 passes
    embedding     .83 +- .03   .49 +- .03   .35 +- .02   .34 +- .01   .28 +- .01   .28 +- .01   .27 +- .01   .25 +- .01
    hypernetwork  18.2 +- .43  17.1 +- .47  15.6 +- .53  14.0 +- .47  12.8 +- .20  11.5 +- .28  10.6 +- .15  10.1 +- .20

The embedding method gains from a larger embedding, by its start alone (`narrowed`), and ends near the best that ignores
I. The hypernetwork gains from width, and takes five to ten passes to get below the variance, at i = 1 and 2 more.
`--x 1 --starts default he hyperfan-in anchored --epochs 5 --seeds 3`, rate 0.01, after 1 and 5 passes, three seeds:

                  default      he          hyperfan-in  anchored (the library's start)
    embedding     10.8, 1.7    16.1, 15.8
    hypernetwork  33.5, 21.6   diverged    31.8, 16.7   15.6, 6.0

No start brings the paper's order back with both at their best; anchored is by far the best for the hypernetwork, and
He's makes either useless.

Types II and III (results/galanti2020_embedding_size_type2.json, _type3.json: `--target II` and III), errors, not times
1000; i = 3 and 5 to 7 lie between:

    II: best that ignores I 1.62 +- .16     i = 1         2             4             8
        embedding                           1.30 +- .12   .96 +- .05    .93 +- .09    .97 +- .10
        hypernetwork                        1.41 +- .08   1.36 +- .09   1.29 +- .10   1.25 +- .11
    III: best that ignores I 2.37 +- .14
        embedding                           2.37 +- .15   2.36 +- .15   2.37 +- .15   2.37 +- .15
        hypernetwork                        2.45 +- .15   2.44 +- .16   2.43 +- .15   2.40 +- .15

    II after 10 passes (`--target II --x 1 4 8 --epochs 10`)
        embedding                           .67 +- .05                  .67 +- .05    .67 +- .05
        hypernetwork                        .89 +- .06                  .91 +- .07    .95 +- .08

The paper finds no gain for either method. So it is on II after ten passes, and on III, where nothing is learned in one;
after one pass on II the embedding method gains from i = 1 to 2 and no more, the hypernetwork a little all along.
"""

import functools
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from experiments.galanti2020 import sweep, synthetic
from experiments.galanti2020.batched import embedding_method, hypernetwork
from experiments.galanti2020.sweep import Given, Job, Options

RESULTS = {
    "I": Path("results/galanti2020_embedding_size.json"),
    "II": Path("results/galanti2020_embedding_size_type2.json"),
    "III": Path("results/galanti2020_embedding_size_type3.json"),
}
app = sweep.app(__doc__)


def build(method: str, i: int, size: int = 100) -> nn.Module:
    """The network of one point: f is 100 -> 100 -> 100 i -> weights of g, e is 100 -> 100 -> 100 -> 1000 i."""
    if method == "hypernetwork":
        return hypernetwork((size, 10, 1), (size, size, size * i))
    return embedding_method((size, 10, 1), (size, size, size, 10 * size * i))


@app.default
def main(options: Given = Options(), *, target: Literal["I", "II", "III"] = "I") -> None:  # noqa: B008
    """Run the jobs that the result file does not hold yet; x is i; target is the type."""
    torch.set_num_threads(1)
    size = 10 if options.smoke else 100

    @sweep.Once
    def data() -> synthetic.Data:
        if options.smoke:
            return synthetic.Data(options.seeds, size, 400, 500, target)
        return synthetic.Data(options.seeds, size, kind=target)

    def run(job: Job) -> dict[str, Any]:
        return synthetic.run(job, functools.partial(build, size=size), data())

    sweep.sweep(options.jobs(range(1, 9)), run, lambda: data().head, options.file(RESULTS[target]), options)


if __name__ == "__main__":
    app()
