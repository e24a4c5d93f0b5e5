"""The printed table and the picture of Fig. 3 (c), (d)."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

from experiments.mueller2024.fig3_result import mean_and_spread

matplotlib.use("agg")
import matplotlib.pyplot as plt

COLOURS = {16: "tab:orange", 32: "tab:red", 64: "tab:blue", 128: "tab:purple"}


def show(content: dict[str, Any]) -> None:
    """A line a cell, and one for each H."""
    for name, cell in content["cells"].items():
        error = mean_and_spread(cell["final"])
        print(f"{name:24} {error['mean']:8.3g} +- {error['standard deviation']:.1g} ({error['seeds']} seeds)")
    for name, row in content["H"].items():
        right = f"right {statistics.mean(row['accuracy']):.3f}, " if "accuracy" in row else ""
        floors = ", ".join(
            f"{key} {statistics.mean(each):.3g}" for key, each in row["trivial"].items() if key != "seconds"
        )
        found = row["ranks"]["each"]
        means = ", ".join(f"{key} {statistics.mean(one[key] for one in found):.1f}" for key in found[0])
        print(f"{name:24} {right}{floors}; of {row['ranks']['weights']} weights: {means}")


def with_mean_curves(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell with the mean of its curves over seeds."""
    return cell | {curve: [statistics.mean(epoch) for epoch in cell[curve]] for curve in ("train", "test")}


def draw(content: dict[str, Any], path: Path) -> None:
    """(c) error against scale; (d) curves at scale 1; and G on a trained against a random H, same features."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), sharey=True, layout="constrained")
    cells = list(content["cells"].values())
    trained = [cell for cell in cells if cell["state"] == "trained"]
    controls = {cell["length"] for cell in cells if cell["state"] == "random"}
    for length in sorted({cell["length"] for cell in cells}):
        colour = COLOURS[length]
        for network, style in (("G", "o-"), ("M", "s--")):
            label = f"{network}, l = {length}"
            some = [c for c in trained if (c["length"], c["network"]) == (length, network)]
            _against_scale(axes[0], some, style, colour, label)
            for cell in some:
                if cell["scale"] == 1:
                    curve = [statistics.mean(epoch) for epoch in cell["test"]]
                    x = [(epoch + 1) / len(curve) for epoch in range(len(curve))]
                    axes[1].plot(x, curve, style, color=colour, markersize=3, linewidth=1, label=label)
        for state, style in (("trained", "o-"), ("random", "^:")):
            some = [c for c in cells if (c["length"], c["state"], c["network"]) == (length, state, "G")]
            if some and length in controls:
                _against_scale(axes[2], some, style, colour, f"{state} H, l = {length}")
    axes[0].set(ylabel="relative error")
    axes[1].set(xlabel="part of the training", yscale="log")
    for number, title in enumerate(
        ("(c) H trained on CIFAR-10", "(d) scale 1, error on test images", "G: trained and random H, same features")
    ):
        axes[number].set_title(title, fontsize=10)
        axes[number].grid(alpha=0.3)
    for ax in (axes[0], axes[2]):  # (d) has the lines of (c)
        ax.legend(fontsize=7, ncols=2, loc="upper right")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(top=3 * high)  # room for the legends
    ticks = [tick for tick in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if low < tick < high]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    for ax in axes:
        ax.minorticks_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _against_scale(ax: Any, cells: list[dict[str, Any]], style: str, colour: str, label: str) -> None:
    cells = sorted(cells, key=lambda cell: cell["scale"])
    means = [mean_and_spread(cell["final"]) for cell in cells]
    ax.errorbar(
        [cell["scale"] for cell in cells],
        [m["mean"] for m in means],
        [m["standard deviation"] for m in means],
        fmt=style,
        color=colour,
        markersize=4,
        linewidth=1,
        label=label,
    )
    ax.set(xscale="log", yscale="log", xlabel="scale: gates / predicted weights")
    ax.set_xticks([0.125, 0.25, 0.5, 1, 2, 4], ["1/8", "1/4", "1/2", "1", "2", "4"])
