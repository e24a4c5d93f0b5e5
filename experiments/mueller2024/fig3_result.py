"""The result file, the printed table and the picture of Fig. 3, from the cells that have run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from experiments.mueller2024.emulation import INPUTS

Rows = dict[str, dict[str, Any]]  # by the names of cells
COLOURS = {"A8": "tab:blue", "A16": "tab:cyan", "A32": "navy", "B8": "tab:orange", "B16": "tab:red", "B32": "tab:brown"}


def mean_and_spread(errors: list[float]) -> dict[str, float | int]:
    """Over seeds; the spread is the sample standard deviation."""
    spread = statistics.stdev(errors) if len(errors) > 1 else 0.0
    return {"mean": statistics.mean(errors), "standard deviation": spread, "seeds": len(errors)}


def row(cell: dict[str, Any]) -> dict[str, Any]:
    """What the result file keeps of a cell: `error` is the relative error over seeds, curves are means over seeds."""
    kept = {key: value for key, value in cell.items() if key not in ("train", "test", "final")}
    kept["error"] = mean_and_spread(cell["final"]) | {"each": cell["final"]}
    for curve in ("train", "test"):
        if curve in cell:
            kept[f"{curve} curve"] = [statistics.mean(epoch) for epoch in cell[curve]]
    if "train" in cell:
        # The last epoch's training error was met before its last steps, so it lies above the test error.
        kept["test over train, last epoch"] = kept["test curve"][-1] / kept["train curve"][-1]
    return kept


def content(rows: Rows) -> dict[str, Any]:
    """The result file."""
    meaning = "mean squared error / mean square of H's output, new vectors"
    return {"relative error": meaning, "account, scale 1, reading B, dim 16": account(rows), "cells": rows}


ACCOUNT = {
    "G, Adagrad": "grid-B16-G-1.0",
    "G, Adagrad, 500,000 vectors": "longer-adagrad-G",
    "G, Adagrad, 5,000,000 vectors": "paper-B16-G-1.0",
    "best G with affine gates, no features": "floor-B16",
    "G, Adam well kept": "learned-G",
    "G, Adam well kept, twice the gates": "learned-G-2.0",
    "G, Adam well kept, half the gates": "learned-G-0.5",
    "G, Adam well kept, a quarter of the gates": "learned-G-0.25",
    "G, H's features given": "frozen-1.0",
    "G by construction (Theorem 3.1)": "construction-B16",
    "M, Adagrad": "grid-B16-M-1.0",
    "M, Adagrad, 500,000 vectors": "longer-adagrad-M",
    "M, Adagrad, 5,000,000 vectors": "paper-B16-M-1.0",
    "M, Adam well kept": "learned-M",
}


def account(rows: Rows) -> dict[str, float]:
    """Where the error at scale 1 comes from, reading B, dim 16: mean relative error, a step a line."""
    return {line: rows[name]["error"]["mean"] for line, name in ACCOUNT.items() if name in rows}


def table(rows: Rows) -> Iterator[str]:
    """A line a cell."""
    for name, row in rows.items():
        error, extra = row["error"], ""
        if "smallest exact" in row:
            extra = f"  {row['smallest exact']} gates, generic {row['generic rank']}, weights {row['weights']}"
        if "best rate" in row:
            extra = f"  best rate {row['best rate']}"
        yield f"{name:28} {error['mean']:9.3g} +- {error['standard deviation']:.1g} ({error['seeds']} seeds){extra}"


CLOSING = {
    "grid-B16-G-1.0": ("G, Adagrad, as in (a)", "o-", "tab:red"),
    "grid-B16-M-1.0": ("M, Adagrad, as in (a)", "s--", "tab:red"),
    "longer-adagrad-G": ("G, Adagrad, five times longer", "-", "tab:orange"),
    "longer-adagrad-M": ("M, Adagrad, five times longer", "--", "tab:orange"),
    "learned-G": ("G, well-kept Adam", "-", "tab:green"),
    "learned-M": ("M, well-kept Adam", "--", "tab:green"),
    "frozen-1.0": ("G with H's features given", ":", "tab:purple"),
}


def draw(rows: Rows, path: Path) -> None:
    """(a) error against scale; (b) curves at scale 1; what closes the gap there; the fewest gates that are exact."""
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7.4), layout="constrained")
    _grid(axes[0, 0], axes[0, 1], [cell for name, cell in rows.items() if name.startswith("grid-")])
    _closing(axes[1, 0], rows)
    _ranks(axes[1, 1], [cell for name, cell in rows.items() if name.startswith("rank-")])
    for ax in axes.flat:
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=6.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _grid(left: Any, right: Any, grid: list[dict[str, Any]]) -> None:
    for reading, dim in sorted({(cell["reading"], cell["dim"]) for cell in grid}):
        colour = COLOURS.get(f"{reading}{dim}", "black")
        for network, style in (("G", "o-"), ("M", "s--")):
            cells = [c for c in grid if (c["reading"], c["dim"], c["network"]) == (reading, dim, network)]
            cells.sort(key=lambda cell: cell["scale"])
            means = [cell["error"] for cell in cells]
            shown: dict[str, Any] = {"color": colour, "markersize": 4, "linewidth": 1}
            label = f"{network}, H of {dim} x {INPUTS if reading == 'A' else dim} weights"
            spread = [m["standard deviation"] for m in means]
            scales = [cell["scale"] for cell in cells]
            left.errorbar(scales, [m["mean"] for m in means], spread, fmt=style, label=label, **shown)
            for cell in cells:
                if cell["scale"] == 1:
                    right.plot(*_curve(cell), style, label=label, **shown)
    left.set(xscale="log", xlabel="scale: gates / predicted weights", ylabel="relative error", ylim=(0, None))
    left.set_xticks([0.125, 0.25, 0.5, 1, 2, 4], ["1/8", "1/4", "1/2", "1", "2", "4"])
    left.minorticks_off()
    vectors = sorted({f"{cell['training']['samples']:,}" for cell in grid})
    left.set_title(f"(a) Adagrad, {' or '.join(vectors)} vectors", fontsize=10)
    right.set(xlabel="training vectors, thousands", ylabel="relative error", ylim=(0, None))
    right.set_title("(b) the same along the training, scale 1", fontsize=10)


def _closing(ax: Any, rows: Rows) -> None:
    for name, (label, style, colour) in CLOSING.items():
        if name in rows:
            ax.plot(*_curve(rows[name]), style, color=colour, label=label, markersize=3)
    if "floor-B16" in rows:
        ax.axhline(rows["floor-B16"]["error"]["mean"], color="gray", linewidth=1, label="best affine gates")
    ax.set(yscale="log", xlabel="training vectors, thousands", ylabel="relative error")
    ax.set_title("what closes the gap: scale 1, H of 16 x 16 weights", fontsize=10)


def _ranks(ax: Any, cells: list[dict[str, Any]]) -> None:
    cells = sorted(cells, key=lambda cell: cell["weights"])
    weights = [cell["weights"] for cell in cells]
    ax.plot(weights, weights, ":", color="gray", label="Theorem 3.1: a gate a weight")
    ax.plot(weights, [cell["generic rank"] for cell in cells], "-", color="tab:blue", linewidth=1, label="generic rank")
    found = [cell["smallest exact"] for cell in cells]
    ax.plot(weights, found, "o", color="tab:orange", markersize=5, label="found, residual below 1e-6")
    ax.set(xscale="log", yscale="log", xlabel="predicted weights of a small H", ylabel="fewest gates that are exact")
    ax.set_xticks(weights, [str(number) for number in weights])
    ax.set_yticks(found, [str(number) for number in found])
    ax.minorticks_off()
    ax.set_title("rank: behind a linear head fewer gates are exact", fontsize=10)


def _curve(cell: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Thousands of vectors, and the mean error on new vectors."""
    curve, seen = cell["test curve"], cell["training"]["samples"] / 1000
    return [seen * (epoch + 1) / len(curve) for epoch in range(len(curve))], curve
