"""Additive attention."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Sequence
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct


class AdditiveAttention(nn.Module):
    """A predicted matrix over positions: `y_t = sum_s A_ts x_s` (Eq. 17), `A = softmax_s(v . tanh(W q_t + U k_s))`.

    `part(x, queries)` is the layer as a predicted weight: Direct on Sequence, `scores` its predictor. Its score is
    no function of a product of two vectors, so it is no `Outer`; as sequences have any length, the Direct structure,
    which has no parameters, is made for the lengths at hand.

    Shapes: x (*b, S, key_features), read and mixed; queries (*b, T, query_features); result (*b, T, key_features).

    Args:
        query_features, key_features: of the queries (decoder states) and of x (annotations).
        hidden: length of v.

    Source: Bahdanau et al. 2015, Sec. 3.1 and App. A.1.2; Müller 2024, Eq. 17.

    >>> import torch
    >>> AdditiveAttention(10, 12, hidden=8)(torch.randn(2, 7, 12), torch.randn(2, 5, 10)).shape
    torch.Size([2, 5, 12])
    """

    def __init__(self, query_features: int, key_features: int, hidden: int = 128):
        super().__init__()
        self.scores = AdditiveScores(query_features, key_features, hidden)

    def part(self, x: Tensor, queries: Tensor) -> PredictedWeight:
        """The predicted weight (T, S) for sequences of these lengths; its context is the pair (queries, x)."""
        return PredictedWeight(Direct(x.shape[-2], queries.shape[-2]), Sequence(), self.scores)

    def forward(self, x: Float[Tensor, "*b s c"], queries: Float[Tensor, "*b t q"]) -> Float[Tensor, "*b t c"]:
        sizes = (self.scores.keys.in_features, self.scores.queries.in_features)
        if (x.shape[-1], queries.shape[-1]) != sizes or x.shape[:-2] != queries.shape[:-2]:
            raise ValueError(
                f"AdditiveAttention: x has shape {tuple(x.shape)} and queries {tuple(queries.shape)}, expected "
                f"{sizes[0]} and {sizes[1]} features last, and the same batch axes"
            )
        return self.part(x, queries)(x, (queries, x))


class AdditiveScores(nn.Module):
    """Pair (queries, keys) to attention matrices, flat in (t, s)."""

    def __init__(self, query_features: int, key_features: int, hidden: int):
        super().__init__()
        self.queries = nn.Linear(query_features, hidden)
        self.keys = nn.Linear(key_features, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, context: tuple[Tensor, Tensor]) -> Float[Tensor, "*b ts"]:
        queries, keys = context
        hidden = (self.queries(queries).unsqueeze(-2) + self.keys(keys).unsqueeze(-3)).tanh()
        return self.score(hidden).squeeze(-1).softmax(-1).flatten(-2)
