"""The pictures of what the experiments measured: Figs. 1 (a), 1 (b), 2 and 3 (a) of the paper, by our results.

Command: `python -m experiments.galanti2020.figures` (needs matplotlib, the extra `experiments`), writes
docs/images/galanti2020.png from results/galanti2020_*.json.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cyclopts import App
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE = Path("docs/images/galanti2020.png")
COLOURS = {"embedding": "tab:red", "hypernetwork": "tab:blue"}
app = App(help=__doc__, help_format="plaintext")


def literal(axes: Axes, content: dict[str, Any], epochs: str) -> None:
    """Both methods over the figure's axis, at the paper's setting and torch's start, after so many epochs."""
    for method, colour in COLOURS.items():
        rows = {}
        for row in sorted(content["rows"], key=lambda row: (row["x"], row["seeds"])):
            if (row["method"], row["start"], row["rate"]) == (method, "default", 0.01) and epochs in row[
                "after_epochs"
            ]:
                rows[row["x"]] = row["after_epochs"][epochs]  # of several, the one with most repetitions
        shown = {x: found for x, found in rows.items() if found["mean"] is not None}
        means, errors = ([found[name] or 0 for found in shown.values()] for name in ("mean", "standard_error"))
        axes.errorbar(list(shown), means, errors, color=colour, marker="o", capsize=3, label=method)
        axes.margins(x=0.12)
        for x in rows.keys() - shown.keys():
            axes.annotate(
                "diverged", (x, 1), (0, -12), ("data", "axes fraction"), "offset points", color=colour, ha="center"
            )


def baselines(axes: Axes, content: dict[str, Any]) -> None:
    """What predicting zero, and what the best function that ignores I, would give."""
    for name, style in (("variance", ":"), ("ignoring_context", "--")):
        label = {"variance": "predicting 0", "ignoring_context": "best that ignores I"}[name]
        axes.axhline(content["baselines"][name]["mean"], color="gray", linestyle=style, label=label)


def draw(results: Path) -> Figure:
    """Four panels, those whose result file is there."""
    mpl.use("Agg")
    figure = Figure((11, 6.5), dpi=90, layout="constrained")
    panels = figure.subplots(2, 2).flat
    for name, title, label, epochs in (
        ("layers", "Fig. 1 (a): synthetic target, 1 epoch", "layers k of f and e", "1"),
        ("embedding_size", "Fig. 1 (b): synthetic target, 1 epoch", "i (width 100 i of f, 1000 i numbers of e)", "1"),
        ("rotation", "Fig. 3 (a): rotated MNIST digits, 1 epoch", "layers k of f and e", "1"),
    ):
        axes, content = next(panels), json.loads((results / f"galanti2020_{name}.json").read_text())
        literal(axes, content, epochs)
        if "baselines" in content:
            baselines(axes, content)
            axes.set_yscale("log")
        axes.set(title=title, xlabel=label, ylabel="share wrong" if name == "rotation" else "test error")
        axes.legend(fontsize=8)
    axes, content = next(panels), json.loads((results / "galanti2020_assumption1.json").read_text())
    for (space, found), style in zip(content["spaces"].items(), ("-", "--"), strict=False):
        for curve, colour in (("f1 and f2", "tab:blue"), ("f1 and y", "tab:red")):
            means = [one["mean"] / found["variance of y"]["mean"] for one in found[curve]]
            axes.plot(means, linestyle=style, color=colour, label=f"{curve}, {space}")
    axes.set(title="Fig. 2: Assumption 1", xlabel="epochs of 10,000", ylabel="squared difference / variance of y")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    return figure


@app.default
def main(*, results: Path = Path("results"), picture: Path = PICTURE) -> None:
    """Draw the picture."""
    figure = draw(results)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)


if __name__ == "__main__":
    app()
