"""HyperLSTM: an LSTM whose weight rows are scaled, step by step, by a smaller LSTM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo.defaults import at_least_one, check_shapes

Pair = tuple[Tensor, Tensor]
GATES = 4  # input gate, candidate, forget gate, output gate


class LSTMUpdate(nn.Module):
    """An LSTM from its four pre-activations on, with layer normalisation of each and of the cell state.

    Shapes: pre-activations (*b, 4 features), cell state c (*b, features); returns h and (h, c).
    """

    def __init__(self, features: int, *, forget_bias: float = 1.0, dropout: float = 0.0):
        super().__init__()
        self.forget_bias, self.dropout = forget_bias, dropout
        self.norms = nn.ModuleList([nn.LayerNorm(features, eps=1e-3) for _ in range(GATES)])
        self.norm_c = nn.LayerNorm(features, eps=1e-3)

    def forward(self, numbers: Float[Tensor, "*b k"], c: Float[Tensor, "*b j"]) -> tuple[Float[Tensor, "*b j"], Pair]:
        parts = zip(self.norms, numbers.chunk(GATES, dim=-1), strict=True)
        write, candidate, forget, read = (norm(part) for norm, part in parts)
        candidate = F.dropout(torch.tanh(candidate), self.dropout, self.training)
        c = c * torch.sigmoid(forget + self.forget_bias) + torch.sigmoid(write) * candidate
        h = torch.tanh(self.norm_c(c)) * torch.sigmoid(read)
        return h, (h, c)


class LayerNormLSTMCell(nn.Module):
    """An LSTM cell with layer normalisation and no predicted weight: the small LSTM inside `HyperLSTMCell`.

    Shapes: x (*b, in_features), state (h, c), each (*b, features), None for zeros; returns h and the new state.
    """

    def __init__(self, in_features: int, features: int, *, forget_bias: float = 1.0):
        super().__init__()
        self.features = features
        self.from_x = nn.Linear(in_features, GATES * features, bias=False)
        self.from_h = nn.Linear(features, GATES * features, bias=False)
        nn.init.xavier_uniform_(self.from_x.weight)
        orthogonal_blocks_(self.from_h.weight)
        self.update = LSTMUpdate(features, forget_bias=forget_bias)

    def forward(self, x: Float[Tensor, "*b i"], state: Pair | None = None) -> tuple[Float[Tensor, "*b j"], Pair]:
        h, c = zero_state(x, self.features) if state is None else state
        return self.update(self.from_x(x) + self.from_h(h), c)


class HyperLSTMCell(nn.Module):
    """An LSTM whose two weight matrices a smaller LSTM rescales in every step, row by row.

    Pre-activations are `alpha_x(z) . (W_x x) + alpha_h(z) . (W_h h) + beta(z) + b`, z from an LSTM that reads [x ; h].
    Parts: `from_x` and `from_h`, Gated with U the identity on Channels, `W = diag(alpha) V`, from_h with a predicted
    bias beta: a gating of rows, not a prediction of whole weights.

    Shapes: x (*b, in_features); state ((h, c), (h, c) of the small LSTM), None for zeros; returns h and the new state.

    Args:
        in_features, features: of x and of h.
        hyper_features: of the small LSTM; 128 in the paper (64 in the code).
        embedding: length of each z; 4 in the paper.
        forget_bias: added to the forget gates of both.
        dropout: of the candidate, in training ("recurrent dropout without memory loss").

    Raises:
        ValueError: x of another number of features, or a state of another size or batch.

    Source: Ha et al. 2016, Sec. 3.2 and App. A.2.2, with the published code's initialisation: all scales start at 0.1
    and no shift, whatever the context.

    >>> cell = HyperLSTMCell(10, 20)
    >>> h, state = cell(torch.randn(3, 10))
    >>> h, state = cell(torch.randn(3, 10), state)
    >>> h.shape
    torch.Size([3, 20])
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        hyper_features: int = 128,
        embedding: int = 4,
        *,
        forget_bias: float = 1.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        at_least_one("HyperLSTMCell", hyper_features=hyper_features, embedding=embedding)
        self.in_features, self.features = in_features, features
        self.hyper = LayerNormLSTMCell(in_features + features, hyper_features, forget_bias=forget_bias)
        x_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(GATES * features, in_features)))
        h_weight = nn.Parameter(orthogonal_blocks_(torch.empty(GATES * features, features)))
        scale = RowScale(hyper_features, embedding, features)
        self.from_x = PredictedWeight(Gated(None, x_weight), Channels(), scale)
        scale = RowScale(hyper_features, embedding, features, shift=True)
        self.from_h = PredictedWeight(Gated(None, h_weight), Channels(), scale, affine=True)
        self.bias = nn.Parameter(torch.zeros(GATES * features))
        self.update = LSTMUpdate(features, forget_bias=forget_bias, dropout=dropout)

    def forward(
        self, x: Float[Tensor, "*b i"], state: tuple[Pair, Pair] | None = None
    ) -> tuple[Float[Tensor, "*b j"], tuple[Pair, Pair]]:
        main, hyper = (zero_state(x, self.features), zero_state(x, self.hyper.features)) if state is None else state
        h, c = main
        lead = tuple(x.shape[:-1])
        large, small = (*lead, self.features), (*lead, self.hyper.features)
        check_shapes(
            "HyperLSTMCell",
            {
                "x": (x, (*lead, self.in_features)),
                "h": (h, large),
                "c": (c, large),
                "h of the small LSTM": (hyper[0], small),
                "c of the small LSTM": (hyper[1], small),
            },
        )
        signal, hyper = self.hyper(torch.cat([x, h], dim=-1), hyper)
        h, main = self.update(self.from_x(x, signal) + self.from_h(h, signal) + self.bias, c)
        return h, (main, hyper)


class RowScale(nn.Module):
    """State of the small LSTM to the scales (and shifts) of 4 n rows, through an embedding z for each of the 4 gates.

    `alpha = A (Z s + 1)`, every entry of A 0.1 / embedding and Z zero at first; `beta = B (Z' s)`, B zero at first.
    """

    def __init__(self, features: int, embedding: int, rows: int, *, shift: bool = False):
        super().__init__()
        self.embedding = embedding
        self.scale_embedding = nn.Linear(features, GATES * embedding)
        self.scale = nn.Parameter(torch.full((GATES, rows, embedding), 0.1 / embedding))
        nn.init.zeros_(self.scale_embedding.weight)
        nn.init.ones_(self.scale_embedding.bias)
        self.shift_embedding: nn.Linear | None = None
        if shift:
            self.shift_embedding = nn.Linear(features, GATES * embedding, bias=False)
            self.shift = nn.Parameter(torch.zeros(GATES, rows, embedding))
            nn.init.normal_(self.shift_embedding.weight, std=0.01)

    def forward(self, state: Float[Tensor, "*b s"]) -> Float[Tensor, "*b k"]:
        scale = self._rows(self.scale, self.scale_embedding(state))
        if self.shift_embedding is None:
            return scale
        return torch.cat([scale, self._rows(self.shift, self.shift_embedding(state))], dim=-1)

    def _rows(self, weight: Tensor, z: Tensor) -> Tensor:
        return torch.einsum("gne,...ge->...gn", weight, z.unflatten(-1, (GATES, self.embedding))).flatten(-2)


def zero_state(x: Tensor, features: int) -> Pair:
    """h and c before the first step."""
    zeros = x.new_zeros(*x.shape[:-1], features)
    return zeros, zeros


def orthogonal_blocks_(weight: Tensor) -> Tensor:
    """An orthogonal matrix for each of the four gates, in place."""
    for block in weight.data.chunk(GATES):
        nn.init.orthogonal_(block)
    return weight
