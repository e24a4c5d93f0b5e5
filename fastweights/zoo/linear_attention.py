"""Attention without a softmax: linear attention, and fast-weight memories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels, Sequence
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct, Outer
from fastweights.zoo.defaults import check_shapes


class LinearAttention(PredictedWeight):
    """Attention as a product: `y_t = phi(q_t) . sum_s phi(k_s) x_s / (phi(q_t) . sum_s phi(k_s))`, q and k predicted.

    Decomposition: Outer with f = identity on Sequence; the S x S matrix is never formed. In the other order of its sums
    it is a hypernetwork layer: the matrix `W = sum_s x_s phi(k_s)^T` is predicted from the sequence and applied to
    phi(q_t) (`fastweights.equivalences.fast_weight_layer`).

    Shapes: x (*b, S, C); context (*b, S, features), x itself by default.

    Args:
        features: of the context.
        rank: length of q and k.
        normalize: divide by the sum of the weights, so that they are a mean.

    Source: Katharopoulos et al. 2020, Eq. 5, with phi = elu + 1; as a fast weight, Schlag et al. 2021; Müller 2024, Eq.
    18 with f = identity, Sec. 5.1.3.

    >>> LinearAttention(12, rank=8)(torch.randn(2, 7, 12)).shape
    torch.Size([2, 7, 12])
    """

    def __init__(self, features: int, rank: int = 64, *, normalize: bool = True):
        super().__init__(Outer(rank), Sequence(), PositiveFeatures(features, rank, normalize))


class PositiveFeatures(nn.Module):
    """Sequence to codes (P, Q): phi of two linear maps, P divided by the sum of its weights with normalize=True."""

    def __init__(self, features: int, rank: int, normalize: bool = True):
        super().__init__()
        self.normalize = normalize
        self.queries, self.keys = nn.Linear(features, rank), nn.Linear(features, rank)

    def forward(self, context: Float[Tensor, "*b s c"]) -> tuple[Float[Tensor, "*b p"], Float[Tensor, "*b q"]]:
        queries, keys = F.elu(self.queries(context)) + 1, F.elu(self.keys(context)) + 1
        if self.normalize:
            queries = queries / (queries * keys.sum(-2, keepdim=True)).sum(-1, keepdim=True)
        return queries.flatten(-2), keys.flatten(-2)


class FastWeightMemory(PredictedWeight):
    """A weight written by outer products and read at once: `W_t = decay W_(t-1) + rate x_t k_t^T`, `y_t = W_t q_t`.

    Decomposition: Outer on Sequence with f = `CausalDecay`: `y_t = sum_(s <= t) rate decay^(t-s) (q_t . k_s) x_s`. A
    slow network (the predictor) learns what to write and where to read; the memory itself has no parameters.

    Shapes: x (*b, S, C), the values written; context (*b, S, features), x itself by default.

    Args:
        features: of the context.
        rank: length of the keys and queries.
        decay, rate: 1 and 1 in Schmidhuber 1992; 0.95 and 0.5 in Ba et al. 2016.

    Source: Schmidhuber 1992, Eq. 4 and 5 (outer products of FROM and TO patterns); Ba et al. 2016, Eq. 1.

    >>> FastWeightMemory(12, rank=8)(torch.randn(2, 7, 12)).shape
    torch.Size([2, 7, 12])
    """

    def __init__(self, features: int, rank: int = 64, *, decay: float = 1.0, rate: float = 1.0):
        super().__init__(Outer(rank, CausalDecay(decay, rate)), Sequence(), ReadAndWrite(features, rank))


class ReadAndWrite(nn.Module):
    """Sequence to codes (P, Q): where to read and where to write, two linear maps."""

    def __init__(self, features: int, rank: int):
        super().__init__()
        self.read, self.write = nn.Linear(features, rank), nn.Linear(features, rank)

    def forward(self, context: Float[Tensor, "*b s c"]) -> tuple[Float[Tensor, "*b p"], Float[Tensor, "*b q"]]:
        return self.read(context).flatten(-2), self.write(context).flatten(-2)


class CausalDecay(nn.Module):
    """Scores (t, s) times `rate decay^(t - s)` for s <= t, and zero for s > t."""

    def __init__(self, decay: float = 1.0, rate: float = 1.0):
        super().__init__()
        self.decay, self.rate = decay, rate

    def forward(self, scores: Float[Tensor, "*b t s"]) -> Float[Tensor, "*b t s"]:
        t, s = (torch.arange(n, device=scores.device) for n in scores.shape[-2:])
        age = t[:, None] - s
        weight = self.rate * torch.as_tensor(self.decay, dtype=scores.dtype, device=scores.device) ** age.clamp(min=0)
        return scores * torch.where(age >= 0, weight, 0.0)

    def extra_repr(self) -> str:
        return f"decay={self.decay}, rate={self.rate}"


class FastWeightsRNNCell(nn.Module):
    """A recurrent cell with a fast weight of its own past, `A' = decay A + rate h h^T`.

    `h' = relu(W h + C x)`, then `steps` times `h' <- relu(LN(W h + C x + A' h'))`. Part: `memory`, a Direct weight on
    Channels whose code is the state A.

    Shapes: x (B, in_features); state (h (B, features), A (B, features, features)), None for zeros; returns the new h
    and the new state.

    Args:
        in_features, features: of x and of h.
        decay, rate: 0.95 and 0.5 as published.
        steps: inner iterations; 1 as published.

    Raises:
        ValueError: x of another number of features, or a state of another size or batch.

    Source: Ba et al. 2016, Eq. 1 and 2 with layer normalisation (Sec. 3.1).

    >>> cell, x = FastWeightsRNNCell(4, 6), torch.randn(3, 4)
    >>> h, state = cell(x)
    >>> h, state = cell(x, state)
    >>> h.shape
    torch.Size([3, 6])
    """

    def __init__(self, in_features: int, features: int, *, decay: float = 0.95, rate: float = 0.5, steps: int = 1):
        super().__init__()
        self.features, self.decay, self.rate, self.steps = features, decay, rate, steps
        self.inputs = nn.Linear(in_features, features)
        self.recurrent = nn.Linear(features, features, bias=False)
        nn.init.eye_(self.recurrent.weight).data.mul_(0.05)
        self.norm = nn.LayerNorm(features)
        self.memory = PredictedWeight(Direct(features, features), Channels(), nn.Flatten())

    def forward(
        self, x: Float[Tensor, "b i"], state: tuple[Float[Tensor, "b j"], Float[Tensor, "b j j"]] | None = None
    ) -> tuple[Float[Tensor, "b j"], tuple[Float[Tensor, "b j"], Float[Tensor, "b j j"]]]:
        if state is None:
            state = x.new_zeros(x.shape[0], self.features), x.new_zeros(x.shape[0], self.features, self.features)
        h, fast = state
        batch, n = x.shape[0], self.features
        check_shapes(
            "FastWeightsRNNCell",
            {
                "x": (x, (batch, self.inputs.in_features)),
                "h": (h, (batch, n)),
                "the fast weight": (fast, (batch, n, n)),
            },
        )
        fast = self.decay * fast + self.rate * h.unsqueeze(-1) * h.unsqueeze(-2)
        slow = self.recurrent(h) + self.inputs(x)
        h = torch.relu(slow)
        for _ in range(self.steps):
            h = torch.relu(self.norm(slow + self.memory(h, fast)))
        return h, (h, fast)
