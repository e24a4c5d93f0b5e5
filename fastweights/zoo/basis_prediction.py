"""Basis prediction network: a basis of kernels per image, coefficients per pixel."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import PaddingMode, Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Outer
from fastweights.zoo.defaults import at_least_one


class BasisPrediction(PredictedWeight):
    """Large kernels from a small basis: `K[y, x] = sum_r C_r[y, x] V_r`, basis V per image, coefficients C per pixel.

    Decomposition: Outer with f = identity on Patches, P the coefficients (a code per pixel) and Q the basis (one code
    an image). The kernels themselves are never formed: the image is filtered by the basis, then summed with weights.

    Shapes: x (B, T, H, W), or (B, C, T, H, W) with the kernels shared by the colours; the predictor emits a pair
    (B, J r, H, W) in (j, r) order and (B, T f f r, 1, 1) in (t, u, v, r) order; the result is (B, J, H, W) or
    (B, C, J, H, W).

    Args:
        in_channels: T, frames of a burst.
        kernel_size: f, odd; 15 as published.
        basis: r, number of kernels in the basis; 90 as published.
        out_channels: J.
        predictor: context to (coefficients, basis); default `BasisPredictor`.
        context_channels: channels of the default predictor's input; default in_channels.
        padding_mode: border of x; "reflect" as published.

    Raises:
        ValueError: x has another number of frames.

    Source: Xia et al. 2020. A gated double layer whose first filters are predicted too.

    >>> import torch
    >>> BasisPrediction(8)(torch.rand(1, 8, 16, 17)).shape
    torch.Size([1, 1, 16, 17])
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 15,
        basis: int = 90,
        out_channels: int = 1,
        *,
        predictor: nn.Module | None = None,
        context_channels: int | None = None,
        padding_mode: PaddingMode = "reflect",
    ):
        at_least_one("BasisPrediction", kernel_size=kernel_size, basis=basis)
        if kernel_size % 2 == 0:
            raise ValueError(f"BasisPrediction: kernel_size is {kernel_size}, expected an odd number of taps")
        if predictor is None:
            taps = in_channels * kernel_size**2
            predictor = BasisPredictor(context_channels or in_channels, taps, basis, out_channels)
        super().__init__(Outer(basis), Patches(kernel_size, padding_mode=padding_mode), predictor)
        self.in_channels = in_channels

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        t = self.in_channels  # of the basis; the structure, which reads its sizes off the code, does not know it
        if x.ndim < 4 or x.shape[-3] != t:
            raise ValueError(
                f"BasisPrediction: x has shape {tuple(x.shape)}, expected (B, {t}, H, W) or (B, C, {t}, H, W)"
            )
        return super().forward(x, context)


class BasisPredictor(nn.Module):
    """Image to (coefficients, basis): a 3 x 3 convolution, then a 1 x 1 head, and a linear head behind pooling.

    Both are softmaxes, as published: the coefficients over the basis, each basis kernel over its taps. The published
    network has a U-Net in place of the one convolution.
    """

    def __init__(self, context_channels: int, taps: int, basis: int, out_channels: int = 1, hidden: int = 128):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(context_channels, hidden, 3, padding=1), nn.ReLU())
        self.coefficients = nn.Conv2d(hidden, out_channels * basis, 1)
        self.basis = nn.Linear(hidden, taps * basis)
        self.rank = basis

    def forward(self, context: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b jr h w"], Float[Tensor, "b ir 1 1"]]:
        features = self.features(context)
        coefficients = self.coefficients(features).unflatten(-3, (-1, self.rank)).softmax(-3).flatten(-4, -3)
        basis = self.basis(features.mean((-1, -2))).unflatten(-1, (-1, self.rank)).softmax(-2).flatten(-2)
        return coefficients, basis[..., None, None]
