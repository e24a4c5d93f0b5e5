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
COLOURS = {"A8": "tab:blue", "A16": "tab:cyan", "A32": "navy", "A64": "tab:olive", "B8": "tab:orange", "B16": "tab:red"}


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
    "G, Adagrad, 500,000 vectors": "longer-adagrad-G",
    "G, Adagrad, 1,000,000 vectors": "grid-B16-G-1.0",
    "G, Adagrad, 5,000,000 vectors": "paper-B16-G-1.0",
    "best G with affine gates, no features": "floor-B16",
    "G, Adam well kept": "learned-G",
    "G, Adam well kept, twice the gates": "learned-G-2.0",
    "G, Adam well kept, half the gates": "learned-G-0.5",
    "G, Adam well kept, a quarter of the gates": "learned-G-0.25",
    "G, H's features given": "frozen-1.0",
    "G by construction (Theorem 3.1)": "construction-B16",
    "M, Adagrad, 500,000 vectors": "longer-adagrad-M",
    "M, Adagrad, 1,000,000 vectors": "grid-B16-M-1.0",
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
    "paper-B16-G-1.0": ("G, Adagrad", "-", "tab:red"),
    "paper-B16-M-1.0": ("M, Adagrad", "--", "tab:red"),
    "longer-adagrad-G": ("G, Adagrad, 500,000 vectors", "-", "tab:orange"),
    "longer-adagrad-M": ("M, Adagrad, 500,000 vectors", "--", "tab:orange"),
    "learned-G": ("G, well-kept Adam", "-", "tab:green"),
    "learned-M": ("M, well-kept Adam", "--", "tab:green"),
    "frozen-1.0": ("G, Adam, H's features given", ":", "tab:purple"),
}
LEARNED = {0.25: "learned-G-0.25", 0.5: "learned-G-0.5", 1: "learned-G", 2: "learned-G-2.0"}


def draw(rows: Rows, path: Path) -> None:
    """(a) error against scale, a panel a reading; (b) curves at scale 1; what closes the gap there; ranks."""
    figure, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    grid = [cell for name, cell in rows.items() if name.startswith("grid-")]
    for ax, reading, acts in ((axes[0, 0], "A", "all"), (axes[0, 1], "B", "the first numbers")):
        part = [cell for cell in grid if cell["reading"] == reading]
        _grid(ax, part)
        ax.set_title(f"(a) H acts on {acts} of x; Adagrad, {_vectors(part)} vectors", fontsize=10)
    _curves(axes[0, 2], [cell for cell in grid if cell["scale"] == 1])
    _closing(axes[1, 0], rows)
    _gates(axes[1, 1], rows)
    _ranks(axes[1, 2], [cell for name, cell in rows.items() if name.startswith("rank-")])
    for ax in axes.flat:
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _vectors(grid: list[dict[str, Any]]) -> str:
    return " or ".join(f"{number:,}" for number in sorted({cell["training"]["samples"] for cell in grid}))


def _lines(grid: list[dict[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], str, dict[str, Any]]]:
    """Cells of one H and one network by their scale, their marks, and how a line of them looks."""
    for reading, dim in sorted({(cell["reading"], cell["dim"]) for cell in grid}):
        for network, marks in (("G", "o-"), ("M", "s--")):
            cells = [c for c in grid if (c["reading"], c["dim"], c["network"]) == (reading, dim, network)]
            label = f"{network}, H of {dim} x {INPUTS if reading == 'A' else dim} weights"
            colour = COLOURS.get(f"{reading}{dim}", "black")
            looks = {"label": label, "color": colour, "markersize": 4, "linewidth": 1}
            yield sorted(cells, key=lambda cell: cell["scale"]), marks, looks


def _scales(ax: Any) -> None:
    ax.set(xscale="log", xlabel="scale: gates / predicted weights", ylabel="relative error")
    ax.set_xticks([0.125, 0.25, 0.5, 1, 2, 4], ["1/8", "1/4", "1/2", "1", "2", "4"])
    ax.minorticks_off()


def _grid(ax: Any, grid: list[dict[str, Any]]) -> None:
    for cells, marks, looks in _lines(grid):
        errors = [cell["error"] for cell in cells]
        spread = [error["standard deviation"] for error in errors]
        ax.errorbar([cell["scale"] for cell in cells], [e["mean"] for e in errors], spread, fmt=marks, **looks)
    _scales(ax)
    ax.set_ylim(0, None)


def _curves(ax: Any, grid: list[dict[str, Any]]) -> None:
    for (cell,), marks, looks in _lines(grid):
        ax.plot(*_curve(cell), marks, **looks)
    ax.set(xlabel="training vectors, thousands", ylabel="relative error", ylim=(0, None))
    ax.set_title("(b) the same along the training, scale 1", fontsize=10)


def _gates(ax: Any, rows: Rows) -> None:
    """Reading B, dim 16: what more gates are worth to each way of learning."""
    grid = [cell for name, cell in rows.items() if name.startswith("grid-B16-G")]
    for cells, marks, looks in _lines(grid):
        if cells:
            looks |= {"label": f"Adagrad, {_vectors(grid)} vectors"}
            ax.plot([cell["scale"] for cell in cells], [cell["error"]["mean"] for cell in cells], marks, **looks)
    learned = {scale: rows[name]["error"]["mean"] for scale, name in LEARNED.items() if name in rows}
    if learned:
        ax.plot(list(learned), list(learned.values()), "o-", color="tab:green", label="well-kept Adam, 500,000 vectors")
        ax.set_yscale("log")
    _scales(ax)
    ax.set_title("G with more gates, H of 16 x 16 weights", fontsize=10)


def _closing(ax: Any, rows: Rows) -> None:
    for name, (label, style, colour) in CLOSING.items():
        if name in rows:
            ax.plot(*_curve(rows[name]), style, color=colour, label=label, markersize=3)
    if "floor-B16" in rows:
        ax.axhline(rows["floor-B16"]["error"]["mean"], color="gray", linewidth=1, label="best affine gates")
    ax.set(xscale="log", yscale="log", xlabel="training vectors, thousands", ylabel="relative error")
    ax.set_xticks([50, 100, 500, 1000, 5000], ["50", "100", "500", "1,000", "5,000"])
    ax.minorticks_off()
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
