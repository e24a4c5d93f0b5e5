"""Galanti 2020, what is built and checked rather than trained: interpolating networks, and the paper's assumptions."""

import itertools
import json

import pytest
import torch
from torch import nn

from experiments.galanti2020 import interpolation, statements, theorems
from experiments.galanti2020.interpolation import Interpolator, Waves, hat, interpolate
from fastweights import theory


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_hat_is_a_relu_network(n):
    u = 1.5 * torch.randn(500, n)
    expected = torch.relu(1 + u.amin(1).clamp(max=0) - u.amax(1).clamp(min=0))
    torch.testing.assert_close(hat(n)(u).squeeze(1), expected)
    assert all(isinstance(module, nn.Linear | nn.ReLU) for module in hat(n))


@pytest.mark.parametrize(("n", "d"), [(1, 5), (2, 3), (3, 2)])
def test_interpolation_is_exact_for_linear_functions_and_within_a_step_for_the_class(n, d):
    x = 2 * torch.rand(400, n, dtype=torch.float64) - 1
    slope = torch.randn(n, dtype=torch.float64)
    net = interpolate(lambda x: x @ slope + 0.3, d, n)
    torch.testing.assert_close(net(x).squeeze(1), x @ slope + 0.3)
    written = len(theory.lattice(d, n)) * (sum(p.numel() for p in hat(n).parameters()) + 1)
    assert net.parameters_in_all == written
    for y in (Waves(n, 3), theorems.worst_target(d, n)):
        assert (interpolate(y, d, n)(theorems.points(d, n)).squeeze(1) - y(theorems.points(d, n))).abs().max() <= 2 / d


@pytest.mark.parametrize("r", [1, 2])
@pytest.mark.parametrize("n", [1, 2])
def test_waves_are_members_of_the_class(n, r):
    norms = [theory.smoothness_norm(Waves(n, seed, r=r), theory.lattice(400 // n**4, n), r) for seed in range(5)]
    assert 0.2 < max(norms) <= 1


def test_points_hold_the_middles_of_cells():
    x = theorems.points(3, 2, count=0)
    assert x.shape == (9, 2)
    assert sorted({round(value, 6) for value in x.flatten().tolist()}) == [-0.666667, 0, 0.666667]


def test_the_hypernetwork_of_theorem_4():
    y = Waves(2, 0)
    hyper = interpolation.hypernetwork(y, 4, 6, 1, 1)
    x, context = (2 * torch.rand(50, 1, dtype=torch.float64) - 1 for _ in range(2))
    for one, c in zip(x, context, strict=True):
        # f by hand: values on g's grid, interpolated in I.
        values = torch.stack(
            [
                interpolate(lambda i, v=v: y(torch.cat([v.expand(len(i), 1), i], 1)), 6, 1)(c[None])[0, 0]
                for v in theory.lattice(4, 1)
            ]
        )
        by_hand = Interpolator(4, 1, values[:, None])(one[None])
        torch.testing.assert_close(hyper(one[None], c[None]), by_hand)
    found = theorems.modular(1, 1, 1, (4, 8))
    for row in found["rows"]:
        assert row["error"] <= 3 * row["slices"]
        assert row["error"] <= 4 / row["d"]


def test_a_network_is_written_as_equation_1():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2, bias=False))
    x = torch.randn(7, 4)
    linears = [module for module in net if isinstance(module, nn.Linear)]
    ours = statements.network([one.weight for one in linears], [one.bias for one in linears[:-1]], x)
    torch.testing.assert_close(ours, net(x))


def test_assumption_1_fails_on_a_symmetric_target():
    found = statements.unique_approximator()
    assert found["error of the ridge"] < 0.6 * found["error of a constant"]
    assert found["ridge and its turned copy differ by"] > 0.1
    # The target is a member of the class, and unchanged by what turns the ridge.
    y = lambda x: (2 - x.square().sum(1)) / 6  # noqa: E731
    points = theory.lattice(100, 2)
    assert theory.smoothness_norm(y, points).item() == pytest.approx(1)
    torch.testing.assert_close(y(points), y(points[:, [1, 0]] * torch.tensor([1.0, -1.0])))


def test_assumption_2_fails_on_a_target_that_turns_often():
    found = statements.strictly_better(20)
    assert all(value == pytest.approx(1, abs=1e-6) for name, value in found.items() if name != "21 relu")
    assert found["21 relu"] < 0.2


def test_no_bound_on_weights():
    rows = statements.bounded_weights()
    for one, other in itertools.pairwise(rows):
        assert other["weight"] == pytest.approx(10 * one["weight"])
        assert other["error"] < one["error"] / 50
    y = lambda x: 1 / (4 * torch.cosh(2 * x[:, 0]) ** 2)  # noqa: E731
    assert theory.smoothness_norm(y, theory.lattice(1000, 1)) <= 1


def test_width_bound():
    assert all(row["error"] == pytest.approx(row["bound"]) for row in statements.width())
    # Bounds from both sides: interpolation chooses its (d + 1)^n values continuously.
    for n, d in ((1, 8), (2, 4)):
        assert theory.width_error((d + 1) ** n, n) < 2 / d
    found = statements.one_parameter()
    assert found["degree"] < 0.1 * found["width at N = 1"]


def test_degree_by_hand():
    # Rows are candidates: the first is best for one target, the second for the other two.
    assert statements.degree(torch.tensor([[1.0, 5.0, 9.0], [3.0, 4.0, 2.0]])) == 4


def test_permuted_units_give_the_same_function():
    found = statements.permuted()
    assert found["weights apart"] > 1
    assert found["functions apart"] < 1e-12


def test_which_activations_qualify():
    found = statements.activations()
    for name, row in found.items():
        assert row["variation"] < 3
        grows = row["ten times wider"] > 2 * row["integral"]
        assert grows == (name in ("ReLU", "ELU"))


def test_total_variation_needs_the_derivative():
    """Eq. 3: the supremum of the integral of f phi' is f's variation; of f phi, as printed, its integral."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    step, slope = (z[1] - z[0]).item(), 1 / torch.cosh(z) ** 2  # tanh'
    # The best phi with |phi| <= 1 and compact support: minus the sign of f', or 1.
    phi = -torch.sign(slope.diff(prepend=slope[:1]))
    ours = (slope * phi.diff(append=phi[-1:] * 0)).sum().item()
    integral, variation = statements.variation(nn.Tanh(), 8.0)
    assert ours == pytest.approx(variation, abs=1e-2) == pytest.approx(2, abs=1e-2)
    assert (slope * step).sum().item() == pytest.approx(integral, abs=1e-3)


def test_bounds_of_proofs():
    assert 0.1 < statements.replaced_embedding()["largest error over (l2 + 1) eps"] <= 1
    assert 0.1 < statements.slices()["largest slope"] <= 1


def test_commands(tmp_path):
    statements.main(result=tmp_path / "s.json", smoke=True)
    assert json.loads((tmp_path / "s.json").read_text()).keys() >= set(statements.CHECKS)
    theorems.main(result=tmp_path / "t.json", smoke=True)
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["universal, n = 1, r = 2"]["fit"]["exponent"] < 0.6
    assert found["several outputs"]["parameters"] < found["several outputs"]["outputs"]
    five = found["Theorem 5, m1 = 1, m2 = 1, r = 2"]["rows"][-1]
    assert five["trainable"] < five["plain"] / 5
    assert five["error"] < 1.5 * five["error of plain"]
