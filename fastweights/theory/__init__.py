"""Galanti and Wolf 2020 as calculators: Theorems 1 to 5, smoothness, spectral complexity, sizes of the experiments.

`bounds` has the theorems, `smoothness` the class of targets they speak of, `networks` what holds for a given network,
`sizes` the parameter counts of the paper's experiments.
"""

from fastweights.theory.bounds import (
    AssumptionWarning,
    Bound,
    theorem1,
    theorem2,
    theorem3,
    theorem4,
    theorem5,
    width_error,
)
from fastweights.theory.networks import LIPSCHITZ, add_neuron, spectral_complexity, weight_error
from fastweights.theory.sizes import Sizes, colorization, rotation, synthetic_embedding, synthetic_layers, weights
from fastweights.theory.smoothness import bump, bumps, lattice, smoothness_norm

__all__ = [
    "LIPSCHITZ",
    "AssumptionWarning",
    "Bound",
    "Sizes",
    "add_neuron",
    "bump",
    "bumps",
    "colorization",
    "lattice",
    "rotation",
    "smoothness_norm",
    "spectral_complexity",
    "synthetic_embedding",
    "synthetic_layers",
    "theorem1",
    "theorem2",
    "theorem3",
    "theorem4",
    "theorem5",
    "weight_error",
    "weights",
    "width_error",
]
