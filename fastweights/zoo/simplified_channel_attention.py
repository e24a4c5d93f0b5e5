"""NAFNet's simplified channel attention."""

from __future__ import annotations

from torch import nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.defaults import pool


class SimplifiedChannelAttention(PredictedWeight):
    """Each channel times a linear function of the means of all: `y = x . (W mean(x) + b)`; no activation anywhere.

    Decomposition: Gated with the identity on both sides, on Channels, one code an image; called attention, it is a
    gating layer.

    Shapes: x (B, C, H, W), of any size in h and w.

    Args:
        channels: C.
        predictor: context to gates (B, C); default global average pooling and a linear layer.

    Source: Chen et al. 2022, Eq. 6; Müller 2024, Sec. 2.3.

    >>> import torch
    >>> SimplifiedChannelAttention(16)(torch.randn(4, 16, 7, 8)).shape
    torch.Size([4, 16, 7, 8])
    """

    def __init__(self, channels: int, *, predictor: nn.Module | None = None):
        if predictor is None:
            predictor = nn.Sequential(*pool(), nn.Linear(channels, channels))
        super().__init__(Gated(None, None, gates=channels), Channels(dim=-3), predictor)
