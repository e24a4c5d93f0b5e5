"""The linear hypernetwork layer with linear weight prediction, Eq. 8."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated, Mixture
from fastweights.zoo.defaults import at_least_one, fan_in_uniform


class LinearHypernetwork(PredictedWeight):
    """A linear layer whose weight is an affine function of its own input.

    `y_j = w_j + sum_i (w_ji + sum_k u_jik x_k) x_i` (Eq. 8). Decomposition: Mixture on Channels with u's slices as
    templates, w_ji as base and the input itself as code. With a rank, `u_jik = sum_r p_jir q_jkr` costs O(r i) an
    output and is itself a gated double layer: Gated on Channels with j (r + 1) gates, q applied to x and as many ones
    as outputs.

    Shapes: x (*b, *n, i), context (*b, i), by default x itself.

    Args:
        in_features: i.
        out_features: j.
        rank: r of u for every output (n_l in the paper's proof); None is full rank.

    Source: Müller 2024, Eq. 8, 14 and 16. On binary inputs a factorization machine, see `fastweights.convert_fm`.

    >>> LinearHypernetwork(5, 3)(torch.randn(4, 5)).shape
    torch.Size([4, 3])
    >>> LinearHypernetwork(5, 3, rank=2).structure
    Gated(in=5, out=3, code=9)
    """

    structure: Mixture | Gated
    predictor: CodeOfInput

    def __init__(self, in_features: int, out_features: int = 1, rank: int | None = None):
        at_least_one("LinearHypernetwork", rank=1 if rank is None else rank)
        linear = fan_in_uniform((out_features, in_features), fan_in=in_features)
        structure: Mixture | Gated
        if rank is None:
            u = fan_in_uniform((in_features, out_features, in_features), fan_in=in_features**2)
            structure = Mixture(u, base=linear)
            predictor = CodeOfInput(None, 0, out_features)
        else:
            p = fan_in_uniform((out_features * rank, in_features), fan_in=in_features)
            q = fan_in_uniform((out_features * rank, in_features), fan_in=in_features * rank)
            one = torch.eye(out_features)
            collect = torch.cat([one.repeat_interleave(rank, 1), one], 1)
            structure = Gated(collect, nn.Parameter(torch.cat([p.data, linear.data])))
            predictor = CodeOfInput(q, out_features, out_features)
        super().__init__(structure, Channels(), predictor, affine=True)
        self.in_features, self.out_features, self.rank = in_features, out_features, rank

    @property
    def bias(self) -> Float[Tensor, " j"]:
        """w_j."""
        return self.predictor.bias

    @property
    def linear(self) -> Float[Tensor, "j i"]:
        """w_ji, the part of the weight that the context does not change."""
        if isinstance(self.structure, Mixture):
            assert self.structure.base is not None
            return self.structure.base
        assert self.structure.v is not None
        return self.structure.v[-self.out_features :]

    @property
    def p(self) -> Float[Tensor, "j r i"]:
        """Factors of u that read x; with a rank only."""
        v = self.structure.v if isinstance(self.structure, Gated) else None
        if v is None:
            raise AttributeError("LinearHypernetwork: u has no factors p at full rank; read `interactions`")
        return v[: -self.out_features].unflatten(0, (self.out_features, -1))

    @property
    def q(self) -> Float[Tensor, "j r k"]:
        """Factors of u that read the context; with a rank only."""
        if self.predictor.weight is None:
            raise AttributeError("LinearHypernetwork: u has no factors q at full rank; read `interactions`")
        return self.predictor.weight.unflatten(0, (self.out_features, -1))

    @property
    def interactions(self) -> Float[Tensor, "j i k"]:
        """u_jik, written out."""
        if isinstance(self.structure, Mixture):
            return self.structure.templates.permute(1, 2, 0)
        return torch.einsum("jri,jrk->jik", self.p, self.q)


class CodeOfInput(nn.Module):
    """The context (or a linear map of it), then ones, then a trained bias: code = (Q context, 1, w)."""

    weight: nn.Parameter | None

    def __init__(self, weight: nn.Parameter | None, ones: int, bias_features: int):
        super().__init__()
        self.register_parameter("weight", weight)
        self.ones = ones
        self.bias = nn.Parameter(torch.zeros(bias_features))

    def forward(self, context: Float[Tensor, "*b c"]) -> Float[Tensor, "*b k"]:
        numbers = context if self.weight is None else F.linear(context, self.weight)
        one = numbers.new_ones(*context.shape[:-1], self.ones)
        return torch.cat([numbers, one, self.bias.expand(*context.shape[:-1], -1)], -1)
