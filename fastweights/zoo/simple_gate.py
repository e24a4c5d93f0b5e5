"""NAFNet's SimpleGate, and the block built around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.simplified_channel_attention import SimplifiedChannelAttention


class SimpleGate(nn.Module):
    """One half of the channels times the other: `y = x_1 . x_2`.

    Part: `gate`, a gating layer whose gates are the second half as it is (Eq. 4 with s = identity). Between two fixed
    convolutions it is the convolutional gated double layer: kernel prediction of a rank that the channels bound.

    Shapes: x (B, 2 C, H, W) -> (B, C, H, W).

    Args:
        channels: C, half the number of x.

    Raises:
        ValueError: x has another number of channels.

    Source: Chen et al. 2022, Eq. 5.

    >>> SimpleGate(16)(torch.randn(2, 32, 5, 6)).shape
    torch.Size([2, 16, 5, 6])
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.gate = PredictedWeight(Gated(None, None, gates=channels), Channels(dim=-3), nn.Identity())

    def forward(self, x: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c h w"]:
        if x.shape[1] != 2 * self.channels:
            raise ValueError(f"SimpleGate({self.channels}): x has {x.shape[1]} channels, expected {2 * self.channels}")
        first, second = x.chunk(2, dim=1)
        return self.gate(first, second)


class NAFBlock(nn.Module):
    """NAFNet's block: two residual branches without activations, gates in their place.

    `y = x + beta . conv(SCA(SimpleGate(dwconv(conv(norm(x))))))`, then the same with
    `gamma . conv(SimpleGate(conv(norm(y))))`. Parts: `gate1`, `attention`, `gate2`. beta and gamma start at zero, so
    the block starts as the identity.

    Shapes: x (B, C, H, W) -> (B, C, H, W).

    Args:
        channels: C.
        expansion: channels between the convolutions, as a multiple of C; 2 as published.

    Raises:
        ValueError: x has another number of channels.

    Source: Chen et al. 2022, Sec. 3 and Fig. 3c, with its published code's order of layers.

    >>> NAFBlock(8)(torch.randn(1, 8, 6, 7)).shape
    torch.Size([1, 8, 6, 7])
    """

    def __init__(self, channels: int, expansion: int = 2):
        super().__init__()
        wide, half = expansion * channels, expansion * channels // 2
        self.channels = channels
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.gate1 = SimpleGate(half)
        self.attention = SimplifiedChannelAttention(half)
        self.conv3 = nn.Conv2d(half, channels, 1)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.gate2 = SimpleGate(half)
        self.conv5 = nn.Conv2d(half, channels, 1)
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"NAFBlock: x has shape {tuple(x.shape)}, expected (B, {self.channels}, H, W)")
        gated = self.attention(self.gate1(self.conv2(self.conv1(self.norm1(x)))))
        y = x + self.beta * self.conv3(gated)
        return y + self.gamma * self.conv5(self.gate2(self.conv4(self.norm2(y))))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (B, C, H, W), eps 1e-6 as NAFNet has it."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.movedim(-1, 1)
