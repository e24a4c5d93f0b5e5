"""A tensor of templates as a sum of products of three vectors: exactly, truncated, or by alternating least squares.

`T[m, j, i] = sum_g a[g, m] u[g, j] v[g, i]`, a canonical polyadic decomposition (CP): one gate a term. The number of
terms that suffice is the tensor's rank, which nobody computes in general; the constructions here are exact with at
most min(i j, m i, m j) terms, and least squares finds what fewer can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

# Of the squared norms of the factors, for a tensor of norm 1. Terms that cancel each other may grow without end where
# the best decomposition of some rank does not exist (border rank); what each of them costs ends that.
RIDGE = 1e-6
_STARTS, _ITERATIONS = 3, 200


@dataclass(frozen=True)
class Terms:
    """A decomposition: tensor[m] = sum_g coefficients[g, m] u[g] v[g]^T, and how it was found."""

    coefficients: Float[Tensor, "g m"]
    u: Float[Tensor, "g j"]
    v: Float[Tensor, "g i"]
    method: str

    def residual(self, tensor: Float[Tensor, "m j i"]) -> Float[Tensor, "m j i"]:
        """What the terms leave of a tensor."""
        return tensor - torch.einsum("gm,gj,gi->mji", self.coefficients, self.u, self.v)

    def sizes(self) -> Float[Tensor, " g"]:
        """Norms of the terms; far more than the tensor's where terms cancel each other."""
        return self.coefficients.norm(dim=1) * self.u.norm(dim=1) * self.v.norm(dim=1)

    def to(self, dtype: torch.dtype) -> Terms:
        """The same in another dtype."""
        return replace(self, coefficients=self.coefficients.to(dtype), u=self.u.to(dtype), v=self.v.to(dtype))

    def keep(self, which: Tensor) -> Terms:
        """Some of the terms."""
        return replace(self, coefficients=self.coefficients[which], u=self.u[which], v=self.v[which])


def exact(tensor: Float[Tensor, "m j i"]) -> Terms:
    """The fewest terms that a construction guarantees: at most min(i j, m i, m j).

    >>> len(exact(torch.randn(7, 3, 4, dtype=torch.float64)).u)
    12
    """
    return min(_constructions(tensor, None), key=lambda terms: len(terms.u))


def truncated(tensor: Float[Tensor, "m j i"], rank: int) -> Terms:
    """The constructions cut to `rank` terms, the one that leaves least; for a matrix (j = 1) the best there is."""
    return min(_constructions(tensor, rank), key=lambda terms: terms.residual(tensor).norm().item())


def by_least_squares(
    tensor: Float[Tensor, "m j i"], rank: int, *, ridge: float = RIDGE, iterations: int = _ITERATIONS
) -> Terms:
    """Alternating least squares for all three factors, from the best truncation and from random starts.

    Minimises `|T - T'|^2 + ridge |T|^2 (|a|^2 + |u|^2 + |v|^2)` for T scaled to norm 1; the truncation itself is kept
    where nothing leaves less. Deterministic; the extra `cp` (tensorly).

    Raises ImportError without tensorly.

    Source: Kolda and Bader 2009; de Silva and Lim 2008 for tensors without a best decomposition of some rank.
    """
    try:
        from tensorly import backend_context
        from tensorly.cp_tensor import CPTensor
        from tensorly.decomposition import parafac
    except ImportError as error:
        raise ImportError("CP by alternating least squares needs tensorly: pip install 'fastweights[cp]'") from error
    first = truncated(tensor, rank)
    norm = tensor.norm()
    if norm == 0:
        return first
    found = [first]
    scaled = (tensor / norm).cpu().numpy()
    with backend_context("numpy", local_threadsafe=True):
        for factors in _starts(first, tensor.shape, rank, norm):
            decomposition = CPTensor((None, [factor.cpu().numpy() for factor in factors]))
            for part in (max(ridge, 1e-3), ridge):  # a strong ridge first: few swamps
                decomposition = parafac(scaled, rank, init=decomposition, n_iter_max=iterations, l2_reg=part, tol=1e-10)
            a, u, v = (torch.from_numpy(factor).to(tensor) for factor in decomposition.factors)
            found.append(Terms(norm * a.T, u.T, v.T, "alternating least squares"))
    return min(found, key=lambda terms: terms.residual(tensor).norm().item())


def _starts(first: Terms, shape: torch.Size, rank: int, norm: Tensor) -> Iterator[list[Tensor]]:
    """Factors (n, rank) to start from: those of a decomposition, evenly scaled, then random ones."""
    generator = torch.Generator().manual_seed(0)
    size = rank ** (-1 / 6)

    def drawn(n: int, count: int) -> Tensor:
        return size * torch.randn(n, count, generator=generator, dtype=torch.float64) / n**0.5

    root = (first.sizes() / norm).clamp(min=1e-12) ** (1 / 3)
    factors = [(root[:, None] * torch.nn.functional.normalize(f)).T for f in (first.coefficients, first.u, first.v)]
    yield [torch.cat([f.cpu(), 0.1 * drawn(len(f), rank - f.shape[1])], dim=1) for f in factors]
    for _ in range(_STARTS):
        yield [drawn(n, rank) for n in shape]


def _constructions(tensor: Float[Tensor, "m j i"], rank: int | None) -> list[Terms]:
    separate = [_strongest(unfold(tensor), rank) for unfold in (_separate_templates, _mixed_templates)]
    return [*separate, _compressed_index(tensor, rank)]


def _separate_templates(tensor: Float[Tensor, "m j i"]) -> Terms:
    """Singular vectors of each template: sum of the ranks of the templates."""
    m, j, i = tensor.shape
    u, s, vh = torch.linalg.svd(tensor, full_matrices=False)
    which = (
        torch.eye(m, dtype=tensor.dtype, device=tensor.device).repeat_interleave(s.shape[1], 0) * s.flatten()[:, None]
    )
    terms = Terms(which, u.mT.reshape(-1, j), vh.reshape(-1, i), "singular vectors of each template")
    kept = (s > _floor(s, tensor)).flatten()
    kept[:1] |= ~kept.any()  # templates of zeros keep one gate
    return terms.keep(kept)


def _mixed_templates(tensor: Float[Tensor, "m j i"]) -> Terms:
    """The same after an orthogonal change of templates, which drops dependent ones (one output: Eckart-Young)."""
    left, s, right = torch.linalg.svd(tensor.flatten(1), full_matrices=False)
    count = max(1, int((s > _floor(s, tensor)).sum()))
    inner = _separate_templates(right[:count].unflatten(1, tensor.shape[1:]))
    mix = inner.coefficients @ (s[:count, None] * left[:, :count].T)
    return Terms(mix, inner.u, inner.v, "singular vectors of orthogonal templates")


def _compressed_index(tensor: Float[Tensor, "m j i"], rank: int | None) -> Terms:
    """Theorem 3.1 between orthonormal bases of the rows and columns that occur: r_j r_i gates."""
    m, j, i = tensor.shape
    columns, s_j, _ = torch.linalg.svd(tensor.movedim(1, 0).flatten(1), full_matrices=False)
    rows, s_i, _ = torch.linalg.svd(tensor.movedim(2, 0).flatten(1), full_matrices=False)
    p, q = (max(1, int((s > _floor(s, tensor)).sum())) for s in (s_j, s_i))
    if rank is not None and p * q > rank:
        energy = torch.einsum("mji,ja,ib->mab", tensor, columns, rows).square().sum(0).cumsum(0).cumsum(1)
        sizes = [(a, min(q, rank // a)) for a in range(1, min(p, rank) + 1)]
        p, q = max(sizes, key=lambda size: energy[size[0] - 1, size[1] - 1].item())
    columns, rows = columns[:, :p], rows[:, :q]
    core = torch.einsum("mji,ja,ib->abm", tensor, columns, rows)
    u, v = columns.T.repeat_interleave(q, 0), rows.T.repeat(p, 1)
    return Terms(core.reshape(p * q, m), u, v, "Theorem 3.1 between bases of rows and columns")


def _strongest(terms: Terms, rank: int | None) -> Terms:
    if rank is None or len(terms.u) <= rank:
        return terms
    return terms.keep(terms.coefficients.norm(dim=1).argsort(descending=True)[:rank])


def _floor(singular: Tensor, tensor: Tensor) -> float:
    return max(tensor.shape) * torch.finfo(tensor.dtype).eps * float(singular.max())
