"""Published layers under their published names; each is a structure on axes with a predictor."""

from fastweights.zoo.factorization_machine import FactorizationMachine, MatrixFactorization
from fastweights.zoo.gated_double_layer import GatedDoubleLayer
from fastweights.zoo.gated_kernel_prediction import GatedKernelPrediction
from fastweights.zoo.hyper_linear import HyperLinear
from fastweights.zoo.kernel_prediction import KernelPrediction
from fastweights.zoo.linear_hypernetwork import LinearHypernetwork
from fastweights.zoo.multiplicative_interaction import MultiplicativeInteraction

__all__ = [
    "FactorizationMachine",
    "GatedDoubleLayer",
    "GatedKernelPrediction",
    "HyperLinear",
    "KernelPrediction",
    "LinearHypernetwork",
    "MatrixFactorization",
    "MultiplicativeInteraction",
]
