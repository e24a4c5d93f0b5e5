"""The factorization machine of Rendle 2010 on vectors and on sparse ids, and the matrix factorization inside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fastweights.structures import register
from fastweights.zoo.defaults import at_least_one


class FactorizationMachine(nn.Module):
    """All pairs of features with weights of low rank, in O(r i) operations an output.

    `y_j = w_j + sum_i w_ji x_i + sum_(i<k) (sum_r v_jir v_jkr) x_i x_k` (Eq. 2), computed as
    `sum_(i<k) ... = 1/2 sum_r [(sum_i v_jir x_i)^2 - sum_i v_jir^2 x_i^2]`. It owns its forward; the same function as a
    `PredictedWeight` is `fastweights.convert_fm.to_linear_hypernetwork(machine)`.

    Shapes: x (*b, i) -> (*b, j). `bias` is (j), `weight` (j, i), `v` (j, i, r); they start at zero, zero and
    N(0, 0.1^2), as in libFM.

    Args:
        in_features: i.
        out_features: j.
        rank: r (n_l in the paper).
        signs: (j, r) of +-1, the pairs' weights are then `sum_r signs_jr v_jir v_jkr`; None is all +1, Rendle's
            machine. With signs the matrix of pairs may have negative eigenvalues at low rank.
        self_interactions: add `sum_i squares_ji x_i^2` with free `squares` (j, i), which on binary x only repeat w_ji.

    Raises:
        ValueError: signs of another shape; x or ids of another size.

    Source: Rendle 2010; Eq. 2 of Müller 2024. self_interactions is Müller's name for the squares of Sec. 3.2.

    >>> machine = FactorizationMachine(5, 3)
    >>> machine(torch.randn(4, 5)).shape
    torch.Size([4, 3])
    >>> user, item = field_offsets([943, 1682])
    >>> ratings = FactorizationMachine(943 + 1682, rank=8)
    >>> ratings.forward_ids(torch.tensor([[user + 7, item + 5], [user + 942, item + 0]])).shape
    torch.Size([2, 1])
    """

    signs: Tensor | None
    squares: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int = 1,
        rank: int = 8,
        *,
        signs: Float[Tensor, "j r"] | None = None,
        self_interactions: bool = False,
    ):
        super().__init__()
        at_least_one("FactorizationMachine", rank=rank)
        if signs is not None and signs.shape != (out_features, rank):
            raise ValueError(
                f"FactorizationMachine: signs have shape {tuple(signs.shape)}, expected {(out_features, rank)} (j, r)"
            )
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.v = nn.Parameter(0.1 * torch.randn(out_features, in_features, rank))
        register(self, "signs", signs)
        register(self, "squares", nn.Parameter(torch.zeros(out_features, in_features)) if self_interactions else None)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b j"]:
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"FactorizationMachine: x has shape {tuple(x.shape)}, expected {self.in_features} numbers on its last "
                "axis; ids go to `forward_ids`"
            )
        sums = torch.einsum("...i,jir->...jr", x, self.v)
        squares = torch.einsum("...i,jir->...jr", x.square(), self.v.square())
        y = F.linear(x, self.weight, self.bias) + self._pairs(sums, squares)
        return y if self.squares is None else y + F.linear(x.square(), self.squares)

    def forward_ids(
        self,
        ids: Int[Tensor, "*m"],
        offsets: Int[Tensor, " b"] | None = None,
        values: Float[Tensor, "*m"] | None = None,
    ) -> Float[Tensor, "b j"]:
        """The same for a sparse x given by the ids of its non-zero features, in O(r) operations an id.

        Bags are given as to `torch.nn.functional.embedding_bag`: ids (b, n), or flat ids (m) with the offsets (b) at
        which each bag starts. The ids within a bag are distinct (a repeated one is two features that interact).
        Categories of several fields become ids by `field_offsets`.

        Args:
            ids: whole numbers 0..i - 1.
            offsets: start of each bag, ascending from 0, for flat ids only.
            values: x at these ids, shaped like them; None is all one.

        Raises:
            ValueError: offsets missing or superfluous, or values of another shape.
        """
        if (offsets is None) != (ids.ndim == 2) or (values is not None and values.shape != ids.shape):
            shapes = [None if part is None else tuple(part.shape) for part in (ids, offsets, values)]
            raise ValueError(
                "FactorizationMachine: ids {}, offsets {}, values {}: expected ids (b, n) without offsets, or ids (m) "
                "with offsets (b), and values shaped like the ids".format(*shapes)
            )
        if offsets is None:
            count = ids.shape[0]
            bags = torch.arange(count, device=ids.device)[:, None].expand(ids.shape).flatten()
        else:
            ends = torch.cat([offsets[1:], offsets.new_tensor([ids.numel()])])
            bags, count = torch.arange(len(offsets), device=ids.device).repeat_interleave(ends - offsets), len(offsets)
        ids = ids.flatten()
        x = torch.ones_like(ids, dtype=self.v.dtype) if values is None else values.flatten()

        def total(rows: Tensor) -> Tensor:
            return rows.new_zeros(self.out_features, count, *rows.shape[2:]).index_add(1, bags, rows).movedim(0, 1)

        rows = self.v[:, ids] * x[:, None]
        y = self.bias + total(self.weight[:, ids] * x) + self._pairs(total(rows), total(rows.square()))
        return y if self.squares is None else y + total(self.squares[:, ids] * x.square())

    def extra_repr(self) -> str:
        signed = "" if self.signs is None else ", signed"
        squares = "" if self.squares is None else ", self_interactions=True"
        return f"in={self.in_features}, out={self.out_features}, rank={self.rank}{signed}{squares}"

    def _pairs(self, sums: Float[Tensor, "*b j r"], squares: Float[Tensor, "*b j r"]) -> Float[Tensor, "*b j"]:
        pairs = 0.5 * (sums.square() - squares)
        return (pairs if self.signs is None else pairs * self.signs).sum(-1)


class MatrixFactorization(nn.Module):
    """A matrix of low rank with biases: `y = w + a_row + c_column + sum_r p_(row, r) q_(column, r)`.

    What a factorization machine is on one-hot pairs (row, column), and no more: pairs within a block never meet there.

    Shapes: rows and columns (*b) of ids -> (*b).

    Args:
        rows, columns: sizes of the matrix.
        rank: r.

    Raises:
        ValueError: rows and columns of different shapes.

    Source: Rendle 2010, Sec. V-A (biased matrix factorization); named in Müller 2024, Sec. 2.2.

    >>> ratings = MatrixFactorization(943, 1682)
    >>> ratings(torch.tensor([7, 942]), torch.tensor([5, 0])).shape
    torch.Size([2])
    """

    def __init__(self, rows: int, columns: int, rank: int = 8):
        super().__init__()
        at_least_one("MatrixFactorization", rank=rank)
        self.rows, self.columns, self.rank = rows, columns, rank
        self.bias = nn.Parameter(torch.zeros(()))
        self.row_bias = nn.Parameter(torch.zeros(rows))
        self.column_bias = nn.Parameter(torch.zeros(columns))
        self.p = nn.Parameter(0.1 * torch.randn(rows, rank))
        self.q = nn.Parameter(0.1 * torch.randn(columns, rank))

    def forward(self, rows: Int[Tensor, "*b"], columns: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        if rows.shape != columns.shape:
            raise ValueError(
                f"MatrixFactorization: rows of shape {tuple(rows.shape)} and columns of shape {tuple(columns.shape)}, "
                "expected one shape: pairs of ids"
            )
        biases = self.bias + self.row_bias[rows] + self.column_bias[columns]
        return biases + (self.p[rows] * self.q[columns]).sum(-1)

    def matrix(self) -> Float[Tensor, "rows columns"]:
        """All entries at once."""
        return self.bias + self.row_bias[:, None] + self.column_bias + self.p @ self.q.mT

    def extra_repr(self) -> str:
        return f"rows={self.rows}, columns={self.columns}, rank={self.rank}"


def field_offsets(sizes: Sequence[int]) -> list[int]:
    """Where each field of categories starts when all fields are numbered through: `id = offset + category`.

    >>> field_offsets([943, 1682])
    [0, 943]
    """
    return [sum(sizes[:field]) for field in range(len(sizes))]
