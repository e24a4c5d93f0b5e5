"""The gated double layer of Eq. 5."""

from __future__ import annotations

from torch import nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.defaults import at_least_one, fan_in_uniform, predictor_mlp


class GatedDoubleLayer(PredictedWeight):
    """Two fixed layers with predicted gates between: `y_j = sum_k u_kj [NN^a(x0)]_k sum_i v_ik x_i` (Eq. 5, before f).

    Decomposition: Gated on Channels. With gates >= in_features * out_features it can hold any `HyperLinear`
    (Theorem 3.1); `fastweights.convert.to_gated` builds it.

    Shapes: x (*b, *n, i), context (*b, ...); the predictor emits k gates.

    Args:
        in_features: i.
        out_features: j.
        gates: k; default in_features * out_features, the number of Theorem 3.1.
        predictor: context to gates; default context_features -> 128 -> ReLU -> linear head.
        context_features: size of the default predictor's input; default in_features (the context is then x itself).

    Source: Müller 2024, Eq. 5.

    >>> import torch
    >>> GatedDoubleLayer(5, 3)(torch.randn(4, 5)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gates: int | None = None,
        *,
        predictor: nn.Module | None = None,
        context_features: int | None = None,
    ):
        gates = in_features * out_features if gates is None else gates
        at_least_one("GatedDoubleLayer", gates=gates)
        u = fan_in_uniform((out_features, gates), fan_in=gates)
        v = fan_in_uniform((gates, in_features), fan_in=in_features)
        if predictor is None:
            predictor = predictor_mlp(context_features or in_features, gates)
        super().__init__(Gated(u, v), Channels(), predictor)
