"""How many weights the networks of Galanti and Wolf's experiments have (Sec. 5, Appendix 1), misprints set right."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


def weights(*widths: int) -> int:
    """Number of weights, biases not counted, of linear layers between these widths.

    >>> weights(100, 10, 1)
    1010
    """
    return sum(i * j for i, j in itertools.pairwise(widths))


@dataclass(frozen=True)
class Sizes:
    """Weights of the four networks of an experiment: primary ones g, q and what feeds them, f, e."""

    g: int
    q: int
    f: int
    e: int


def synthetic_layers(layers: int) -> Sizes:
    """Sec. 5, layers sweep: d = 1000, E = 10,000; f and e have 2 to 9 layers of width 100.

    >>> synthetic_layers(3)
    Sizes(g=10010, q=110010, f=1111000, e=1110000)
    """
    g, q = weights(1000, 10, 1), weights(1000 + 10_000, 10, 1)
    trunk = (1000, *[100] * (layers - 1))
    return Sizes(g, q, weights(*trunk, g), weights(*trunk, 10_000))


def synthetic_embedding(i: int) -> Sizes:
    """Sec. 5, embedding sweep: d = 100, f 100 -> 100 -> 100 i -> N_g, e 100 -> 100 -> 100 -> 1000 i; i = 1..8.

    >>> synthetic_embedding(1)
    Sizes(g=1010, q=11010, f=121000, e=120000)
    """
    g, q = weights(100, 10, 1), weights(100 + 1000 * i, 10, 1)
    return Sizes(g, q, weights(100, 100, 100 * i, g), weights(100, 100, 100, 1000 * i))


def rotation(pixels: int, layers: int, width: int) -> Sizes:
    """Sec. 5, rotation of images of h h c = pixels numbers, 12 classes; f and e emit as many numbers as g has weights.

    >>> rotation(28 * 28, layers=2, width=50).g
    7960
    """
    g = weights(pixels, 10, 12)
    embedding = 10 * pixels + 10  # the printed d_in of q is 11 d + 10
    trunk = (pixels, *[width] * (layers - 1))
    return Sizes(g, weights(pixels + embedding, 10, 12), weights(*trunk, g), weights(*trunk, embedding))


def colorization(layers: int) -> Sizes:
    """Appendix 1.3: 42 numbers for a position, 1024 grey pixels; f and e have 2 to 7 layers and 450 outputs.

    >>> colorization(2)
    Sizes(g=450, q=4950, f=147400, e=147400)
    """
    trunk = (1024, *[100] * (layers - 1), 450)
    return Sizes(weights(42, 10, 3), weights(42 + 450, 10, 3), weights(*trunk), weights(*trunk))
