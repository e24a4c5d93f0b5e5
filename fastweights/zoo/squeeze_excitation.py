"""Squeeze-and-excitation."""

from __future__ import annotations

from torch import nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.defaults import pool


class SqueezeExcitation(PredictedWeight):
    """Each channel times a gate made from the means of all: `s = sigmoid(W2 relu(W1 mean(x)))`, `Y_chw = s_c X_chw`.

    Decomposition: Gated with the identity on both sides, on Channels, one code an image. A convolution behind it sees
    the effective kernel `g_i W_ij` (Eq. 25): a dynamic convolution whose predicted part is one number a channel.

    Shapes: x (B, C, H, W), of any size in h and w.

    Args:
        channels: C.
        reduction: C / reduction units between the two linear layers; 16 as published.
        bias: give the two linear layers biases; the published equation has none, most code has them.
        predictor: context to gates (B, C); default as above.

    Raises:
        ValueError: fewer than `reduction` channels.

    Source: Hu et al. 2018, Eq. 3 and 4; Müller 2024, Eq. 25 and 26.

    >>> import torch
    >>> SqueezeExcitation(64)(torch.randn(4, 64, 7, 8)).shape
    torch.Size([4, 64, 7, 8])
    """

    def __init__(self, channels: int, reduction: int = 16, *, bias: bool = False, predictor: nn.Module | None = None):
        if predictor is None:
            hidden = channels // reduction
            if hidden < 1:
                raise ValueError(f"SqueezeExcitation: {channels} channels reduced by {reduction} leave none, give less")
            predictor = nn.Sequential(
                *pool(),
                nn.Linear(channels, hidden, bias=bias),
                nn.ReLU(),
                nn.Linear(hidden, channels, bias=bias),
                nn.Sigmoid(),
            )
        super().__init__(Gated(None, None, gates=channels), Channels(dim=-3), predictor)
