"""Kernel prediction: an own kernel for every pixel."""

from __future__ import annotations

from torch import nn

from fastweights.axes import PaddingMode, Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import image_predictor


class KernelPrediction(PredictedWeight):
    """A predicted kernel per pixel over channels or frames.

    `Y[y, x] = sum_(t, u, v) K[t, u, v, y, x] X[t, y + u - r, x + v - r]`, `K = predictor(context)`, r = (f - 1) / 2
    (Eq. 6, 9, 23). Decomposition: Direct on Patches.

    Shapes: x (B, T, H, W), or (B, C, T, H, W) with the kernels shared by the colours C; the predictor emits
    (B, J T f f, H, W) in (j, t, u, v) order, or an `Upsampled` code of lower resolution; the result is (B, J, H, W) or
    (B, C, J, H, W).

    Args:
        in_channels: T, channels or frames of a burst (Eq. 9 sums over frames as Eq. 6 over channels).
        kernel_size: f, odd.
        out_channels: J.
        predictor: context to kernels; default 3 x 3 convolution to 128 channels, ReLU, 1 x 1 head.
        context_channels: channels of the default predictor's input; default in_channels. With colours, x has 5 axes and
            the context (B, context_channels, H, W) has to be given.
        padding_mode: border of x: "zeros" as published, or "replicate".

    Source: Mildenhall et al. 2018 (burst denoising); Bako et al. 2017; Niklaus et al. 2017 (adaptive convolution).

    >>> import torch
    >>> KernelPrediction(8, 5)(torch.randn(1, 8, 16, 17)).shape
    torch.Size([1, 1, 16, 17])
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int,
        out_channels: int = 1,
        *,
        predictor: nn.Module | None = None,
        context_channels: int | None = None,
        padding_mode: PaddingMode = "zeros",
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f"KernelPrediction: kernel_size is {kernel_size}, expected an odd number of taps")
        structure = Direct(in_channels * kernel_size**2, out_channels)
        if predictor is None:
            predictor = image_predictor(context_channels or in_channels, structure.code_features)
        super().__init__(structure, Patches(kernel_size, padding_mode=padding_mode), predictor)
