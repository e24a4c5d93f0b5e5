"""Mixtures with fewer gates than exact: alternating least squares, real codes, and tensors without a best answer."""

import sys

import pytest
import torch
from torch import nn

from fastweights import PredictedWeight, convert, decompositions, zoo
from fastweights.axes import Channels
from fastweights.structures import Direct, Mixture


@pytest.fixture
def tensorly():
    return pytest.importorskip("tensorly", reason="needs the extra 'cp'")


def rank_three(m=9, j=7, i=8, rank=3):
    return torch.einsum("gm,gj,gi->mji", *(torch.randn(rank, n, dtype=torch.float64) for n in (m, j, i)))


def w_state():
    """Rank 3, and the limit of tensors of rank 2: `(a + e b)^3 / e - a^3 / e`, so two terms have no best fit."""
    tensor = torch.zeros(2, 2, 2, dtype=torch.float64)
    for place in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        tensor[place] = 1
    return tensor


def relative(terms, tensor):
    return (terms.residual(tensor).norm() / tensor.norm()).item()


def test_constructions_are_exact_and_within_their_numbers():
    for shape in ((5, 3, 4), (2, 6, 6), (20, 3, 4), (7, 1, 5)):
        tensor = torch.randn(shape, dtype=torch.float64)
        terms = decompositions.exact(tensor)
        m, j, i = shape
        assert len(terms.u) <= min(i * j, m * i, m * j)
        assert relative(terms, tensor) < 1e-13


def test_least_squares_finds_the_rank_that_no_construction_sees(tensorly):
    tensor = rank_three()
    assert len(decompositions.exact(tensor).u) == 9
    assert relative(decompositions.truncated(tensor, 3), tensor) > 0.1
    assert relative(decompositions.by_least_squares(tensor, 3), tensor) < 1e-4


def test_it_agrees_with_the_experiment_on_the_smallest_rank(tensorly):
    """What damped Gauss-Newton steps find exact (experiments.mueller2024.cp_rank) is enough, one less is not."""
    from experiments.mueller2024.cp_rank import smallest_rank

    tensor = rank_three(4, 3, 3, rank=4)
    rank, _ = smallest_rank(tensor)
    assert rank == 4
    found = [relative(decompositions.by_least_squares(tensor, r, iterations=1000), tensor) for r in (rank - 1, rank)]
    assert found[0] > 10 * found[1]
    assert found[1] < 1e-3


@pytest.mark.parametrize("rank", [1, 4, 10, 30])
def test_least_squares_never_leaves_more_than_the_truncation(tensorly, rank):
    tensor = torch.randn(6, 4, 5, dtype=torch.float64)
    ours, theirs = decompositions.by_least_squares(tensor, rank), decompositions.truncated(tensor, rank)
    assert len(ours.u) <= rank
    assert relative(ours, tensor) <= relative(theirs, tensor)


def test_terms_that_cancel_do_not_grow_without_end(tensorly):
    tensor = w_state()

    def size(ridge, iterations):
        terms = decompositions.by_least_squares(tensor, 2, ridge=ridge, iterations=iterations)
        return terms.sizes().sum().item()

    assert size(1e-15, 1500) > 1.3 * size(1e-15, 150)  # what the ridge is there for
    assert size(1e-3, 1500) < 1.03 * size(1e-3, 150)
    terms = decompositions.by_least_squares(tensor, 2)
    assert relative(terms, tensor) < 0.03
    assert terms.sizes().sum() < 10 * tensor.norm()
    assert relative(decompositions.by_least_squares(tensor, 3), tensor) < 1e-5


def test_zeros(tensorly):
    assert relative_of_zeros(decompositions.by_least_squares(torch.zeros(3, 2, 4, dtype=torch.float64), 2)) == 0


def relative_of_zeros(terms):
    return torch.einsum("gm,gj,gi->mji", terms.coefficients, terms.u, terms.v).norm().item()


@pytest.mark.parametrize("method", ["unfolding", "cp"])
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bound_is_certified_and_the_measured_error_is_measured(tensorly, method, real, dtype):
    source = Mixture(torch.randn(6, 3, 8, dtype=dtype), torch.randn(3, 8, dtype=dtype))
    codes = torch.randn(400, 2, dtype=dtype) @ torch.randn(2, 6, dtype=dtype)
    conversion = convert.to_gated(source, rank=7, method=method, codes=codes if real else None)
    assert conversion.structure.code_features <= 7
    assert (conversion.measured is None) == (not real)

    def error(code):
        made = conversion.structure.materialize(conversion.code_map(code))
        return torch.linalg.matrix_norm(made - source.materialize(code))

    anything = torch.randn(300, 6, dtype=dtype) * torch.logspace(-2, 2, 300, dtype=dtype)[:, None]
    assert (error(anything) <= conversion.bound(anything) * (1 + 1e-4) + 1e-5).all()
    if real:
        rms = error(codes).square().mean().sqrt() / source.materialize(codes).square().sum((1, 2)).mean().sqrt()
        assert conversion.measured == pytest.approx(rms.item(), rel=1e-2)


@pytest.mark.parametrize("method", ["unfolding", "cp"])
def test_real_codes_say_what_is_kept(tensorly, method):
    """Codes in a plane need the templates of that plane, whatever the others are."""
    source = Mixture(torch.randn(6, 3, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64))
    codes = torch.randn(400, 2, dtype=torch.float64) @ torch.randn(2, 6, dtype=torch.float64)
    weights = source.materialize(codes)

    def lost(conversion):
        made = conversion.structure.materialize(conversion.code_map(codes))
        return ((made - weights).norm() / weights.norm()).item()

    blind = convert.to_gated(source, rank=9, method=method)
    seeing = convert.to_gated(source, rank=9, method=method, codes=codes)
    assert lost(seeing) < 1e-3 < lost(blind)
    assert seeing.bound.slope > blind.bound.slope


def test_one_row_keeps_the_principal_subspace_of_its_weights():
    """J = 1: the least mean squared error that any subspace of that dimension has (Eckart and Young)."""
    source = Mixture(torch.randn(6, 1, 8, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64))
    codes = torch.randn(500, 6, dtype=torch.float64) * torch.tensor([5, 3, 1, 0.5, 0.2, 0.1], dtype=torch.float64)
    weights = source.materialize(codes)[:, 0]
    best = torch.linalg.svdvals(weights)[3:].square().sum() / weights.square().sum()
    assert convert.to_gated(source, rank=3, codes=codes).measured == pytest.approx(best.sqrt().item(), rel=1e-6)


@pytest.mark.parametrize("method", ["unfolding", "cp"])
def test_whole_predicted_weights_are_truncated_by_their_codes(tensorly, method):
    """Direct: no rank below i j serves every code, but real ones may need few."""
    codes = torch.randn(300, 2, dtype=torch.float64) @ torch.randn(2, 20, dtype=torch.float64)
    conversion = convert.to_gated(Direct(5, 4), rank=8, codes=codes, method=method)
    assert conversion.structure.code_features == 8
    assert conversion.measured < 2e-3
    assert conversion.bound.slope >= 1  # a code of another kind may be lost whole
    assert convert.to_gated(Direct(5, 4), rank=30, codes=codes).structure.code_features == 20


def test_a_network_is_truncated_by_the_codes_of_its_inputs():
    predictor = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 20))
    network = nn.Sequential(zoo.HyperLinear(5, 4, predictor=predictor)).double()
    x = torch.randn(50, 5, dtype=torch.float64)
    converted, report = convert.model(network, rank=12, inputs=(x,), weighted=True)
    assert report.layers[0].after == 12
    assert report.layers[0].measured < 1e-6
    assert "measured on the inputs" in str(report)
    assert "certified" in str(report)
    torch.testing.assert_close(converted(x), network(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="needs inputs="):
        convert.model(network, rank=3, weighted=True)


def test_a_predicted_bias_is_no_code():
    structure = Mixture(torch.randn(5, 2, 3), torch.randn(2, 3))
    layer = PredictedWeight(structure, Channels(), nn.Linear(4, 5 + 2), affine=True).double()
    x, context = torch.randn(6, 7, 3, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, context):
            return self.layer(x, context)

    converted, report = convert.model(Net(), rank=6, inputs=(x, context), weighted=True)
    assert report.layers[0].measured < 1e-6
    torch.testing.assert_close(converted(x, context), layer(x, context), rtol=1e-5, atol=1e-5)


def test_what_cannot_be(monkeypatch):
    source = Mixture(torch.randn(6, 3, 8))
    with pytest.raises(ValueError, match="give rank="):
        convert.to_gated(source, method="cp")
    with pytest.raises(ValueError, match=r"codes have shape \(4, 5\), expected \(n, 6\)"):
        convert.to_gated(source, rank=3, codes=torch.zeros(4, 5))
    with pytest.raises(ValueError, match="n >= 1"):
        convert.to_gated(source, rank=3, codes=torch.zeros(0, 6))
    with pytest.raises(ValueError, match="or codes= to keep what real ones need"):
        convert.to_gated(Direct(3, 2), rank=2)
    monkeypatch.setitem(sys.modules, "tensorly", None)
    with pytest.raises(ImportError, match=r"fastweights\[cp\]"):
        convert.to_gated(source, rank=3, method="cp")
