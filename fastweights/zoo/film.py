"""FiLM: feature-wise linear modulation."""

from __future__ import annotations

import torch
from torch import nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated


class FiLM(PredictedWeight):
    """A predicted scale and shift for each channel: `y_c = gamma_c x_c + beta_c`, (gamma, beta) = predictor(context).

    Decomposition: Gated with the identity on both sides, on Channels, with a predicted bias. gamma is one plus what
    the published head emits; here the one stands in the head's initial bias, which weight decay would pull at.

    Shapes: x (B, C, H, W), or (*b, *n, C) with dim = -1; context (*b, context_features).

    Args:
        features: C.
        context_features: size of the default predictor's input.
        dim: the axis of the features: -3 on maps, -1 where they are last.
        predictor: context to (gamma, beta), 2 C numbers; default a linear layer.

    Source: Perez et al. 2018, Eq. 1 and 2.

    >>> FiLM(128, 512)(torch.randn(4, 128, 7, 8), torch.randn(4, 512)).shape
    torch.Size([4, 128, 7, 8])
    """

    def __init__(self, features: int, context_features: int, *, dim: int = -3, predictor: nn.Module | None = None):
        if dim not in (-1, -3):
            raise ValueError(f"FiLM: dim is {dim}, expected -3 (maps) or -1 (features last)")
        if predictor is None:
            predictor = nn.Linear(context_features, 2 * features)
            with torch.no_grad():
                predictor.bias[:features] += 1
        super().__init__(Gated(None, None, gates=features), Channels(dim), predictor, affine=True)
