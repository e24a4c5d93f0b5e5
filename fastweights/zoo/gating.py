"""The gating layer of Eq. 3 and 4."""

from __future__ import annotations

from torch import nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.defaults import image_predictor, predictor_mlp


class Gating(PredictedWeight):
    """Every number of x times one predicted gate: `y_i = x_i s(a_i)` (Eq. 3), on maps `Y = X . s(A)` (Eq. 4).

    Decomposition: Gated with the identity on both sides, on Channels; a diagonal weight and nothing else.

    Shapes: x (*b, *n, C), context (*b, ...); with dim = -3, x (B, C, H, W) and gates (B, C, H, W) or (B, C).

    Args:
        features: C.
        activation: s, any module that acts on the predicted numbers; default `nn.Sigmoid()`, `nn.Identity()` for none.
        dim: the axis of the features, -1, or -3 on maps.
        predictor: context to a; default context_features -> 128 -> ReLU -> linear head, on maps 3 x 3 convolution to
            128 channels, ReLU, 1 x 1 head.
        context_features: size of the default predictor's input; default features (the context is then x itself).

    Source: Müller 2024, Eq. 3 and 4; Hochreiter and Schmidhuber 1997.

    >>> import torch
    >>> Gating(5)(torch.randn(4, 5)).shape
    torch.Size([4, 5])
    >>> Gating(5, nn.Tanh(), dim=-3)(torch.randn(4, 5, 8, 9)).shape
    torch.Size([4, 5, 8, 9])
    """

    def __init__(
        self,
        features: int,
        activation: nn.Module | None = None,
        *,
        dim: int = -1,
        predictor: nn.Module | None = None,
        context_features: int | None = None,
    ):
        if dim not in (-1, -3):
            raise ValueError(f"Gating: dim is {dim}, expected -1 (features last) or -3 (maps)")
        if predictor is None:
            build = predictor_mlp if dim == -1 else image_predictor
            predictor = build(context_features or features, features)
        activation = nn.Sigmoid() if activation is None else activation
        super().__init__(Gated(None, None, gates=features), Channels(dim), nn.Sequential(predictor, activation))
