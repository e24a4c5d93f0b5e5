"""Published layers under their published names; each is a structure on axes with a predictor."""

from fastweights.zoo.basis_prediction import BasisPrediction
from fastweights.zoo.cond_conv import CondConv
from fastweights.zoo.film import FiLM
from fastweights.zoo.gated_double_layer import GatedDoubleLayer
from fastweights.zoo.gated_kernel_prediction import GatedKernelPrediction
from fastweights.zoo.gating import Gating
from fastweights.zoo.hyper_linear import HyperLinear
from fastweights.zoo.kernel_prediction import KernelPrediction
from fastweights.zoo.modulated_siren import ModulatedSiren
from fastweights.zoo.simple_gate import NAFBlock, SimpleGate
from fastweights.zoo.simplified_channel_attention import SimplifiedChannelAttention
from fastweights.zoo.spatial_gating_unit import SpatialGatingUnit
from fastweights.zoo.squeeze_excitation import SqueezeExcitation

__all__ = [
    "BasisPrediction",
    "CondConv",
    "FiLM",
    "GatedDoubleLayer",
    "GatedKernelPrediction",
    "Gating",
    "HyperLinear",
    "KernelPrediction",
    "ModulatedSiren",
    "NAFBlock",
    "SimpleGate",
    "SimplifiedChannelAttention",
    "SpatialGatingUnit",
    "SqueezeExcitation",
]
