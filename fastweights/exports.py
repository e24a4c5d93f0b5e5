"""Which published layer exports to ONNX for a batch of any size, as data; docs/onnx.md and its tests follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from fastweights import zoo


@dataclass(frozen=True)
class Export:
    """A row: a class of `fastweights.zoo`, or what else is exported, by name.

    Args:
        note: what a user should know of the graph.
    """

    name: str
    note: str = ""


def _layer(layer: type, note: str = "") -> Export:
    return Export(layer.__name__, note)


_TAPS = "the local operation as standard operators, a product for each tap; kernels at full resolution"
_BATCHED = "a kernel an image: patches gathered, then a batched product"

EXPORTS = (
    _layer(zoo.HyperLinear),
    _layer(zoo.GatedDoubleLayer),
    _layer(zoo.KernelPrediction, _TAPS),
    _layer(zoo.GatedKernelPrediction, "convolution, product with the gates, transposed convolution"),
    _layer(zoo.DynamicConvolution2015, _BATCHED),
    _layer(zoo.DynamicFilter, _TAPS),
    _layer(zoo.DynamicFilterNetwork, _TAPS),
    _layer(zoo.SeparableConvolution, "one-dimensional kernels, tap after tap"),
    _layer(zoo.DynamicAlignmentUnits, "patches gathered, then a product for each position"),
    _layer(zoo.CoDANetwork, "patches gathered, then a product for each position"),
    _layer(zoo.HDRNet, "slicing as GridSample of a volume"),
    _layer(zoo.StaticHyperConv2d),
    _layer(zoo.FastWeightsRNNCell, "one step"),
    _layer(zoo.HyperLSTMCell, "one step"),
    _layer(zoo.CondConv, _BATCHED),
    _layer(zoo.MultiplicativeInteraction),
    _layer(zoo.LinearHypernetwork),
    _layer(zoo.FactorizationMachine, "dense features, or ids (b, n)"),
    _layer(zoo.MatrixFactorization),
    _layer(zoo.Gating),
    _layer(zoo.SqueezeExcitation),
    _layer(zoo.SimplifiedChannelAttention),
    _layer(zoo.FiLM),
    _layer(zoo.ModulatedSiren),
    _layer(zoo.SimpleGate),
    _layer(zoo.SpatialGatingUnit),
    _layer(zoo.NAFBlock),
    _layer(zoo.BasisPrediction, _BATCHED + " with the coefficients"),
    _layer(zoo.DecomposableAttention),
    _layer(zoo.MultiHeadAttention),
    _layer(zoo.AdditiveAttention),
    _layer(zoo.LinearAttention),
    _layer(zoo.FastWeightMemory),
    Export("KernelPrediction, converted", "Corollary 3.2: fixed convolution, product with the gates"),
    Export("CondConv, converted", "ordinary convolutions around gates"),
    Export("burst denoiser of kernels"),
    Export("burst denoiser of gates"),
    Export("HyperNetwork", "a chain as batched products"),
)
