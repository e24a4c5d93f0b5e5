"""Softmax attention: decomposable (one head, a shared network) and multi-head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Sequence
from fastweights.layer import PredictedWeight
from fastweights.structures import Outer, softmax
from fastweights.zoo.defaults import at_least_one

Context = Tensor | tuple[Tensor, Tensor]


class DecomposableAttention(PredictedWeight):
    """Soft alignment of two sequences: `y_t = sum_s softmax_s(F(a_t) . F(b_s)) x_s` (Eq. 18), one network F for both.

    Decomposition: Outer with f = softmax on Sequence.

    Shapes: x (*b, S, C), usually b itself; context a pair a (*b, T, features), b (*b, S, features), or one sequence
    for both; result (*b, T, C).

    Args:
        features: numbers of each a_t and b_s.
        hidden: of F's two layers, each with ReLU; 200 as published.
        network: F; default as published.

    Source: Parikh et al. 2016, Eq. 1 and 2; Müller 2024, Eq. 18.

    >>> import torch
    >>> a, b = torch.randn(2, 5, 200), torch.randn(2, 7, 200)
    >>> DecomposableAttention(200)(b, (a, b)).shape
    torch.Size([2, 5, 200])
    """

    def __init__(self, features: int, hidden: int = 200, *, network: nn.Module | None = None):
        at_least_one("DecomposableAttention", hidden=hidden)
        if network is None:
            network = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        super().__init__(Outer(hidden, softmax), Sequence(), SharedNetwork(network))


class SharedNetwork(nn.Module):
    """A pair of sequences to a pair of codes by one network; one sequence serves for both."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, context: Context) -> tuple[Tensor, Tensor]:
        a, b = context if isinstance(context, tuple) else (context, context)
        return self.network(a).flatten(-2), self.network(b).flatten(-2)


class MultiHeadAttention(nn.Module):
    """Several attentions side by side: `y_h = softmax(Q_h K_h^T / sqrt(d)) V_h`, then `W_o [y_1 ..] + b_o`.

    Q, K, V are linear maps of the sequences; `y_(i + h d), t = sum_s f(a_th . b_sh) x_ih,s` (Eq. 19, 20). Part:
    `attention`, Outer with f = softmax on Sequence, whose code has an axis of heads; the linear maps of x and of the
    result are the fixed layers around it.

    Shapes: x (*b, S, features); queries (*b, T, features), x itself by default; result (*b, T, features).

    Args:
        features: heads times d.
        heads: number of heads; 8 as published, with features = 512.
        bias: of the four linear maps.

    Raises:
        ValueError: features that the heads do not divide, or sequences of other sizes.

    Source: Vaswani et al. 2017, Eq. 1 and Sec. 3.2.2; Müller 2024, Eq. 19 and 20.

    >>> import torch
    >>> MultiHeadAttention()(torch.randn(2, 7, 512)).shape
    torch.Size([2, 7, 512])
    """

    def __init__(self, features: int = 512, heads: int = 8, *, bias: bool = True):
        super().__init__()
        at_least_one("MultiHeadAttention", heads=heads)
        if features % heads:
            raise ValueError(f"MultiHeadAttention: {features} features cannot be split into {heads} heads of one size")
        self.heads = heads
        predictor = QueriesAndKeys(features, heads, bias=bias)
        self.attention = PredictedWeight(Outer(features // heads, softmax), Sequence(), predictor)
        self.values = nn.Linear(features, features, bias=bias)
        self.output = nn.Linear(features, features, bias=bias)

    def forward(
        self, x: Float[Tensor, "*b s c"], queries: Float[Tensor, "*b t c"] | None = None
    ) -> Float[Tensor, "*b t c"]:
        for name, sequence in (("x", x), ("queries", x if queries is None else queries)):
            if sequence.shape[-1] != self.values.in_features or sequence.shape[:-2] != x.shape[:-2]:
                raise ValueError(
                    f"MultiHeadAttention: {name} has shape {tuple(sequence.shape)}, expected {self.values.in_features} "
                    f"features last and the batch axes of x, {tuple(x.shape[:-2])}"
                )
        values = split_heads(self.values(x), self.heads)
        y = self.attention(values, (x if queries is None else queries, x))
        return self.output(y.transpose(-3, -2).flatten(-2))


class QueriesAndKeys(nn.Module):
    """Sequences to codes of attention: `Q / sqrt(d)` and `K` of each head, (*b, heads, T d) and (*b, heads, S d)."""

    def __init__(self, features: int, heads: int, *, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(features, features, bias=bias)
        self.keys = nn.Linear(features, features, bias=bias)

    def forward(self, context: Context) -> tuple[Tensor, Tensor]:
        a, b = context if isinstance(context, tuple) else (context, context)
        queries, keys = split_heads(self.queries(a), self.heads), split_heads(self.keys(b), self.heads)
        return (queries * queries.shape[-1] ** -0.5).flatten(-2), keys.flatten(-2)


def split_heads(y: Float[Tensor, "*b s c"], heads: int) -> Float[Tensor, "*b heads s d"]:
    """Channels i + h d of a sequence as channel i of head h."""
    return y.unflatten(-1, (heads, -1)).transpose(-3, -2)
