"""Separable adaptive convolution: a predicted pair of one-dimensional kernels for every pixel."""

from __future__ import annotations

from torch import nn

from fastweights.axes import PaddingMode, Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import image_predictor
from fastweights.zoo.dynamic_convolution import ToSeparable


class SeparableConvolution(PredictedWeight):
    """Large kernels as outer products: `Y[y, x] = sum_t v_t[y, x]^T X_t[window] h_t[y, x]`, (v, h) predicted.

    Decomposition: Direct on Patches with a `Separable` code: 2 T f numbers a pixel instead of T f f.

    Shapes: x (B, T, H, W), or (B, C, T, H, W) with the kernels shared by the colours C; the predictor emits
    `Separable` with vertical and horizontal (B, T f, H, W); the result is (B, 1, H, W) or (B, C, 1, H, W).

    Args:
        frames: T; 2 as published: the frames before and after the one to be made.
        kernel_size: f, odd; 51 as published.
        predictor: context to code; default 3 x 3 convolution to 128 channels, ReLU, 1 x 1 head (published: a U-Net with
            a head for each of the four kernels).
        context_channels: channels of the default predictor's input; default frames.
        padding_mode: border of x; "replicate" as published.

    Source: Niklaus et al. 2017 (adaptive separable convolution); Müller 2024, Eq. 23.

    >>> import torch
    >>> SeparableConvolution()(torch.randn(1, 2, 8, 9)).shape
    torch.Size([1, 1, 8, 9])
    """

    def __init__(
        self,
        frames: int = 2,
        kernel_size: int = 51,
        *,
        predictor: nn.Module | None = None,
        context_channels: int | None = None,
        padding_mode: PaddingMode = "replicate",
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f"SeparableConvolution: kernel_size is {kernel_size}, expected an odd number of taps")
        if predictor is None:
            numbers = image_predictor(context_channels or frames, 2 * frames * kernel_size)
            predictor = nn.Sequential(numbers, ToSeparable(frames))
        axes = Patches(kernel_size, padding_mode=padding_mode)
        super().__init__(Direct(frames * kernel_size**2, 1), axes, predictor)
