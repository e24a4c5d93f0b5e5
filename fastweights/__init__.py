"""Fast weights: network weights that are the output of another network.

`y = W(code) x`, `code = predictor(context)`: a structure says how a code becomes a weight, the axes say which axes of
x it mixes, and `PredictedWeight` is the one layer. `HyperNetwork` predicts the weights of any module.
`fastweights.zoo` holds published layers by name, `fastweights.convert` turns one into another, `fastweights.burst` is
the burst photo denoiser (extra `burst`).
"""

from fastweights import (
    axes,
    codes,
    convert,
    convert_fm,
    cost,
    equivalences,
    heads,
    init,
    ops,
    structures,
    theory,
    zoo,
)
from fastweights.diagnose import diagnose
from fastweights.embedding import EmbeddingNetwork
from fastweights.layer import PredictedWeight
from fastweights.network import HyperNetwork

__version__ = "0.1.0"
__all__ = [
    "EmbeddingNetwork",
    "HyperNetwork",
    "PredictedWeight",
    "axes",
    "codes",
    "convert",
    "convert_fm",
    "cost",
    "diagnose",
    "equivalences",
    "heads",
    "init",
    "ops",
    "structures",
    "theory",
    "zoo",
]
