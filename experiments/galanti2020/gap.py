"""Theorems 2 to 4 measured: how large must g be, and how large q, for the same error on the hardest targets?

Claim: for targets of smoothness r = 1 a hypernetwork's primary needs eps^(-m1) weights (Theorem 4), the embedding
method's eps^(-(m1 + m2)) with an embedding of constant size (Theorem 2), eps^(-min(m, 2 m1)) with any (Theorem 3).
Command: `python -m experiments.galanti2020.gap`, resumed by calling it again.
The targets that make the bounds: bumps with random signs on a grid of d^m cells of [-1, 1]^m, whose height and thus eps
fall as 1 / d, all within W_(1,m). m1 = 1, m2 = 1 and 2. Wanted is a sup error of 3/4 of a height on a grid of
points, by one hidden layer of tanh units (which the theorems allow) with the fewest parameters, biases included. g is
fitted to single slices, the ones through the middles of cells, which is what a hypernetwork with an unlimited f can do;
q is fitted with a free table of 4 numbers for each I of the grid, which is more than any e can do. All widths and
targets train at once, by Adam on a sum of the second and the eighth power; the best of the restarts counts. Sizes are
the smallest found, so they bound the least ones from above; the exponent is the slope of log N over log(1 / eps), N for
the hardest of the targets, with its standard error.
Measured (results/galanti2020_gap.json, docs/images/galanti2020_gap.png: `--d 2 3 4 5 6 8 --seeds 10`, half an hour of
one processor), parameters for the easiest and the hardest of 10 targets:

    m2 = 1, d (eps)  2 (.091)  3 (.060)  4 (.045)  5 (.036)  6 (.030)  8 (.023)  exponent of the hardest (theorem)
    g                3, 3      3, 9      3, 9      9, 12     9, 24     18, 36    1.7 +- .2 (1)
    q                14, 28    28, 84    56, 168   112, 224  224, 336  448, 672  2.2 +- .1 (2)
    m2 = 2, d        2         3         4
    g                3, 3      3, 9      9, 12                                   2.0 +- .5 (1)
    q                14, 56    84, 168   -

On the hardest target q has to be nine to nineteen times as large as g, and grows faster, by half a power of eps where
the theorems have one; g grows faster than its theorem says, for it is trained. For m2 = 2 q has too few sizes.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import report
from experiments.galanti2020 import sweep
from experiments.galanti2020.theorems import fit
from fastweights import theory

RESULT, FIGURE = Path("results/galanti2020_gap.json"), Path("docs/images/galanti2020_gap.png")
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
EMBEDDING, SHARE, RATE = 4, 0.75, 0.05
app = sweep.app(__doc__)


class Fits:
    """Many networks `sum_h v_h tanh(a_h x + c_h . z_I + b_h)` at once, of several widths, on the same points.

    Args:
        targets: (T, X, I): values at X points x and I contexts; every width is fitted to every target.
        widths: of the networks. restarts: of each. steepness: of the hidden units at the start.
        size: numbers of the embedding z_I, a free table; 0 for a network of x alone (I = 1).
    """

    def __init__(self, targets: Tensor, widths: tuple[int, ...], restarts: int, steepness: float, size: int):
        self.shape = (len(targets), len(widths), restarts)
        fits, units = math.prod(self.shape), max(widths)
        self.target = targets.repeat_interleave(len(widths) * restarts, 0)
        self.x = torch.linspace(-1, 1, targets.shape[1])
        column = torch.tensor(widths).repeat_interleave(restarts).repeat(len(targets))
        self.mask = (torch.arange(units) < column.unsqueeze(1)).float()
        self.a = steepness * torch.randn(fits, units)
        self.c = steepness * torch.randn(fits, units, size) / max(size, 1) ** 0.5
        self.z = 2 * torch.rand(fits, size, targets.shape[2]) - 1
        places = 2 * torch.rand(fits, units, 1 + size) - 1
        self.b = -self.a * places[..., 0] - (self.c * places[..., 1:]).sum(-1)
        self.v = torch.randn(fits, units) / column.unsqueeze(1) ** 0.5
        self.parameters = [self.a, self.b, self.c, self.v, self.z] if size else [self.a, self.b, self.v]

    def __call__(self) -> Tensor:
        """(fits, X, I)."""
        of_context = self.b.unsqueeze(-1) + self.c @ self.z if self.c.shape[-1] else self.b.unsqueeze(-1)
        hidden = torch.tanh((self.a.unsqueeze(-1) * self.x).unsqueeze(-1) + of_context.unsqueeze(2))  # (F, H, X, I)
        return ((self.v * self.mask).unsqueeze(1) @ hidden.flatten(2)).view(len(self.v), *hidden.shape[2:])

    def train(self, steps: int, rate: float) -> Tensor:
        """(targets, widths): the smallest sup error over the restarts, at any step of the last tenth."""
        for parameter in self.parameters:
            parameter.requires_grad_()
        optimiser = torch.optim.Adam(self.parameters, rate)
        best = torch.full((len(self.v),), math.inf)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            off = self() - self.target
            optimiser.zero_grad()
            loss = off.square().mean((1, 2))
            if step >= steps / 2:
                loss = loss + off.pow(8).mean((1, 2))
            loss.sum().backward()
            optimiser.step()
            if step >= 0.9 * steps:
                best = torch.minimum(best, off.detach().abs().amax((1, 2)))
        return best.view(self.shape).amin(-1)


def target(d: int, m2: int, seed: int, points: int) -> Tensor:
    """(X, I) a random target of height 1, signs of d x d^m2 bumps, on grids of d `points` + 1 a direction."""
    heights = torch.randint(0, 2, (d,) * (1 + m2), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    x, contexts = (theory.lattice(d * points, m) for m in (1, m2))
    pairs = torch.cat([x.repeat_interleave(len(contexts), 0), contexts.repeat(len(x), 1)], 1)
    values = theory.bumps(pairs, heights.double())
    return (values / values.abs().max()).float().view(len(x), -1)


def measure(d: int, m2: int, method: str, seeds: int, steps: int) -> dict[str, Any]:
    """Smallest size with an error of at most 3/4 of the height, for each target."""
    points = 6 if m2 == 1 else 4
    targets = torch.stack([target(d, m2, seed, points) for seed in range(seeds)])
    torch.manual_seed(0)
    if method == "g":
        # Contexts in the middles of cells: every slice is d bumps of full height; the hardest slice counts.
        middle = targets.abs().amax(1) > 0.999
        slices = torch.cat([one[:, chosen].T for one, chosen in zip(targets, middle, strict=True)]).unsqueeze(-1)
        per_target = int(middle[0].sum())
        widths = tuple(width for width in WIDTHS if width <= 4 * d)
        errors = Fits(slices, widths, 3, 3.0 * d, 0).train(steps, RATE)
        errors = errors.view(seeds, per_target, -1).amax(1)
        a_unit = 3
    else:
        widths = tuple(width for width in WIDTHS if d <= width <= 3 * d ** (1 + m2))
        errors = torch.cat([Fits(one[None], widths, 2, 3.0 * d, EMBEDDING).train(steps, RATE) for one in targets])
        a_unit = 3 + EMBEDDING
    smallest = [next((w for w, e in zip(widths, row, strict=True) if e <= SHARE), None) for row in errors.tolist()]
    eps = SHARE * theory.width_error(d ** (1 + m2) - 1, 1 + m2)
    return {
        "method": method,
        "m2": m2,
        "d": d,
        "eps": eps,
        "seeds": seeds,
        "steps": steps,
        "parameters": [None if width is None else a_unit * width for width in smallest],
        "errors by width": {str(w): round(e, 4) for w, e in zip(widths, errors.mean(0).tolist(), strict=True)},
    }


def exponents(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Slopes of log N over log(1 / eps), N for the hardest target, by method and m2, beside the theorems'."""
    found = {}
    for method, m2 in sorted({(row["method"], row["m2"]) for row in rows}):
        chosen = [row for row in rows if (row["method"], row["m2"]) == (method, m2) and None not in row["parameters"]]
        pairs = [(max(row["parameters"]), row["eps"]) for row in chosen]
        if len({eps for _, eps in pairs}) < 3:  # two points have a slope and no error
            continue
        theorems = {"Theorem 4": theory.theorem4(1).exponent}
        if method == "q":
            theorems = {"Theorem 2": theory.theorem2(1, m2).exponent, "Theorem 3": theory.theorem3(1, m2).exponent}
        found[f"{method}, m2 = {m2}"] = fit(*([float(one[n]) for one in pairs] for n in (0, 1))) | theorems
    return found


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Sizes over 1 / eps, one panel for each m2."""
    mpl.use("Agg")
    figure = Figure((8, 3.6), dpi=100, layout="constrained")
    slopes = exponents(rows)
    for axes, m2 in zip(figure.subplots(1, 2), (1, 2), strict=True):
        chosen = [row for row in rows if row["m2"] == m2]
        for method, colour, shift in (("g", "tab:blue", 0.99), ("q", "tab:red", 1.01)):
            found = slopes.get(f"{method}, m2 = {m2}")
            said = f", hardest: N ~ eps^-({found['exponent']:.1f} +- {found['standard error']:.1f})" if found else ""
            sizes = [
                (shift / row["eps"], n) for row in chosen if row["method"] == method for n in row["parameters"] if n
            ]
            if sizes:
                axes.plot(*zip(*sizes, strict=True), "o", color=colour, alpha=0.5, label=method + said)
        axes.set(xscale="log", yscale="log", xlabel="1 / eps", title=f"m1 = 1, m2 = {m2}", ylabel="parameters N")
        if chosen:
            ticks = sorted({1 / row["eps"] for row in chosen})
            axes.set_xticks(ticks, [f"{tick:.1f}" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.margins(0.15, 0.3)
            axes.legend(fontsize=8)
    return figure


@app.default
def main(
    *,
    d: tuple[int, ...] = (2, 3, 4),
    m2: tuple[int, ...] = (1, 2),
    seeds: int = 4,
    steps: int = 1500,
    result: Path = RESULT,
    figure: Path = FIGURE,
    smoke: bool = False,
) -> None:
    """Measure what the result file does not hold, print exponents and draw.

    Args:
        d: cells a direction; for m2 = 2 those up to 4.
        m2: numbers of I.
        seeds: targets of each kind.
        steps: of Adam.
        result: the JSON file.
        figure: the picture.
        smoke: a tiny problem, for a test.
    """
    torch.set_num_threads(1)
    if smoke:
        d, seeds, steps = (1, 2), 2, 60
    rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"] if result.exists() else []
    for sizes, cells, method in itertools.product(m2, d, ("g", "q")):
        key = {"method": method, "m2": sizes, "d": cells, "seeds": seeds, "steps": steps}
        if (sizes == 2 and cells > 4) or any(key.items() <= row.items() for row in rows):
            continue
        rows.append(measure(cells, sizes, method, seeds, steps))
        report.write(result, {"exponents": exponents(rows), "rows": rows})
        print(f"{method} m2 {sizes} d {cells}: {rows[-1]['parameters']} {rows[-1]['errors by width']}", flush=True)
    print(exponents(rows))
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw(rows).savefig(figure)


if __name__ == "__main__":
    app()
