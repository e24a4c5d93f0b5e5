"""The factorization machine: Eq. 2 by loops = sums over vectors = sums over ids; cost linear in rank and features."""

import oracles
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fastweights import zoo
from fastweights.zoo.factorization_machine import field_offsets


def machine(n_i=7, n_j=3, rank=4, **options):
    made = zoo.FactorizationMachine(n_i, n_j, rank, **options).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def eq2(made, x):
    return torch.stack([oracles.factorization_machine(made.bias, made.weight, made.v, row) for row in x])


def same_values_and_gradients(made, got, expected, inputs=()):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    cotangent, wanted = torch.randn_like(expected), [*made.parameters(), *inputs]
    gradients = [torch.autograd.grad(y, wanted, cotangent, retain_graph=True) for y in (got, expected)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n_i", "n_j", "rank"), [(2, 1, 1), (2, 3, 1), (7, 3, 4), (5, 1, 9)])
def test_sums_are_eq_2(n_i, n_j, rank):
    made, x = machine(n_i, n_j, rank), torch.randn(6, n_i, dtype=torch.float64, requires_grad=True)
    same_values_and_gradients(made, made(x), eq2(made, x), [x])


def test_leading_axes():
    made, x = machine(), torch.randn(2, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(made(x), eq2(made, x.flatten(0, 1)).view(2, 3, 3))
    torch.testing.assert_close(made(x[0, 0]), made(x)[0, 0])


def test_signs_and_squares_by_loops():
    signs = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]], dtype=torch.float64)
    made, x = machine(5, 2, 3, signs=signs, self_interactions=True), torch.randn(4, 5, dtype=torch.float64)
    # A machine with signs is the machine of its positive columns less the machine of its negative ones.
    rows = []
    for row in x:
        y = oracles.factorization_machine(made.bias, made.weight, made.v * (signs > 0)[:, None], row)
        none = torch.zeros_like(made.bias), torch.zeros_like(made.weight)
        y = y - oracles.factorization_machine(*none, made.v * (signs < 0)[:, None], row)
        rows.append(y + torch.stack([sum(made.squares[j, i] * row[i] ** 2 for i in range(5)) for j in range(2)]))
    same_values_and_gradients(made, made(x), torch.stack(rows))


@pytest.mark.parametrize("options", [{}, {"self_interactions": True, "signs": torch.tensor([[1.0, -1.0]] * 3)}])
def test_ids_are_the_vector_that_they_list(options):
    made = machine(7, 3, 2, **options)
    ids = torch.tensor([[0, 6, 3], [5, 1, 2]])
    values = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    x = torch.zeros(2, 7, dtype=torch.float64).scatter(1, ids, values)
    same_values_and_gradients(made, made.forward_ids(ids, values=values), made(x), [values])
    ones = torch.zeros(2, 7, dtype=torch.float64).scatter(1, ids, 1.0)
    same_values_and_gradients(made, made.forward_ids(ids), made(ones))


def test_bags_of_unequal_size():
    made = machine()
    bags = [[4], [], [6, 0, 2, 1], [5, 3]]
    values = torch.randn(7, dtype=torch.float64)
    x, place = torch.zeros(4, 7, dtype=torch.float64), 0
    for b, bag in enumerate(bags):
        for i in bag:
            x[b, i], place = values[place], place + 1
    flat, offsets = torch.tensor([i for bag in bags for i in bag]), torch.tensor([0, 1, 1, 5])
    same_values_and_gradients(made, made.forward_ids(flat, offsets, values), made(x))


def test_fields_are_numbered_through():
    assert field_offsets([3, 1, 4]) == [0, 3, 4]
    made = machine(8, 1, 2)
    categories = torch.tensor([[2, 0, 3], [0, 0, 1]])
    x = torch.cat([torch.nn.functional.one_hot(c, n) for c, n in zip(categories.T, (3, 1, 4), strict=True)], 1).double()
    torch.testing.assert_close(made.forward_ids(categories + torch.tensor(field_offsets([3, 1, 4]))), made(x))


def test_matrix_factorization_by_loops():
    made = zoo.MatrixFactorization(3, 4, 2).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    entries = [
        made.bias + made.row_bias[a] + made.column_bias[b] + sum(made.p[a, r] * made.q[b, r] for r in range(2))
        for a in range(3)
        for b in range(4)
    ]
    expected = torch.stack(entries).view(3, 4)
    torch.testing.assert_close(made.matrix(), expected)
    rows, columns = torch.tensor([2, 0, 2]), torch.tensor([1, 3, 0])
    torch.testing.assert_close(made(rows, columns), expected[rows, columns])


def test_cost_is_linear_in_features_and_in_rank():
    """Two products of r i multiply-adds and one of i, an output; the sum over pairs would take r i (i - 1) / 2."""

    def multiply_adds(n_i, n_j, rank):
        made, x = zoo.FactorizationMachine(n_i, n_j, rank), torch.randn(1, n_i)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made(x)
        return counter.get_total_flops() // 2

    for n_i, n_j, rank in [(100, 1, 8), (200, 1, 8), (100, 1, 16), (100, 3, 8)]:
        assert multiply_adds(n_i, n_j, rank) == n_j * (2 * rank * n_i + n_i)


def test_starts_as_libfm_does():
    made = zoo.FactorizationMachine(1000, 1, 8)
    assert made.bias.abs().sum() == made.weight.abs().sum() == 0
    assert made.v.std().item() == pytest.approx(0.1, rel=0.05)


def test_mistakes_are_named():
    made = machine()
    with pytest.raises(ValueError, match=r"x has shape \(2, 6\), expected 7 numbers.*forward_ids"):
        made(torch.zeros(2, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"signs have shape \(4, 3\), expected \(3, 4\)"):
        zoo.FactorizationMachine(7, 3, 4, signs=torch.ones(4, 3))
    flat, pairs = torch.tensor([0, 1]), torch.tensor([[0, 1]])
    for arguments in [(flat,), (pairs, torch.tensor([0]))]:
        with pytest.raises(ValueError, match="expected ids"):
            made.forward_ids(*arguments)
