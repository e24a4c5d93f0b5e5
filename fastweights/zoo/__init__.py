"""Published layers under their published names; each is a structure on axes with a predictor."""

from fastweights.zoo.additive_attention import AdditiveAttention
from fastweights.zoo.attention import DecomposableAttention, MultiHeadAttention
from fastweights.zoo.basis_prediction import BasisPrediction
from fastweights.zoo.cond_conv import CondConv
from fastweights.zoo.dynamic_alignment import CoDANetwork, DynamicAlignmentUnits, with_inverse
from fastweights.zoo.dynamic_convolution import DynamicConvolution2015
from fastweights.zoo.dynamic_filter import DynamicFilter, DynamicFilterNetwork
from fastweights.zoo.factorization_machine import FactorizationMachine, MatrixFactorization
from fastweights.zoo.film import FiLM
from fastweights.zoo.gated_double_layer import GatedDoubleLayer
from fastweights.zoo.gated_kernel_prediction import GatedKernelPrediction
from fastweights.zoo.gating import Gating
from fastweights.zoo.hdrnet import HDRNet
from fastweights.zoo.hyper_linear import HyperLinear
from fastweights.zoo.hyper_lstm import HyperLSTMCell
from fastweights.zoo.kernel_prediction import KernelPrediction
from fastweights.zoo.linear_attention import FastWeightMemory, FastWeightsRNNCell, LinearAttention
from fastweights.zoo.linear_hypernetwork import LinearHypernetwork
from fastweights.zoo.modulated_siren import ModulatedSiren
from fastweights.zoo.multiplicative_interaction import MultiplicativeInteraction
from fastweights.zoo.separable_convolution import SeparableConvolution
from fastweights.zoo.simple_gate import NAFBlock, SimpleGate
from fastweights.zoo.simplified_channel_attention import SimplifiedChannelAttention
from fastweights.zoo.siren import SirenHyperNetwork, siren
from fastweights.zoo.spatial_gating_unit import SpatialGatingUnit
from fastweights.zoo.squeeze_excitation import SqueezeExcitation
from fastweights.zoo.static_hypernetwork import HyperHead, StaticHyperConv2d

__all__ = [
    "AdditiveAttention",
    "BasisPrediction",
    "CoDANetwork",
    "CondConv",
    "DecomposableAttention",
    "DynamicAlignmentUnits",
    "DynamicConvolution2015",
    "DynamicFilter",
    "DynamicFilterNetwork",
    "FactorizationMachine",
    "FastWeightMemory",
    "FastWeightsRNNCell",
    "FiLM",
    "GatedDoubleLayer",
    "GatedKernelPrediction",
    "Gating",
    "HDRNet",
    "HyperHead",
    "HyperLSTMCell",
    "HyperLinear",
    "KernelPrediction",
    "LinearAttention",
    "LinearHypernetwork",
    "MatrixFactorization",
    "ModulatedSiren",
    "MultiHeadAttention",
    "MultiplicativeInteraction",
    "NAFBlock",
    "SeparableConvolution",
    "SimpleGate",
    "SimplifiedChannelAttention",
    "SirenHyperNetwork",
    "SpatialGatingUnit",
    "SqueezeExcitation",
    "StaticHyperConv2d",
    "siren",
    "with_inverse",
]
