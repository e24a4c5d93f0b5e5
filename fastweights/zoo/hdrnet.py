"""HDRNet: an affine colour transform for every pixel, read from a bilateral grid."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.codes import Sliced
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct


class HDRNet(PredictedWeight):
    """A predicted 3 x 4 matrix for every pixel: `y = A(x, y, guide) [rgb ; 1]` (Eq. 24), A from a bilateral grid.

    Decomposition: Direct with a predicted bias on Channels, with a `Sliced` code: 12 numbers in each cell of a 16 x 16
    x 8 grid, predicted from a small copy of the image and read at (row, column, guide) of every pixel.

    Shapes: x (B, 3, H, W) in [0, 1] -> (B, 3, H, W), any H and W. The context is x, or a pair (small image, full image)
    with the small one of net_input x net_input pixels.

    Args:
        net_input: side of the small image; 256 as published.
        spatial_bins, luma_bins: sides of the grid; 16 and 8 as published.
        predictor: context to a `Sliced` code of 12 numbers, (j, i) then the bias; default `BilateralPredictor`.

    Where ours differs: convolutions of stride 2 pad both sides by one pixel (TensorFlow pads one side), slicing uses
    the exact tent function (published code smooths its tip by 1e-8 under a root), and there is no batch norm.

    Source: Gharbi et al. 2017, Sec. 3, with the published code's sizes; Müller 2024, Eq. 24.

    >>> HDRNet()(torch.rand(1, 3, 40, 60)).shape
    torch.Size([1, 3, 40, 60])
    """

    def __init__(
        self,
        net_input: int = 256,
        spatial_bins: int = 16,
        luma_bins: int = 8,
        *,
        predictor: nn.Module | None = None,
    ):
        if predictor is None:
            predictor = BilateralPredictor(net_input, spatial_bins, luma_bins)
        super().__init__(Direct(3, 3), Channels(dim=-3), predictor, affine=True)


class BilateralPredictor(nn.Module):
    """Image, or pair (small image, image), to a `Sliced` code: `coefficients` gives the grid, `guide` the guide."""

    def __init__(self, net_input: int = 256, spatial_bins: int = 16, luma_bins: int = 8):
        super().__init__()
        self.net_input = net_input
        self.coefficients = GridCoefficients(net_input, spatial_bins, luma_bins)
        self.guide = CurvesGuide()

    def forward(self, context: Tensor | tuple[Tensor, Tensor]) -> Sliced:
        if isinstance(context, tuple):
            small, image = context
        else:
            if context.ndim != 4 or context.shape[1] != 3:
                raise ValueError(f"HDRNet: the image has shape {tuple(context.shape)}, expected (B, 3, H, W)")
            # On the CPU torch has no such resizing in low precision.
            wide = context.to(torch.promote_types(context.dtype, torch.float32))
            small = F.interpolate(wide, (self.net_input,) * 2, mode="bilinear", antialias=True).to(context.dtype)
            image = context
        return Sliced(self.coefficients(small), self.guide(image))


class GridCoefficients(nn.Module):
    """Small image to grid: strided convolutions, a local and a global path, their sum, and a 1 x 1 head.

    481,968 parameters at the published sizes. The head's channels are sorted as published, (i, j, bin) with i = 3 the
    bias; the grid's are (j, i), then the bias.
    """

    def __init__(self, net_input: int, spatial_bins: int, luma_bins: int):
        super().__init__()
        steps = math.log2(net_input / spatial_bins)
        if steps < 1 or steps % 1 or spatial_bins % 4:
            raise ValueError(
                f"GridCoefficients: net_input {net_input} and spatial_bins {spatial_bins}, expected a power of two "
                "between them and spatial_bins a multiple of 4"
            )
        widths = [luma_bins * 2**n for n in range(int(steps))]
        splat = zip((3, *widths[:-1]), widths, strict=True)
        c = 8 * luma_bins
        self.luma_bins = luma_bins
        self.splat = nn.Sequential(*(part for i, j in splat for part in (_conv(i, j, 2), nn.ReLU())))
        self.local_path = nn.Sequential(_conv(widths[-1], c), nn.ReLU(), _conv(c, c, bias=False))
        self.global_path = nn.Sequential(
            *(_conv(widths[-1], c, 2), nn.ReLU(), _conv(c, c, 2), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(c * (spatial_bins // 4) ** 2, 4 * c), nn.ReLU(), nn.Linear(4 * c, 2 * c), nn.ReLU()),
            nn.Linear(2 * c, c),
        )
        self.head = nn.Conv2d(c, 12 * luma_bins, 1)

    def forward(self, small: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d 12 s s"]:
        features = self.splat(small)
        fused = torch.relu(self.local_path(features) + self.global_path(features)[..., None, None])
        numbers = self.head(fused).unflatten(1, (4, 3, self.luma_bins))  # (B, i, j, d, h, w)
        weight, bias = numbers[:, :3].transpose(1, 2).flatten(1, 2), numbers[:, 3]
        return torch.cat([weight, bias], dim=1).transpose(1, 2)


class CurvesGuide(nn.Module):
    """Image to guide in [0, 1]: a colour matrix, a curve of 16 knots for each channel, their weighted sum.

    Starts as the mean of the channels.
    """

    def __init__(self, knots: int = 16):
        super().__init__()
        self.matrix, self.mix = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)
        self.shifts = nn.Parameter(torch.arange(knots).div(knots).expand(3, knots).clone())
        self.slopes = nn.Parameter(torch.zeros(3, knots))
        for layer in (self.matrix, self.mix):
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.dirac_(self.matrix.weight)
        nn.init.constant_(self.mix.weight, 1 / 3)
        with torch.no_grad():
            self.slopes[:, 0] = 1

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        channels = self.matrix(image)
        curved = torch.zeros_like(channels)
        for shift, slope in zip(self.shifts.unbind(1), self.slopes.unbind(1), strict=True):
            curved = curved + slope[:, None, None] * torch.relu(channels - shift[:, None, None])
        return self.mix(curved).squeeze(1).clamp(0, 1)


def _conv(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)
