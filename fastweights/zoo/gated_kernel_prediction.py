"""Kernel prediction with gates instead of kernels."""

from __future__ import annotations

from torch import nn

from fastweights.axes import PaddingMode, Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.defaults import at_least_one, fan_in_uniform, image_predictor


class GatedKernelPrediction(PredictedWeight):
    """The convolutional gated double layer: fixed filters, a predicted gate per pixel and map, fixed filters.

    `Y = G * (A . (F * X))`, `A = predictor(context)` (Eq. 7, 10), with F of f x f taps from T inputs to M maps and G of
    f x f taps from M maps to J outputs, without biases, as the paper used (its formulas show G as 1 x 1). As a gated
    structure on patches, V holds F's filters as rows, and U the output patch of each map: G flipped.

    Shapes: x (B, T, H, W) or (B, C, T, H, W); the predictor emits (B, M, H, W) gates, or an `Upsampled` code; the
    result is (B, J, H, W) or (B, C, J, H, W). M >= J T f f holds any kernel prediction layer (Corollary 3.2).

    Args:
        in_channels: T.
        kernel_size: f of F.
        maps: M, the number of gates; 128 and 64 in the paper's Table 1.
        out_channels: J.
        out_kernel_size: taps of G; default kernel_size. 1 keeps the support of the kernels at f x f.
        predictor: context to gates; default 3 x 3 convolution to 128 channels, ReLU, 1 x 1 head.
        context_channels: channels of the default predictor's input; default in_channels.
        padding_mode: border of x: "zeros" as published, or "replicate".

    Source: Müller 2024, Corollary 3.2 and Sec. 4.3.

    >>> import torch
    >>> GatedKernelPrediction(8, 5, maps=64)(torch.randn(1, 8, 16, 17)).shape
    torch.Size([1, 1, 16, 17])
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int,
        maps: int = 128,
        out_channels: int = 1,
        *,
        out_kernel_size: int | None = None,
        predictor: nn.Module | None = None,
        context_channels: int | None = None,
        padding_mode: PaddingMode = "zeros",
    ):
        f = kernel_size if out_kernel_size is None else out_kernel_size
        at_least_one("GatedKernelPrediction", kernel_size=kernel_size, maps=maps, out_kernel_size=f)
        v = fan_in_uniform((maps, in_channels * kernel_size**2), fan_in=in_channels * kernel_size**2)
        u = fan_in_uniform((out_channels * f**2, maps), fan_in=maps * f**2)
        if predictor is None:
            predictor = image_predictor(context_channels or in_channels, maps)
        axes = Patches(kernel_size, padding_mode=padding_mode, out_kernel_size=f)
        super().__init__(Gated(u, v), axes, predictor)
