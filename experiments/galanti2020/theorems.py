"""The upper bounds of Galanti and Wolf, built: universal networks, Theorem 4's hypernetwork, Theorem 5's count.

Claims: networks of O(eps^(-n/r)) parameters reach error eps on all of W_(r,n) (Definition 1); a hypernetwork with a
primary of O(eps^(-m1/r)) does so for targets of m1 + m2 inputs (Theorem 4), with an error of at most 3 or 4 times that
of its primary on single slices; for targets sum_i P_i(I) u_i(x) its trainable parameters are
O(eps^(-m2/r) + eps^(-m1/r)), where a plain network takes eps^(-(m1+m2)/r) (Theorem 5).
Command: `python -m experiments.galanti2020.theorems`, 20 seconds.
Built with interpolation.py, for r = 1 and 2, with ReLU, whose derivative the theorems exclude: nothing is trained, and
no assumption is used. Errors are the largest over random targets and the worst one for the grid at hand (r = 1), on
random points and the middles of the grid's cells. Exponents are slopes of log N over log(1 / eps), with the standard
error of the fit, from d = 4 on. On such grids (d + 1)^n grows slower than d^n, and curvature rules the error where
the grid is coarse, so exponents lie below the theorems' for r = 1; all statements are upper bounds.
Measured (results/galanti2020_theorems.json), exponents, the theorem's in brackets:
    universal: n = 1, 2: r = 1 .93 +- .01 (1), 1.60 +- .13 (2); r = 2 .51 +- .01 (.5), .99 +- .00 (1); no error of r = 1
        above the proved 2 / d. n = 3, d up to 8: 1.64 (3 and 1.5).
    Theorem 4, N_g: m1 = m2 = 1: r = 1 .91 +- .02 (1), r = 2 .47 +- .01 (.5); (2, 1) 1.17 +- .04 (1); (1, 2)
        .46 +- .02 (.5). The hypernetwork errs by at most 1.26 times what g does on single slices (3 or 4 in the paper).
    Theorem 5, r = 2, trainable parameters beside a plain network's: m1 = m2 = 1 .54 +- .04 (.5) beside 1.09 +- .09 (1),
        759 beside 93,654 parameters at 1.2e-5; (1, 2) 1.27 +- .03 (1) beside 1.72 +- .08 (1.5).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cyclopts import App
from torch import Tensor, nn

from experiments import report
from experiments.galanti2020.interpolation import Function, Interpolator, Waves, hypernetwork, interpolate
from fastweights import HyperNetwork, theory

RESULT, FROM = Path("results/galanti2020_theorems.json"), 4
app = App(help=__doc__, help_format="plaintext")


def points(d: int, n: int, count: int = 1000) -> Tensor:
    """Random points of [-1, 1]^n and the middles of the grid's cells, where interpolation errs most."""
    random = torch.Generator().manual_seed(0)
    drawn = 2 * torch.rand(count, n, generator=random, dtype=torch.float64) - 1
    middles = theory.lattice(2 * d, n)
    odd = ((middles + 1) * d).round().long() % 2 == 1
    return torch.cat([drawn, middles[odd.all(1)]])


def worst_target(d: int, n: int) -> Function:
    """A member of W_(1,n) that vanishes on the grid: a bump in every cell."""
    heights = torch.ones((d,) * n, dtype=torch.float64)
    return lambda x: theory.bumps(x, heights)


def fit(sizes: list[float], errors: list[float]) -> dict[str, float]:
    """Slope of log N over log(1 / eps) and its standard error.

    Example
    -------
    >>> fit([10.0, 100.0, 1000.0], [1.0, 0.1, 0.01])["exponent"]
    1.0
    """
    x, y = -torch.tensor(errors).double().log(), torch.tensor(sizes).double().log()
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y / (x @ x)).item()
    left = (y - slope * x).square().sum().item() / max(len(x) - 2, 1)
    return {"exponent": round(slope, 4), "standard error": round(math.sqrt(left / (x @ x).item()), 4)}


def universal(n: int, r: int, steps: tuple[int, ...]) -> dict[str, Any]:
    """Definition 1 for ReLU: size and worst error of interpolating networks."""
    rows = []
    for d in steps:
        targets: list[Function] = [Waves(n, seed, r=r) for seed in range(5)]
        targets += [worst_target(d, n)] if r == 1 else []
        x, errors, size = points(d, n), [], 0
        for y in targets:
            net = interpolate(y, d, n)
            size = net.parameters_in_all
            with torch.no_grad():
                errors.append((net(x).squeeze(1) - y(x)).abs().max().item())
        rows.append({"d": d, "parameters": size, "error": max(errors), "bound": 2 / d if r == 1 else None})
    return {"rows": rows, "fit": _fitted(rows, "parameters"), "theorem": n / r}


def modular(m1: int, m2: int, r: int, steps: tuple[int, ...]) -> dict[str, Any]:
    """Theorem 4: g's size, its error on single slices, and that of the hypernetwork."""
    rows = []
    for d in steps:
        targets: list[Function] = [Waves(m1 + m2, seed, r=r) for seed in range(3)]
        targets += [worst_target(d, m1 + m2)] if r == 1 else []
        x, alone, together = points(d, m1 + m2, 300), [], []
        of_x, context = x[:, :m1], x[:, m1:]
        for y in targets:
            with torch.no_grad():
                hyper = hypernetwork(y, d, 2 * d, m1, m2)
                together.append((hyper(of_x, context).squeeze(1) - y(x)).abs().max().item())
                # The selector itself in place of f: g fitted to every slice.
                exact = torch.cat([_slice(y, d, m1, c)(of_x[i : i + 1]) for i, c in enumerate(context)])
                alone.append((exact.squeeze(1) - y(x)).abs().max().item())
        size = interpolate(lambda x: x[:, 0], d, m1).parameters_in_all
        ratio = max(b / a for a, b in zip(alone, together, strict=True))
        rows.append(
            {"d": d, "parameters of g": size, "error": max(together), "slices": max(alone), "largest ratio": ratio}
        )
    return {"rows": rows, "fit": _fitted(rows, "parameters of g"), "theorem": theory.theorem4(m1, r).exponent}


def _slice(y: Function, d: int, m1: int, context: Tensor) -> Callable[[Tensor], Tensor]:
    return interpolate(lambda x: y(torch.cat([x, context.expand(len(x), -1)], 1)), d, m1)


def structured(m1: int, m2: int, steps: tuple[int, ...], features: int = 2) -> dict[str, Any]:
    """Theorem 5, r = 2: trainable parameters of f, beside those of one network on x and I together."""
    us, ps = ([Waves(m, 10 * m + seed, r=2) for seed in range(features)] for m in (m1, m2))

    def y(x: Tensor) -> Tensor:
        # The norm of u(x) p(I) is the product of theirs.
        products = [u(x[:, :m1]) * p(x[:, m1:]) for u, p in zip(us, ps, strict=True)]
        return torch.stack(products).mean(0)

    rows = []
    for d in steps:
        x = points(d, m1 + m2)
        # W: what each feature adds to the values on the grid of g. f: the features, interpolated.
        columns = torch.stack([u(theory.lattice(d, m1)) for u in us], 1) / features
        of_context = interpolate(lambda c: torch.stack([p(c) for p in ps], 1), d, m2)
        g = Interpolator(d, m1, torch.zeros(len(columns), 1, dtype=torch.float64))
        w = nn.Linear(features, len(columns), bias=False, dtype=torch.float64)
        whole = interpolate(y, d, m1 + m2)
        with torch.no_grad():
            w.weight.copy_(columns)
            hyper = HyperNetwork(g, nn.Sequential(of_context, w), "last.weight", head=None)
            error = (hyper(x[:, :m1], x[:, m1:]).squeeze(1) - y(x)).abs().max().item()
            plain = (whole(x).squeeze(1) - y(x)).abs().max().item()
        trainable = of_context.parameters_in_all + columns.numel()
        sizes = {"trainable": trainable, "error": error, "plain": whole.parameters_in_all}
        rows.append({"d": d, **sizes, "error of plain": plain})
    kept = [row for row in rows if row["d"] >= FROM] or rows
    return {
        "rows": rows,
        "fit": _fitted(rows, "trainable"),
        "theorem": theory.theorem5(m1, m2, r=2).exponent,
        "fit of plain": fit([row["plain"] for row in kept], [row["error of plain"] for row in kept]),
        "theorem of plain": theory.theorem1(m1 + m2, r=2).exponent,
    }


def outputs(count: int = 3, d: int = 8) -> dict[str, float]:
    """Several outputs cost at most as many times the parameters, at the same error."""
    ys, x = [Waves(2, seed) for seed in range(count)], points(d, 2)
    together, alone = interpolate(lambda x: torch.stack([y(x) for y in ys], 1), d, 2), interpolate(ys[0], d, 2)
    with torch.no_grad():
        error = max((together(x)[:, k] - ys[k](x)).abs().max().item() for k in range(count))
    return {"outputs": count, "error": error, "parameters": together.parameters_in_all / alone.parameters_in_all}


def _fitted(rows: list[dict[str, Any]], size: str) -> dict[str, float]:
    kept = [row for row in rows if row["d"] >= FROM] or rows
    return fit([row[size] for row in kept], [row["error"] for row in kept])


@app.default
def main(*, result: Path = RESULT, smoke: bool = False) -> None:
    """Build everything and print exponents beside the theorems'."""
    line, plane, space = ((4, 8, 16), (4, 8), (4, 6)) if smoke else ((4, 8, 16, 32, 64), (4, 8, 16, 32), (4, 6, 8))
    found: dict[str, Any] = {
        f"universal, n = {n}, r = {r}": universal(n, r, steps)
        for n, steps in ((1, line), (2, plane), (3, space))
        for r in (1, 2)
    }
    for m1, m2, r, steps in ((1, 1, 1, plane), (1, 1, 2, plane), (2, 1, 2, space), (1, 2, 2, space)):
        found[f"Theorem 4, m1 = {m1}, m2 = {m2}, r = {r}"] = modular(m1, m2, r, steps)
    for m1, m2, steps in ((1, 1, plane), (1, 2, space)):
        found[f"Theorem 5, m1 = {m1}, m2 = {m2}, r = 2"] = structured(m1, m2, steps)
    found["several outputs"] = outputs()
    for name, value in found.items():
        shown = {key: other for key, other in value.items() if key != "rows"}
        print(f"{name}: {shown}" + (f", last row {value['rows'][-1]}" if "rows" in value else ""))
    report.write(result, found)


if __name__ == "__main__":
    app()
