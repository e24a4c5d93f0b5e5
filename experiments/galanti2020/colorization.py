"""Appendix 1.3: the colour of a pixel from its position and the grey image, against the layers of f and e.

Claim: the hypernetwork's error is lower than the embedding method's and falls with the depth of f.
Command: `python -m experiments.galanti2020.colorization --epochs 10 --seeds 5`, resumed by calling it again; needs
FASTWEIGHTS_DATA; 17 minutes of one processor.
As in the paper: CIFAR-10, I the grey image (1,024 numbers), x the pixel's position lifted to 42 numbers, y its colour
in [-1, 1]; g 42 -> 10 -> 3 (without biases) and q 492 -> 10 -> 3 with ELU, f and e k layers of width 100 with 450
outputs; squared error. Not stated there: positions are scaled to [-1, 1], batches of 64 images, SGD with rate 0.01, one
pass by default. Of every image in a batch 64 random pixels are taken, all 1,024 of test images. The embedding is made
once an image and enters the first layer as one vector for all its pixels.
Measured (results/galanti2020_colorization.json: 10 epochs, 5 repetitions; the mean colour errs by .252, the pixel's own
grey by .027; errors up to .004):

    k                          2      3      4      5      6      7
    rate .01   embedding       .150   .155   .164   .180   .181   .183
               hypernetwork    .113   .112   .116   .121   .128   .140
    rate .1    embedding       .121          .131                 .145
    (`--rates 0.1 --x 2 4 7`)
               hypernetwork    diverged      .097                 .113

The hypernetwork is ahead at every k where both learn. It does not gain from depth beyond k = 3 at this length: deeper
networks begin later, at k = 7 neither has learned more than the mean colour after one epoch (.247, .248).
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import data
from experiments.galanti2020 import cifar, start, sweep
from experiments.galanti2020.batched import Grouped, Stack, layers
from experiments.galanti2020.merged import Merged
from experiments.galanti2020.sweep import EPOCHS_KEPT, Given, Job, Options, summary
from fastweights import EmbeddingNetwork, HyperNetwork

RESULT = Path("results/galanti2020_colorization.json")
BATCH, PIXELS, OUTPUTS, WIDTH = 64, 64, 450, 100
app = sweep.app(__doc__)


def lifted(h: Tensor, w: Tensor) -> Tensor:
    """The 42 numbers of a position: i1, i2, and i1^k + i2, i2^k + i1, i1^k - i2, i2^k - i1 for k = 0 ... 9.

    Example
    -------
    >>> lifted(torch.tensor(0.5), torch.tensor(-1.0))[:10].tolist()
    [0.5, -1.0, 0.0, 1.5, 2.0, 0.5, -0.5, -0.5, 1.5, -1.5]
    """
    powers = [(h**k + w, w**k + h, h**k - w, w**k - h) for k in range(10)]
    return torch.stack([h, w, *(one for four in powers for one in four)], -1)


@functools.cache
def positions() -> Tensor:
    """(1024, 42), scaled to [-1, 1]."""
    axis = torch.linspace(-1, 1, data.EDGE)
    return lifted(*(grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij")))


def build(method: str, k: int) -> nn.Module:
    """The network of one point; x (B, N, 42), context (B, 1024)."""
    trunk = (data.EDGE**2, *(WIDTH,) * (k - 1))
    if method == "hypernetwork":
        g = layers(42, 10, 3, bias=False, activation=nn.ELU)
        return Grouped(HyperNetwork(g, nn.Sequential(*layers(*trunk), nn.ReLU()), route="materialise"))
    q = layers(42 + OUTPUTS, 10, 3, activation=nn.ELU)
    return Merged(EmbeddingNetwork(q, layers(*trunk, OUTPUTS)))


def batches(images: Tensor, number: int, seeds: int, size: int, pixels: int | None) -> Iterable[tuple[Tensor, ...]]:
    """(x, I, y) of one epoch, each seed in an order of its own; random pixels, or all."""
    generators = [torch.Generator().manual_seed(977 * seed + number) for seed in range(seeds)]
    orders = torch.stack([torch.randperm(len(images), generator=generator) for generator in generators])
    for chosen in orders.split(size, 1):
        colours = images[chosen]
        y = (colours.unflatten(-1, (3, -1)).float() / 127.5 - 1).mT  # (S, B, 1024, 3)
        x = positions().expand(*y.shape[:2], -1, -1)
        if pixels is not None:
            taken = torch.stack(
                [torch.randint(1024, (chosen.shape[1], pixels), generator=generator) for generator in generators]
            )
            x, y = positions()[taken], y.gather(2, taken.unsqueeze(-1).expand(-1, -1, -1, 3))
        yield x, (cifar.grey(colours) - 0.5) / 0.25, y


def run(job: Job, train: Tensor, test: Tensor) -> dict[str, Any]:
    """Train one job; a summary of the squared errors after 1, 2, 5, ... epochs."""
    networks = []
    for seed in range(job.seeds):
        torch.manual_seed(seed)
        network = build(job.method, job.x)
        inner = network.network if isinstance(network, Grouped) else network
        start.apply(inner, job.start, (cifar.grey(train[:1000]) - 0.5) / 0.25)
        networks.append(network)
    stack, kept = Stack(networks), {}
    for epoch in range(1, job.epochs + 1):
        for x, context, y in batches(train, epoch, job.seeds, BATCH, PIXELS):
            stack.step((x, context), y, nn.functional.mse_loss, job.rate)
        if epoch in EPOCHS_KEPT or epoch == job.epochs:
            parts = batches(test, 0, job.seeds, 100, None)
            errors = [(stack(x, context) - y).square().mean((2, 3)) for x, context, y in parts]
            kept[str(epoch)] = summary(torch.cat(errors, 1).mean(1).tolist())
    return kept


def baselines(train: Tensor, test: Tensor) -> dict[str, float]:
    """What predicting the mean colour gives, and the pixel's own grey value, which neither method sees as such."""
    colours, held = (part.unflatten(-1, (3, -1)).float() / 127.5 - 1 for part in (train[:5000], test))
    own = (2 * cifar.grey(test) - 1).unsqueeze(1)
    return {
        "mean colour": (held - colours.mean((0, 2), keepdim=True)).square().mean().item(),
        "own grey": (held - own).square().mean().item(),
    }


@app.default
def main(options: Given = Options(seeds=3)) -> None:  # noqa: B008
    """Run the jobs that the result file does not hold yet; x is k, the layers of f and e."""
    torch.set_num_threads(1)

    @sweep.Once
    def images() -> tuple[Tensor, Tensor]:
        return (
            cifar.images("train", 200 if options.smoke else None),
            cifar.images("test", 100 if options.smoke else 2000),
        )

    def head() -> dict[str, Any]:
        return {"measure": "squared error of colours in [-1, 1], 2,000 test images", "baselines": baselines(*images())}

    jobs = options.jobs(range(2, 8))
    sweep.sweep(jobs, lambda job: run(job, *images()), head, options.file(RESULT), options)


if __name__ == "__main__":
    app()
