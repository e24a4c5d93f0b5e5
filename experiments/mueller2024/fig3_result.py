"""The result file, the printed table and the picture of Fig. 3, from the cells that have run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

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
    "G, Adagrad, five times longer": "longer-adagrad-G",
    "best G with affine gates, no features": "floor-B16",
    "G, Adam well kept": "learned-G",
    "G, Adam well kept, twice the gates": "learned-G-2.0",
    "G, Adam well kept, half the gates": "learned-G-0.5",
    "G, Adam well kept, a quarter of the gates": "learned-G-0.25",
    "G, H's features given": "frozen-1.0",
    "G by construction (Theorem 3.1)": "construction-B16",
    "M, Adagrad": "grid-B16-M-1.0",
    "M, Adagrad, five times longer": "longer-adagrad-M",
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


def draw(rows: Rows, path: Path) -> None:
    """(a) error against scale; (b) curves at scale 1 with what closes the gap."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    grid = [cell for name, cell in rows.items() if name.startswith("grid-")]
    tasks = sorted({(cell["reading"], cell["dim"]) for cell in grid})
    for reading, dim in tasks:
        name = f"{reading}{dim}"
        for network, style in (("G", "o-"), ("M", "s--")):
            cells = [c for c in grid if (c["reading"], c["dim"], c["network"]) == (reading, dim, network)]
            cells.sort(key=lambda cell: cell["scale"])
            means = [cell["error"] for cell in cells]
            left.errorbar(
                [cell["scale"] for cell in cells],
                [m["mean"] for m in means],
                [m["standard deviation"] for m in means],
                fmt=style,
                color=COLOURS.get(name, "black"),
                markersize=4,
                linewidth=1,
                label=f"{network}, reading {reading}, dim {dim}",
            )
    left.set(xscale="log", xlabel="scale: gates / predicted weights", ylabel="relative error", ylim=(0, None))
    left.set_xticks([0.125, 0.25, 0.5, 1, 2, 4], ["1/8", "1/4", "1/2", "1", "2", "4"])
    left.minorticks_off()
    vectors = sorted({f"{cell['training']['samples']:,}" for cell in grid})
    left.set_title(f"(a) Adagrad, {' or '.join(vectors)} vectors", fontsize=10)
    curves = {
        "grid-B16-G-1.0": ("G, Adagrad, as in (a)", "o-", "tab:red"),
        "grid-B16-M-1.0": ("M, Adagrad, as in (a)", "s--", "tab:red"),
        "longer-adagrad-G": ("G, Adagrad, five times longer", "-", "tab:orange"),
        "longer-adagrad-M": ("M, Adagrad, five times longer", "--", "tab:orange"),
        "learned-G": ("G, well-kept Adam", "-", "tab:green"),
        "learned-M": ("M, well-kept Adam", "--", "tab:green"),
        "frozen-1.0": ("G with H's features given", ":", "tab:purple"),
    }
    for name, (label, style, colour) in curves.items():
        if name in rows:
            curve, seen = rows[name]["test curve"], rows[name]["training"]["samples"] / 1000
            x = [seen * (epoch + 1) / len(curve) for epoch in range(len(curve))]
            right.plot(x, curve, style, color=colour, label=label, markersize=3)
    if "floor-B16" in rows:
        right.axhline(rows["floor-B16"]["error"]["mean"], color="gray", linewidth=1, label="best affine gates")
    right.set(yscale="log", xlabel="training vectors, thousands", ylabel="relative error")
    right.set_title("(b) scale 1, reading B, dim 16", fontsize=10)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=6.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
