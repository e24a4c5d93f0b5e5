"""The hypernetwork layer of Eq. 1."""

from __future__ import annotations

from torch import nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import predictor_mlp


class HyperLinear(PredictedWeight):
    """A linear layer whose whole weight is predicted: `y_j = sum_i [NN^W(x0)]_ij x_i` (Eq. 1, before f).

    Decomposition: Direct on Channels.

    Shapes: x (*b, *n, i), context (*b, ...): samples n share the weight of their context; the predictor emits i j
    numbers, row-major in (j, i); with bias=True then j more, a predicted bias.

    Args:
        in_features: i.
        out_features: j.
        predictor: context to weights; default context_features -> 128 -> ReLU -> linear head.
        context_features: size of the default predictor's input; default in_features (the context is then x itself).
        bias: predict a bias too.

    Source: Ha et al. 2016; Schmidhuber 1992; as defined in Müller 2024, Eq. 1.

    >>> import torch
    >>> HyperLinear(5, 3)(torch.randn(4, 5)).shape
    torch.Size([4, 3])
    >>> HyperLinear(5, 3, context_features=7)(torch.randn(4, 10, 5), torch.randn(4, 7)).shape
    torch.Size([4, 10, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        predictor: nn.Module | None = None,
        context_features: int | None = None,
        bias: bool = False,
    ):
        structure = Direct(in_features, out_features)
        if predictor is None:
            head = structure.code_features + bias * out_features
            predictor = predictor_mlp(context_features or in_features, head)
        super().__init__(structure, Channels(), predictor, affine=bias)
