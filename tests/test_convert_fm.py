"""Theorem 3.3 in float64: machine to hypernetwork and back, what happens to the rank, and every refusal."""

import itertools

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastweights import convert, convert_fm, zoo
from fastweights.structures import Gated, Mixture

small = st.integers(1, 5)
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def random(module):
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def binary(n):
    """All vectors of n zeros and ones."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)


def real(n):
    return torch.randn(9, n, dtype=torch.float64)


def negative_ones(n):
    """u = -1/2 (all ones), of rank 1: no machine of rank below n - 1 computes this layer."""
    layer = zoo.LinearHypernetwork(n, 1, rank=1).double()
    with torch.no_grad():
        layer.structure.v.copy_(torch.cat([-0.5 * torch.ones(1, n), torch.zeros(1, n)]))
        layer.predictor.weight.fill_(1.0)
    return layer


@given(n_i=small, n_j=small, rank=small)
def test_a_machine_is_a_linear_hypernetwork(n_i, n_j, rank):
    machine = random(zoo.FactorizationMachine(n_i, n_j, rank))
    exact = convert_fm.to_linear_hypernetwork(machine)
    x = real(n_i)
    torch.testing.assert_close(exact(x), machine(x), **CLOSE)
    # Theorem 3.3: on binary inputs at the same rank.
    same_rank = convert_fm.to_linear_hypernetwork(machine, binary=True)
    assert same_rank.rank == rank
    x = binary(n_i)
    torch.testing.assert_close(same_rank(x), machine(x), **CLOSE)
    weights = machine.bias, machine.weight, machine.v
    torch.testing.assert_close(
        same_rank(x), torch.stack([oracles.factorization_machine(*weights, v) for v in x]), **CLOSE
    )


@given(n_i=small, n_j=small, rank=small)
def test_eq_14(n_i, n_j, rank):
    """The machine as a layer whose weight sums over k > i only; that triangle has no longer the machine's rank."""
    machine = random(zoo.FactorizationMachine(n_i, n_j, rank))
    layer = zoo.LinearHypernetwork(n_i, n_j).double()
    with torch.no_grad():
        triangle = torch.triu(machine.v @ machine.v.mT, 1)
        layer.structure.templates.copy_(triangle.permute(2, 0, 1))
        layer.structure.base.copy_(machine.weight)
        layer.predictor.bias.copy_(machine.bias)
    x = real(n_i)
    torch.testing.assert_close(layer(x), machine(x), **CLOSE)
    assert (torch.linalg.matrix_rank(layer.interactions) == n_i - 1).all()


def test_equality_at_the_same_rank_needs_binary_inputs():
    machine = random(zoo.FactorizationMachine(4, 2, 3))
    x = real(4)
    assert (convert_fm.to_linear_hypernetwork(machine, binary=True)(x) - machine(x)).abs().max() > 0.1


@given(n_i=small, n_j=small, rank=st.one_of(st.none(), small), signed=st.booleans())
def test_a_linear_hypernetwork_is_a_machine(n_i, n_j, rank, signed):
    layer = random(zoo.LinearHypernetwork(n_i, n_j, rank))
    x = binary(n_i)
    machine = convert_fm.to_factorization_machine(layer, binary=True, signed=signed)
    assert machine.squares is None
    torch.testing.assert_close(machine(x), layer(x), **CLOSE)
    assert machine.rank <= max(1, n_i - 1)
    if signed and rank is not None:
        assert machine.rank <= 2 * rank
    # Sec. 3.2: on other inputs a machine with self-interactions.
    machine, x = convert_fm.to_factorization_machine(layer, signed=signed), real(n_i)
    torch.testing.assert_close(machine(x), layer(x), **CLOSE)
    u = layer.interactions.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(machine.squares, u, **CLOSE)


@given(n_i=small, n_j=small, rank=small)
def test_there_and_back_keeps_the_rank(n_i, n_j, rank):
    machine = random(zoo.FactorizationMachine(n_i, n_j, rank))
    back = convert_fm.to_factorization_machine(convert_fm.to_linear_hypernetwork(machine, binary=True), binary=True)
    assert back.rank <= rank
    x = binary(n_i)
    torch.testing.assert_close(back(x), machine(x), **CLOSE)


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_the_rank_is_not_preserved(n):
    """The counterexample to Theorem 3.3 at equal rank: u of rank 1, machine of rank n - 1.

    With d the diagonal of V V^T, V V^T = diag(d + 1) - 1 1^T: positive diagonal less rank 1, so rank n - 1 at least.
    """
    layer = negative_ones(n)
    assert torch.linalg.matrix_rank(layer.interactions[0]) == 1
    machine = convert_fm.to_factorization_machine(layer, binary=True)
    assert machine.rank == n - 1
    x = binary(n)
    torch.testing.assert_close(machine(x), layer(x), **CLOSE)
    assert convert_fm.to_factorization_machine(layer, binary=True, signed=True).rank == 1


@pytest.mark.parametrize(("n", "reached"), [(4, 3), (5, 4)])
def test_no_search_finds_the_counterexample_at_a_lower_rank(n, reached):
    off = ~torch.eye(n, dtype=torch.bool)

    def best(rank):
        """Smallest squared residual of the off-diagonal of V V^T from -1, over twelve starts side by side."""
        v = torch.randn(12, n, rank, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [v], max_iter=300, tolerance_grad=1e-14, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def residuals():
            return ((v @ v.mT + 1)[:, off]).square().sum(1)

        def closure():
            optimiser.zero_grad()
            loss = residuals().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        return residuals().min().item()

    assert best(reached) < 1e-12
    assert best(reached - 1) > 0.05


@given(n_i=small, n_k=small, n_j=small, signed=st.booleans())
def test_a_multiplicative_interaction_is_a_machine_of_both_inputs(n_i, n_k, n_j, signed):
    layer = random(zoo.MultiplicativeInteraction(n_i, n_j, n_k))
    machine = convert_fm.to_factorization_machine(layer, signed=signed)
    assert machine.squares is None
    assert machine.rank <= (2 * min(n_i, n_k) if signed else n_i + n_k - 1)
    x, z = real(n_i), real(n_k)
    torch.testing.assert_close(machine(torch.cat([x, z], 1)), layer(x, z), **CLOSE)


@given(n_i=small, n_j=small, rank=small)
def test_a_machine_and_a_linear_hypernetwork_are_multiplicative_interactions(n_i, n_j, rank):
    machine, x, z = random(zoo.FactorizationMachine(n_i, n_j, rank)), real(n_i), real(n_i)
    torch.testing.assert_close(convert_fm.to_multiplicative_interaction(machine)(x), machine(x), **CLOSE)
    for layer in (random(zoo.LinearHypernetwork(n_i, n_j, rank)), random(zoo.LinearHypernetwork(n_i, n_j))):
        interaction = convert_fm.to_multiplicative_interaction(layer)
        torch.testing.assert_close(interaction(x, z), layer(x, z), **CLOSE)
        torch.testing.assert_close(convert_fm.to_linear_hypernetwork(interaction)(x), layer(x), **CLOSE)


def test_a_multiplicative_interaction_of_one_vector_is_a_linear_hypernetwork():
    layer, x = random(zoo.MultiplicativeInteraction(4, 3)), real(4)
    torch.testing.assert_close(convert_fm.to_linear_hypernetwork(layer)(x), layer(x), **CLOSE)
    with pytest.raises(ValueError, match="x has 4 numbers and the context 2"):
        convert_fm.to_linear_hypernetwork(zoo.MultiplicativeInteraction(4, 3, 2))


def test_from_a_machine_to_gates():
    """Machine -> multiplicative interaction -> mixture -> gates, each step exact."""
    machine, x = random(zoo.FactorizationMachine(5, 2, 3)), real(5)
    interaction = convert_fm.to_multiplicative_interaction(machine)
    assert isinstance(interaction.structure, Mixture)
    gated = convert.layer(interaction)
    assert isinstance(gated.structure, Gated)
    torch.testing.assert_close(gated(x), machine(x), **CLOSE)
    low_rank = convert_fm.to_linear_hypernetwork(machine, binary=True)
    assert isinstance(low_rank.structure, Gated)
    assert low_rank.structure.code_features == 2 * (3 + 1)


@pytest.mark.parametrize("options", [{}, {"signs": torch.tensor([[1.0, -1.0, -1.0]])}, {"self_interactions": True}])
def test_a_machine_on_one_hot_pairs_is_a_matrix_factorization(options):
    rows, columns = 3, 4
    machine = random(zoo.FactorizationMachine(rows + columns, 1, 3, **options))
    factorization = convert_fm.to_matrix_factorization(machine, rows)
    row, column = (ids.flatten() for ids in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    one_hot = [nn.functional.one_hot(row, rows), nn.functional.one_hot(column, columns)]
    x, z = (part.double() for part in one_hot)
    pair = torch.cat([x, z], 1)
    torch.testing.assert_close(factorization(row, column), machine(pair)[:, 0], **CLOSE)
    torch.testing.assert_close(factorization.matrix().flatten(), machine(pair)[:, 0], **CLOSE)
    assert torch.linalg.matrix_rank(factorization.p @ factorization.q.T) == 3
    torch.testing.assert_close(convert_fm.to_factorization_machine(factorization)(pair), machine(pair), **CLOSE)
    torch.testing.assert_close(convert_fm.to_linear_hypernetwork(factorization)(pair), machine(pair), **CLOSE)
    torch.testing.assert_close(convert_fm.to_multiplicative_interaction(factorization)(x, z), machine(pair), **CLOSE)


def test_only_one_hot_pairs_make_a_matrix_factorization():
    """Two users at once interact in the machine, and no matrix has an entry for them."""
    machine = random(zoo.FactorizationMachine(5, 1, 2))
    factorization = convert_fm.to_matrix_factorization(machine, 2)
    x = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    linear = convert_fm.to_factorization_machine(factorization)
    assert (linear(x) - machine(x)).abs() < 1e-12  # the pair of rows is kept by V
    both = factorization(torch.tensor([0]), torch.tensor([0])) + factorization(torch.tensor([1]), torch.tensor([0]))
    entry = both - factorization.bias - factorization.column_bias[0]
    assert (machine(x) - entry).item() == pytest.approx((machine.v[0, 0] @ machine.v[0, 1]).item())


def test_dtype_is_kept_and_results_are_independent():
    machine = zoo.FactorizationMachine(4, 2, 3)
    for target in (convert_fm.to_linear_hypernetwork(machine), convert_fm.to_multiplicative_interaction(machine)):
        assert {p.dtype for p in target.parameters()} == {torch.float32}
        y = target(torch.ones(1, 4)).detach()
        with torch.no_grad():
            machine.bias.add_(1)
        assert torch.equal(target(torch.ones(1, 4)), y)


@pytest.mark.parametrize(
    "function",
    [
        convert_fm.to_linear_hypernetwork,
        convert_fm.to_factorization_machine,
        convert_fm.to_multiplicative_interaction,
        lambda source: convert_fm.to_matrix_factorization(source, 2),
    ],
)
@pytest.mark.parametrize("source", [zoo.HyperLinear(3, 2), zoo.GatedDoubleLayer(3, 2), nn.Linear(3, 2)])
def test_refusals_say_why(function, source):
    with pytest.raises(TypeError, match=r"no construction from .* is known.*not linear"):
        function(source)


def test_a_matrix_needs_one_output_and_both_sides():
    with pytest.raises(ValueError, match="one output"):
        convert_fm.to_matrix_factorization(zoo.FactorizationMachine(5, 2), 2)
    with pytest.raises(ValueError, match="rows between 1 and 4"):
        convert_fm.to_matrix_factorization(zoo.FactorizationMachine(5), 5)
