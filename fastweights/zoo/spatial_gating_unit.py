"""gMLP's spatial gating unit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated


class SpatialGatingUnit(nn.Module):
    """One half of the features gated by the other half, mixed over positions: `y = u . (W norm(v) + b)`, W (S, S).

    Part: `gate`, a gating layer on Channels with `TokenMixing` as predictor; the fixed S x S matrix W is in the
    predictor, which takes the place of the predicted attention matrix. W starts near zero and b at one, so the unit
    starts as y = u.

    Shapes: x (*b, S, 2 C) -> (*b, S, C).

    Args:
        features: 2 C, even.
        tokens: S, length of the sequence.

    Raises:
        ValueError: an odd number of features.

    Source: Liu et al. 2021, Eq. 3 and Sec. 2.1.

    >>> import torch
    >>> SpatialGatingUnit(32, tokens=10)(torch.randn(4, 10, 32)).shape
    torch.Size([4, 10, 16])
    """

    def __init__(self, features: int, tokens: int):
        super().__init__()
        if features % 2:
            raise ValueError(f"SpatialGatingUnit: features is {features}, expected an even number: it is split in two")
        half = features // 2
        self.gate = PredictedWeight(Gated(None, None, gates=half), Channels(), TokenMixing(half, tokens))

    def forward(self, x: Float[Tensor, "*b s c2"]) -> Float[Tensor, "*b s c"]:
        u, v = x.chunk(2, dim=-1)
        return self.gate(u, v)


class TokenMixing(nn.Module):
    """Layer normalisation of the features, then one linear layer over positions: (*b, S, C) -> (*b, S, C)."""

    def __init__(self, features: int, tokens: int):
        super().__init__()
        self.norm, self.proj = nn.LayerNorm(features), nn.Linear(tokens, tokens)
        nn.init.normal_(self.proj.weight, std=1e-6)
        nn.init.ones_(self.proj.bias)

    def forward(self, v: Float[Tensor, "*b s c"]) -> Float[Tensor, "*b s c"]:
        return self.proj(self.norm(v).mT).mT
