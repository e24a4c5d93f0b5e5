"""The calculators of Galanti and Wolf 2020 against networks that are built and measured."""

import itertools
import math

import pytest
import torch
from torch import nn

from fastweights import HyperNetwork, theory
from fastweights.zoo.siren import siren


def network(widths, activation, bias=True):
    """Eq. 1: the last layer has no bias."""
    layers = []
    for number, (i, j) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Linear(i, j, bias=bias and number < len(widths) - 2), activation()]
    return nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU])
@pytest.mark.parametrize("widths", [(10, 1), (10, 10, 1), (20, 50, 3), (7, 20, 30, 2), (5, 9, 9, 9, 1)])
def test_spectral_complexity_bounds_every_slope(widths, activation):
    net = network(widths, activation)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    bound = theory.spectral_complexity(net)
    x = torch.randn(500, widths[0], dtype=torch.float64, requires_grad=True)
    # The induced l1 norm of the Jacobian is the largest slope near a point.
    jacobian = torch.stack([torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in net(x).unbind(1)], 1)
    slopes = jacobian.abs().sum(1).max(-1).values
    assert 0 < slopes.max() <= bound * (1 + 1e-12)
    if len(widths) == 2:
        assert slopes.max() == pytest.approx(bound)  # one layer: the bound is the slope
    other = torch.randn(500, widths[0], dtype=torch.float64)
    assert ((net(x) - net(other)).abs().sum(1) <= bound * (x - other).abs().sum(1)).all()


def test_spectral_complexity_by_hand():
    net = network((2, 2, 1), nn.Tanh)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        net[2].weight.copy_(torch.tensor([[2.0, -5.0]]))
    assert theory.spectral_complexity(net) == 4 * 5  # columns 4 and 2.5; 2 and 5
    assert theory.spectral_complexity(nn.Sequential(net[0], nn.Sigmoid(), net[2])) == 5
    assert theory.spectral_complexity(nn.Sequential(net[0], net[2])) == 20  # no activation between
    with pytest.raises(TypeError, match="no Lipschitz constant known for ELU"):
        theory.spectral_complexity(nn.Sequential(net[0], nn.ELU(2.0), net[2]))


def counted(*widths):
    return sum(p.numel() for p in network(widths, nn.ReLU, bias=False).parameters())


@pytest.mark.parametrize("k", range(2, 10))
def test_layers_sweep_has_the_printed_sizes(k):
    sizes = theory.synthetic_layers(k)
    assert sizes.g == counted(1000, 10, 1) == 10**4 + 10
    assert sizes.q == 10**4 + 10 * 10**4 + 10 == counted(11_000, 10, 1)
    assert sizes.f == 10**5 + 10**4 * (k - 2) + 100 * sizes.g
    assert sizes.e == 10**5 + 10**4 * (k - 2) + 10**6 == counted(1000, *[100] * (k - 1), 10_000)


@pytest.mark.parametrize("i", range(1, 9))
def test_embedding_sweep_and_its_misprints(i):
    sizes = theory.synthetic_embedding(i)
    assert sizes.g == 1010
    assert sizes.e == 2 * 10**4 + 10**5 * i
    assert sizes.q == counted(100 + 1000 * i, 10, 1) == 10**4 * i + 1010
    assert sizes.q != 10**4 * (i + 1) + 10  # as printed
    assert sizes.f == counted(100, 100, 100 * i, 1010) == 10**4 + 10**4 * i + 101_000 * i
    assert sizes.f - (10**4 + 10**4 * i + 10**5 * i) == 1000 * i  # printed 10^5 i, exactly 1.01 10^5 i


@pytest.mark.parametrize(("d", "g"), [(784, 7960), (3072, 30_840)])
def test_rotation_sizes_and_their_misprints(d, g):
    sizes = theory.rotation(d, layers=4, width=100)
    assert sizes.g == counted(d, 10, 12) == g == 10 * d + 120
    assert sizes.q == 10 * (11 * d + 10) + 120 == counted(11 * d + 10, 10, 12)
    printed_g, printed_q = 10 * d + 10, 10 * (11 * d + 10) + 10  # one output instead of twelve
    assert (sizes.g - printed_g, sizes.q - printed_q) == (110, 110)
    assert printed_q == 11 * printed_g
    assert sizes.f == 100 * d + 10**4 * 2 + 100 * sizes.g


def test_colorization_sizes():
    sizes = theory.colorization(5)
    assert (sizes.g, sizes.q) == (450, 4950)
    assert sizes.f == sizes.e == 102_400 + 3 * 10**4 + 45_000


def test_sizes_are_those_of_the_modules():
    g = network((100, 10, 1), nn.ReLU, bias=False)
    f = network((100, 100, 200, 1010), nn.ReLU, bias=False)
    hyper = HyperNetwork(g, f, head=None)
    sizes = theory.synthetic_embedding(2)
    assert sum(p.numel() for p in hyper.parameters()) == sizes.f
    assert sum(math.prod(shape) for shape in hyper.shapes.values()) == sizes.g


def test_theorem1_constant_follows_from_the_bump():
    """The bump of the width bound, built: norm 1 + m pi / 2, copies in cubes of side 2 / d of norm at most one."""
    for m in (1, 2, 3):
        points = torch.rand(20_000, m, dtype=torch.float64, requires_grad=True)
        bump = (torch.pi * points / 2).cos().square().prod(1)
        (gradient,) = torch.autograd.grad(bump.sum(), points)
        norm = bump.max() + gradient.abs().max(0).values.sum()
        assert 0.8 * (1 + m * math.pi / 2) < norm <= 1 + m * math.pi / 2
    bound = theory.theorem1(m=3)
    eps = 1e-3
    n = bound.value(eps)
    assert 5 * eps == pytest.approx(1 / ((1 + 1.5 * math.pi) * (n + 1) ** (1 / 3)))
    assert theory.theorem1(m=4, r=2).constant is None
    # Slack q, and the width bound that it follows from: (5 + 2 q) eps = the width at N.
    n = theory.theorem1(m=3, slack=0.5).value(eps)
    assert 6 * eps == pytest.approx(1 / ((1 + 1.5 * math.pi) * (n + 1) ** (1 / 3)))
    with pytest.raises(ValueError, match="pass bump_norm"):
        theory.width_error(10, m=2, r=2)
    assert theory.theorem1(m=4, r=2, bump_norm=10.0).value(eps) == pytest.approx((1 / (50 * eps)) ** 2 - 1)
    with pytest.raises(ValueError, match="Theorem 3 fixes the exponent 4 only, no constant is known"):
        theory.theorem3(2, 3).value(0.1)


def test_a_linear_head_is_a_bottleneck():
    """`f(I) = base + W P(I)`: the weights of all contexts lie in as few dimensions as P has features."""
    g = network((20, 10, 1), nn.Tanh).float()
    hyper = HyperNetwork(g, nn.Sequential(nn.Linear(5, 6), nn.Tanh()))
    context = torch.randn(300, 5)
    predicted = torch.cat([weight.flatten(1) for weight in hyper.weights(context).values()], 1).double()
    assert predicted.shape[1] == 220
    assert torch.linalg.matrix_rank(predicted - predicted.mean(0), rtol=1e-5) == 6
    w = torch.cat([structure.templates.flatten(1) for structure in hyper.head.structures], 1).T.double()
    base = torch.cat([structure.base.flatten() for structure in hyper.head.structures]).double()
    features = hyper.predictor(context).double()
    torch.testing.assert_close(predicted, base + features @ w.T, rtol=1e-5, atol=1e-6)
    # |W P - W P'|_1 <= |W|_1 |P - P'|_1, the induced norm: the largest column sum.
    moved = (predicted - predicted.flip(0)).abs().sum(1)
    bound = w.abs().sum(0).max() * (features - features.flip(0)).abs().sum(1)
    assert (moved <= bound * (1 + 1e-4)).all()


def test_exponents_say_who_is_modular():
    m1, m2 = 2, 5
    assert theory.theorem4(m1).exponent == theory.theorem1(m1).exponent == 2  # g is as small as for one slice
    assert theory.theorem2(m1, m2).exponent == theory.theorem1(m1 + m2).exponent == 7
    assert theory.theorem3(m1, m2).exponent == 4
    assert theory.theorem3(5, 2).exponent == 7
    assert theory.theorem5(m1, m2, r=2).exponent == 2.5


def test_broken_assumptions_are_named():
    tanh = network((2, 5, 1), nn.Tanh, bias=False).float()
    assert theory.theorem1(2, network=tanh).fails == ()
    for bound in (theory.theorem2(2, 3, q=tanh, e=tanh), theory.theorem4(2, g=tanh), theory.theorem5(2, 3, g=tanh)):
        assert bound.fails == ()  # and no warning, which pytest would turn into an error
    with pytest.warns(theory.AssumptionWarning, match="Theorem 1 does not apply: the derivative of ELU is not"):
        bound = theory.theorem1(2, network=network((2, 5, 1), nn.ELU))
    assert bound.fails == ("the derivative of ELU is not integrable",)
    sigmoid = network((2, 5, 1), nn.Sigmoid, bias=False).float()
    assert theory.theorem1(2, network=sigmoid).fails == ()  # sigma(0) = 0 is asked for from Theorem 2 on
    relu = network((3, 5, 4), nn.ReLU).float()
    pooled = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1))
    not_integrable = "the derivative of ReLU is not integrable"
    for theorem, arguments, expected in (
        (theory.theorem2, {"m1": 2, "m2": 3, "q": sigmoid}, ("Sigmoid(0) is not 0 in q",)),
        (theory.theorem2, {"m1": 2, "m2": 3, "e": relu}, (not_integrable, "e is not C^1", "e has biases")),
        (theory.theorem3, {"m1": 2, "m2": 3, "r": 2, "q": tanh}, ("r = 2; shown for r = 1 only",)),
        (theory.theorem4, {"m1": 2, "g": sigmoid, "f": relu}, ("Sigmoid(0) is not 0 in g",)),
        (theory.theorem4, {"m1": 2, "g": relu, "f": relu}, (not_integrable,)),
        (theory.theorem4, {"m1": 2, "f": tanh}, ("f has Tanh, not ReLU",)),
        (theory.theorem1, {"m": 2, "network": nn.PReLU()}, ("the derivative of PReLU is not integrable",)),
        (theory.theorem1, {"m": 2, "network": siren(2, 1)}, ("Sine is no activation known here",)),
        (theory.theorem4, {"m1": 2, "g": pooled}, ("MaxPool2d is no activation known here",)),
        (theory.theorem5, {"m1": 2, "m2": 3, "g": relu}, (not_integrable,)),
    ):
        message = expected[0].replace("(", "\\(").replace(")", "\\)")
        with pytest.warns(theory.AssumptionWarning, match=message):
            bound = theorem(**arguments)
        assert bound.fails == expected
        assert f"FAILS: {expected[-1]}" in str(bound)


def test_mistakes():
    with pytest.raises(ValueError, match=r"Theorem 1: eps is 0\.0, expected a positive error"):
        theory.theorem1(2).value(0.0)


def test_smoothness_norm_by_hand():
    points = theory.lattice(200, 2)

    def wave(x):
        return torch.sin(3 * x[:, 0]) * x[:, 1]

    # 1; 3 cos(3 x) y, sin(3 x); 9 sin(3 x) y, 3 cos(3 x), 0.
    assert theory.smoothness_norm(wave, points, 1).item() == pytest.approx(1 + 3 + 1, rel=1e-3)
    assert theory.smoothness_norm(wave, points, 2).item() == pytest.approx(5 + 9 + 3, rel=1e-3)
    assert theory.smoothness_norm(lambda x: x[:, 0].detach() * 0 + 4, points, 2) == 4


@pytest.mark.parametrize(("m", "d"), [(1, 1), (1, 7), (2, 3), (3, 2)])
def test_bumps_are_members_of_the_class(m, d):
    torch.manual_seed(m + d)
    heights = 2 * torch.rand((d,) * m, dtype=torch.float64) - 1
    heights[(0,) * m] = 1
    points = theory.lattice({1: 2000, 2: 120, 3: 24}[m], m)
    norm = (1 / d + m * math.pi / 2) / (1 + m * math.pi / 2)  # derivatives are the bump's, the height is 1 / d
    assert 0.8 * norm < theory.smoothness_norm(lambda x: theory.bumps(x, heights), points).item() <= norm + 1e-9
    # Lemma 19: with N = d^m - 1 numbers chosen linearly, some signs are lost and the error is a bump's whole height.
    chosen = torch.linalg.qr(torch.randn(d**m, d**m, dtype=torch.float64)).Q[:, : d**m - 1]  # what is kept of heights
    (lost,) = torch.linalg.svd(chosen.T if d**m > 1 else torch.zeros(1, 1).double()).Vh[-1:].unbind()
    lost = (lost / lost.abs().max()).reshape((d,) * m)
    assert (chosen.T @ lost.flatten()).abs().max() < 1e-12 if d**m > 1 else True
    centres = (torch.stack(torch.meshgrid(*[torch.arange(d)] * m, indexing="ij"), -1).reshape(-1, m) + 0.5) * 2 / d - 1
    error = theory.bumps(centres.double(), lost).abs().max().item()
    assert error == pytest.approx(theory.width_error(d**m - 1, m))


@pytest.mark.parametrize(("activation", "lipschitz"), [(nn.Tanh, 1.0), (nn.ReLU, 1.0), (nn.Sigmoid, 0.25)])
def test_theorem5_recursion_bounds_the_error(activation, lipschitz):
    worst = 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        eps, norm, widths = 0.1, 1.5, (4, 6, 5, 3)
        net = network(widths, activation)
        off = network(widths, activation)
        with torch.no_grad():
            for one, other in zip(net.parameters(), off.parameters(), strict=True):
                dims = 0 if one.ndim > 1 else None
                one *= norm / one.abs().sum(dims).max()
                change = torch.randn_like(one)
                change *= (norm if one.ndim > 1 else 1) * eps / change.abs().sum(dims).max()
                other.copy_(one + change)
        x = 2 * torch.rand(300, 4, dtype=torch.float64) - 1
        error = (net(x) - off(x)).abs().sum(1).max().item()
        bound = theory.weight_error(layers=3, inputs=4, lipschitz=lipschitz, norm=norm, eps=eps)
        assert 0 < error <= bound
        worst = max(worst, error / bound)
    assert worst > 1e-3  # not so loose that nothing could break it


@pytest.mark.parametrize(("activation", "m"), [(nn.Tanh(), 2), (nn.Sigmoid(), 2), (nn.ReLU(), 1)])
def test_lemma1_another_neuron_lowers_the_error_strictly(activation, m):
    points = 2 * torch.rand(400, m, dtype=torch.float64) - 1
    target = (3 * points[:, 0]).sin() * points[:, -1]
    features, errors = torch.zeros(400, 0, dtype=torch.float64), []
    for _ in range(5):
        # The best outer weights for the neurons so far, then one more.
        solved = torch.linalg.lstsq(features, target).solution if features.shape[1] else torch.zeros(0).double()
        residual = target - features @ solved
        errors.append(residual.square().sum().item())
        a, b, c = theory.add_neuron(points, residual, activation)
        neuron = activation(points @ a + b)
        assert (residual - c * neuron).square().sum() < errors[-1]
        assert c == pytest.approx((residual @ neuron / (neuron @ neuron)).item())  # the best coefficient
        features = torch.cat([features, neuron[:, None]], 1)
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
