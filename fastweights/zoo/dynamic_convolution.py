"""Dynamic convolution as of 2015: one predicted kernel for a whole image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import PaddingMode, Patches
from fastweights.codes import Separable
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import pooled_image_predictor


class DynamicConvolution2015(PredictedWeight):
    """A convolution whose kernel is predicted for each image: `y = K * x`, `K = predictor(context)` (Eq. 21, before f).

    Decomposition: Direct on Patches, one code an image. With separable=True the code is a vertical and a horizontal
    kernel, each a softmax over its taps, as Klein et al. apply them in turn (`Separable`).

    Shapes: x (B, I, H, W) -> (B, J, H, W); the predictor emits (B, J I f f, 1, 1) in (j, i, u, v) order, or a
    `Separable` code of one pixel.

    Args:
        in_channels, out_channels: I, J; J must be 1 with separable=True.
        kernel_size: f, odd.
        separable: predict a pair of one-dimensional kernels for each input channel instead.
        predictor: context to kernel; default 3 x 3 convolution to 128 channels, ReLU, global average pooling, linear.
        context_channels: channels of the default predictor's input (the frames before); default in_channels.
        padding_mode: border of x.

    Source: Klein et al. 2015; Müller 2024, Eq. 21. The layer of Chen et al. 2020 with the same name is `CondConv`
    with a softmax.

    >>> import torch
    >>> DynamicConvolution2015(3, 4, 5)(torch.randn(2, 3, 8, 9)).shape
    torch.Size([2, 4, 8, 9])
    >>> last, frames = torch.randn(2, 1, 16, 16), torch.randn(2, 4, 16, 16)
    >>> DynamicConvolution2015(1, 1, 11, separable=True, context_channels=4)(last, frames).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        separable: bool = False,
        predictor: nn.Module | None = None,
        context_channels: int | None = None,
        padding_mode: PaddingMode = "zeros",
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f"DynamicConvolution2015: kernel_size is {kernel_size}, expected an odd number of taps")
        if separable and out_channels != 1:
            raise ValueError(f"DynamicConvolution2015: out_channels is {out_channels}, expected 1 with separable=True")
        structure = Direct(in_channels * kernel_size**2, out_channels)
        if predictor is None:
            numbers = 2 * in_channels * kernel_size if separable else structure.code_features
            predictor = pooled_image_predictor(context_channels or in_channels, numbers)
            if separable:
                predictor = nn.Sequential(predictor, ToSeparable(in_channels, normalize=True))
        super().__init__(structure, Patches(kernel_size, padding_mode=padding_mode), predictor)


class ToSeparable(nn.Module):
    """Numbers (B, 2 T K, h, w) as a `Separable` code: T vertical kernels, then T horizontal ones.

    Args:
        frames: T.
        normalize: softmax over the K taps of each kernel.
    """

    def __init__(self, frames: int, *, normalize: bool = False):
        super().__init__()
        self.frames, self.normalize = frames, normalize

    def forward(self, numbers: Float[Tensor, "b k h w"]) -> Separable:
        if self.normalize:
            numbers = numbers.unflatten(1, (2 * self.frames, -1)).softmax(2).flatten(1, 2)
        vertical, horizontal = numbers.chunk(2, dim=1)
        return Separable(vertical, horizontal, self.frames)
