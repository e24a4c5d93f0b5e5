"""The multiplicative interaction layer of Jayakumar 2020."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Mixture
from fastweights.zoo.defaults import fan_in_uniform


class MultiplicativeInteraction(PredictedWeight):
    """Everything linear in x and in z: `f(x, z) = z^T W x + z^T U + V x + b`, W a 3-tensor.

    Decomposition: Mixture on Channels with W's slices as templates, V as base and z itself as code; `U^T z + b` is a
    predicted bias.

    Shapes: x (*b, *n, i), context z (*b, k); W is `structure.templates` (k, j, i), V is `structure.base` (j, i), U^T
    and b are `predictor.bias.weight` (j, k) and `predictor.bias.bias` (j).

    Args:
        in_features: i.
        out_features: j.
        context_features: k; default in_features (z is then x itself: a quadratic layer).

    Source: Jayakumar et al. 2020; Müller 2024, Sec. A.5.2. No code was published; U(+-1 / sqrt(fan-in)),
    torch.nn's scale, is ours.

    >>> MultiplicativeInteraction(5, 3, context_features=7)(torch.randn(4, 5), torch.randn(4, 7)).shape
    torch.Size([4, 3])
    """

    structure: Mixture
    predictor: ContextAndBias

    def __init__(self, in_features: int, out_features: int, context_features: int | None = None):
        k = in_features if context_features is None else context_features
        w = fan_in_uniform((k, out_features, in_features), fan_in=k * in_features)
        v = fan_in_uniform((out_features, in_features), fan_in=in_features)
        super().__init__(Mixture(w, base=v), Channels(), ContextAndBias(k, out_features), affine=True)


class ContextAndBias(nn.Module):
    """The context, then a bias predicted from it: code = (z, U^T z + b)."""

    def __init__(self, context_features: int, out_features: int):
        super().__init__()
        self.bias = nn.Linear(context_features, out_features)

    def forward(self, context: Float[Tensor, "*b k"]) -> Float[Tensor, "*b kj"]:
        return torch.cat([context, self.bias(context)], -1)
