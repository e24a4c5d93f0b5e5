"""What the paper assumes, defines and takes from the literature, checked on examples: some of it fails.

Claims: Assumptions 1 and 2 hold for all smooth targets, the weights of best approximators are bounded; the width bound
of Lemma 19; which activations qualify; an embedding replaced within eps costs (l2 + 1) eps.
Command: `python -m experiments.galanti2020.statements`, ten seconds.
All three assumptions fail for members of W_(1,m), with short proofs beside the functions below; the numbers are their
certificates.
Measured (results/galanti2020_statements.json):
    Assumption 1: a ridge errs by .088 on a target whose symmetric approximators, constants, err by .167.
    Assumption 2: the best of 1, 2 and 4 ReLU or tanh neurons errs by 1.00 times what zero does; 21 ReLU by .14 times.
    bounded weights: error .06, 8e-4, 8e-6, 8e-8 with weights of .125, 1.25, 12.5, 125.
    Lemma 19: the linear selections tried err by the bound exactly; a class with one parameter errs by .012 where the
    width at N = 1 is .19, for its parameter jumps. Derivatives of clipped ReLU, sigmoid, tanh and arctan are integrable
    (2, 1, 2, pi), those of ReLU and ELU are not. Theorem 2's constant: up to .60 of (l2 + 1) eps is reached.
"""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import App
from scipy.optimize import linprog
from torch import Tensor, nn

from experiments import report
from experiments.galanti2020.interpolation import Waves
from fastweights import theory

RESULT = Path("results/galanti2020_statements.json")
app = App(help=__doc__, help_format="plaintext")


def network(weights: list[Tensor], biases: list[Tensor], x: Tensor) -> Tensor:
    """Eq. 1: `W^k s(W^(k-1) ... s(W^1 x + b^1) ... + b^(k-1))`, s = tanh, no bias at the end; (b, i) -> (b, j)."""
    for weight, bias in zip(weights[:-1], biases, strict=True):
        x = torch.tanh(x @ weight.mT + bias)
    return x @ weights[-1].mT


def unique_approximator() -> dict[str, float]:
    """Assumption 1 fails for `y = (2 - |x|^2) / 6` on [-1, 1]^2 and two tanh neurons, `sum_i w_i tanh(a_i x + b_i)`.

    Turning the square by 90 degrees or mirroring it leaves y as it is, so it turns a best approximator into a best
    approximator. If it is unique, it is invariant. Neurons are linearly independent up to sign; f(x) = f(-x) leaves
    `w (tanh(a x + b) + tanh(b - a x))` and constants, a quarter turn leaves constants, which err by 1/6 at least. The
    ridge returned here errs by less: so there are several best approximators, or none.
    """
    c, t = 1 / 6, torch.linspace(-1, 1, 4001, dtype=torch.float64)
    best = (math.inf, 0.0, 0.0, 0.0)
    for a, b in itertools.product(np.linspace(0.5, 2.5, 41), np.linspace(0.05, 2.5, 50)):
        shape = torch.tanh(a * t + b) + torch.tanh(b - a * t)
        w = 1.5 * c / (2 * math.tanh(b))
        # y - f at x_2 = 0 and 1, the extremes over x_2.
        gap = c * (2 - t**2) - w * shape
        best = min(best, (max(gap.max().item(), (c - gap).max().item()), w, float(a), float(b)))
    error, w, a, b = best
    between = (2 * c + 2 * w * a) * (t[1] - t[0]).item()  # slopes times the step of the grid
    corner = w * (math.tanh(a + b) + math.tanh(b - a))
    return {
        "error of the ridge": error + between,
        "error of a constant": c,
        "ridge and its turned copy differ by": 2 * w * math.tanh(b) - corner,
    }


def bounded_weights() -> list[dict[str, float]]:
    """Near-best weights grow without bound for `y = sech(2 x)^2 / 4` and two tanh neurons.

    y is no sum of two tanh neurons but a limit of some, `(tanh(2 x + h) - tanh(2 x - h)) / (8 h)`: the best error is
    zero and reached by none. So there is no best approximator, and no bound for all that are good enough.
    """
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    y = 1 / (4 * torch.cosh(2 * x) ** 2)
    rows = []
    for h in (1.0, 0.1, 0.01, 0.001):
        f = (torch.tanh(2 * x + h) - torch.tanh(2 * x - h)) / (8 * h)
        rows.append({"weight": 1 / (8 * h), "error": (f - y).abs().max().item()})
    return rows


def strictly_better(draws: int = 100) -> dict[str, Any]:
    """Assumption 2 fails for `y = A cos(10 pi x)`, A = 1 / (1 + 10 pi): the first neurons gain nothing at all.

    y takes A and -A in turn at 21 points. An f that errs by less than A has their signs, 20 changes. A network of one
    hidden layer of N ReLU neurons has at most N + 1 zeros between its flat parts, so up to N = 18 none does better than
    f = 0. (Sums of N tanh neurons are rational in exponentials and have fewer than 2^N zeros: N = 1 to 4.)
    Returned: the least sup error over A found with the best outer weights (a linear program) for drawn hidden neurons.
    """
    random = np.random.default_rng(0)
    turns, amplitude = 10, 1 / (1 + 10 * math.pi)
    x = np.linspace(-1, 1, 401)
    y = amplitude * np.cos(turns * np.pi * x)
    found = {}
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}
    for name, activation in kinds.items():
        for neurons in (1, 2, 4):
            errors = []
            for _ in range(draws):
                a, at = 30 * random.standard_normal(neurons), random.uniform(-1, 1, neurons)
                errors.append(least_error(activation(a * (x[:, None] - at)), y))
            found[f"{neurons} {name}"] = min(errors) / amplitude
    # Enough of them, with kinks where y turns: a zigzag.
    kinks = np.append(np.linspace(-1, 1, 2 * turns + 1)[:-1], -1.1)
    found["21 relu"] = least_error(np.maximum(x[:, None] - kinks, 0), y) / amplitude
    return found


def least_error(features: np.ndarray, y: np.ndarray) -> float:
    """`min over w of max |features w - y|`, by linear programming.

    Example
    -------
    >>> least_error(np.ones((2, 1)), np.array([0.0, 1.0]))
    0.5
    """
    n, k = features.shape
    above = np.concatenate([np.concatenate([features, -features]), -np.ones((2 * n, 1))], 1)
    bounds = [(None, None)] * k + [(0, None)]
    solved = linprog(np.eye(k + 1)[k], above, np.concatenate([y, -y]), bounds=bounds)
    return float(solved.fun)


def width() -> list[dict[str, float]]:
    """Lemma 19 for linear selection: among d^m bumps some signs are lost on N = d^m - 1 numbers, and all their height.

    Then y and -y are approximated by the same function, which errs by max |y| for one of them.
    """
    rows = []
    for m, d in ((1, 2), (1, 8), (2, 3), (3, 3)):
        torch.manual_seed(d)
        kept = torch.randn(d**m - 1, d**m, dtype=torch.float64)
        lost = torch.linalg.svd(kept).Vh[-1]
        lost = (lost / lost.abs().max()).reshape((d,) * m)
        y = theory.bumps(theory.lattice(d * 2, m), lost)  # middles of the cubes are among these points
        bound = theory.width_error(d**m - 1, m)
        rows.append({"m": m, "N": d**m - 1, "error": y.abs().max().item(), "bound": bound})
    return rows


def degree(errors: Tensor) -> Tensor:
    """`d(P; Y) = sup_y inf_p |y - p|` of errors (candidates, targets), both finitely many.

    Example
    -------
    >>> degree(torch.tensor([[0.1, 0.9], [0.8, 0.3]])).item()
    0.30000001192092896
    """
    return errors.min(0).values.max()


def one_parameter(k: int = 4, digits: int = 8) -> dict[str, float]:
    """A class with one parameter far below the width at N = 1, by reading k heights from the digits of one number.

    What it costs is continuity: neighbouring heights have distant parameters. So the width says nothing of classes
    whose parameters are chosen as one likes.
    """
    heights = 2 * torch.rand(200, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    theta = torch.arange(digits**k) / digits**k  # all values of the parameter that differ, in [0, 1)
    read = torch.stack([(theta * digits ** (place + 1)).floor() % digits for place in range(k)], 1)
    decoded = (2 * read + 1) / digits - 1
    # Bumps do not overlap: functions are as far apart as their heights, times the height of a bump.
    scale = theory.bumps(torch.tensor([[1 / k - 1]]), torch.ones(k)).item()
    errors = (decoded[:, None] - heights).abs().amax(-1) * scale
    return {"degree": degree(errors).item(), "width at N = 1": theory.width_error(1, 1)}


def permuted() -> dict[str, float]:
    """Two sets of weights of one network whose hidden units are in another order: the same function."""
    torch.manual_seed(0)
    w1, b1, w2 = (torch.randn(*shape, dtype=torch.float64) for shape in ((20, 3), (20,), (1, 20)))
    order, x = torch.randperm(20), torch.randn(1000, 3, dtype=torch.float64)
    other = network([w1[order], w2[:, order]], [b1[order]], x)
    apart = (w1 - w1[order]).square().sum() + (b1 - b1[order]).square().sum() + (w2 - w2[:, order]).square().sum()
    return {
        "weights apart": apart.sqrt().item(),
        "functions apart": (network([w1, w2], [b1], x) - other).abs().max().item(),
    }


def variation(activation: nn.Module, reach: float, count: int = 200_001) -> tuple[float, float]:
    """`(integral of |s'|, total variation of s')` on [-reach, reach], of an activation s.

    Example
    -------
    >>> [round(value, 2) for value in variation(nn.Hardtanh(), 20.0)]  # clipped ReLU: 2 and two jumps of 1
    [2.0, 2.0]
    """
    z = torch.linspace(-reach, reach, count, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activation(z).sum(), z)
    return (slope.abs().mean() * 2 * reach).item(), slope.diff().abs().sum().item()


class Arctan(nn.Module):
    """The inverse tangent."""

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        return torch.atan(z)


def activations() -> dict[str, dict[str, float]]:
    """Eq. 3 for the derivatives: integral and total variation, and the integral on a range ten times as wide."""
    kinds = (nn.Hardtanh(), nn.Sigmoid(), nn.Tanh(), Arctan(), nn.ReLU(), nn.ELU())
    found = {}
    for kind in kinds:
        integral, total = variation(kind, 100.0)
        wider = variation(kind, 1000.0)[0]
        found[type(kind).__name__] = {"integral": integral, "ten times wider": wider, "variation": total}
    return found


def replaced_embedding(seeds: int = 20) -> dict[str, float]:
    """Theorem 2's constant: q([x ; e]) errs by eps, e is off by eps; the sum stays below (l2 + 1) eps, l2 = C(q)."""
    worst = 0.0
    for seed in range(seeds):
        torch.manual_seed(seed)
        q = nn.Sequential(nn.Linear(5, 20), nn.Tanh(), nn.Linear(20, 1, bias=False)).double()
        x, embedding, noise = (torch.randn(500, n, dtype=torch.float64) for n in (2, 3, 3))
        eps = 0.01
        off = eps * noise / noise.abs().sum(1, keepdim=True)
        exact, replaced = (q(torch.cat([x, e], 1)).squeeze(1) for e in (embedding, embedding + off))
        y = exact + eps * (2 * torch.rand(500).double() - 1)
        bound = (theory.spectral_complexity(q) + 1) * eps
        worst = max(worst, ((replaced - y).abs().max() / bound).item())
    return {"largest error over (l2 + 1) eps": worst}


def slices(seeds: int = 10) -> dict[str, float]:
    """I -> y_I is continuous: on W_(1,m) its sup norm moves no faster than I does in the largest component."""
    worst = 0.0
    for seed in range(seeds):
        y, random = Waves(3, seed), torch.Generator().manual_seed(seed)
        x, one, other = (2 * torch.rand(500, n, generator=random, dtype=torch.float64) - 1 for n in (1, 2, 2))
        moved = (y(torch.cat([x, one], 1)) - y(torch.cat([x, other], 1))).abs() / (one - other).abs().max(1).values
        worst = max(worst, moved.max().item())
    return {"largest slope": worst}


CHECKS = {
    "Assumption 1": unique_approximator,
    "Assumption 2, least error over that of zero": strictly_better,
    "bounded weights": bounded_weights,
    "Lemma 19": width,
    "a class below the width": one_parameter,
    "permuted units": permuted,
    "derivatives of activations": activations,
    "Theorem 2, constant": replaced_embedding,
    "slices are continuous": slices,
}


@app.default
def main(*, result: Path = RESULT, smoke: bool = False) -> None:
    """Run all checks and print what they found."""
    found: dict[str, Any] = {}
    for name, check in CHECKS.items():
        found[name] = strictly_better(5) if smoke and check is strictly_better else check()
        print(f"{name}: {found[name]}")
    report.write(result, found)


if __name__ == "__main__":
    app()
