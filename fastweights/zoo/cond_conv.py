"""CondConv: conditionally parameterized convolution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Mixture
from fastweights.zoo.defaults import at_least_one, fan_in_uniform, pool


class CondConv(PredictedWeight):
    """A convolution whose kernel is a predicted sum of experts: `y = (sum_k r_k W_k) * x`, `r = sigmoid(FC(mean(x)))`.

    Decomposition: Mixture on Patches, one code an image, the experts as templates (Eq. 27). With bias=True each expert
    has a bias of its own, mixed by the same r, as in the published code.

    Shapes: x (B, I, H, W) -> (B, J, h, w), h and w as of `torch.nn.Conv2d`; the predictor emits (B, K, 1, 1).

    Args:
        in_channels, out_channels: I, J.
        kernel_size: f.
        experts: K; 8 as in the paper's larger models.
        stride, padding: as of a convolution; padding None is (f - 1) // 2.
        bias: an own bias for each expert.
        predictor: context to the K routing weights, (B, K); default global average pooling, linear, sigmoid.

    Source: Yang et al. 2019, Eq. 1 and 2; Müller 2024, Eq. 27. Every expert starts as an ordinary convolution does.

    >>> CondConv(3, 16, 3, stride=2)(torch.randn(2, 3, 9, 9)).shape
    torch.Size([2, 16, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        experts: int = 8,
        *,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
        predictor: nn.Module | None = None,
    ):
        at_least_one("CondConv", kernel_size=kernel_size, experts=experts)
        if predictor is None:
            predictor = nn.Sequential(*pool(), nn.Linear(in_channels, experts), nn.Sigmoid())
        fan_in = in_channels * kernel_size**2
        templates = fan_in_uniform((experts, out_channels, fan_in), fan_in)
        biases = fan_in_uniform((experts, out_channels), fan_in) if bias else None
        axes = Patches(kernel_size, stride=stride, padding=padding)
        super().__init__(Mixture(templates), axes, Routing(predictor, biases), affine=bias)


class Routing(nn.Module):
    """Routing weights as a code of one weight an image, (B, K, 1, 1); with biases (K, j) their mixture behind them."""

    biases: Tensor | None

    def __init__(self, predictor: nn.Module, biases: nn.Parameter | None = None):
        super().__init__()
        self.predictor = predictor
        self.register_parameter("biases", biases)

    def forward(self, context: Tensor) -> Float[Tensor, "b k 1 1"]:
        r = self.predictor(context)
        if self.biases is not None:
            r = torch.cat([r, r @ self.biases], dim=-1)
        return r[..., None, None]
