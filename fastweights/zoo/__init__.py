"""Published layers under their published names; each is a structure on axes with a predictor."""

from fastweights.zoo.gated_double_layer import GatedDoubleLayer
from fastweights.zoo.gated_kernel_prediction import GatedKernelPrediction
from fastweights.zoo.hyper_linear import HyperLinear
from fastweights.zoo.kernel_prediction import KernelPrediction
from fastweights.zoo.siren import SirenHyperNetwork, siren

__all__ = ["GatedDoubleLayer", "GatedKernelPrediction", "HyperLinear", "KernelPrediction", "SirenHyperNetwork", "siren"]
