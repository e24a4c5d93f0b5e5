"""The pictures of what the experiments measured: Figs. 1 (a), 1 (b), 2 and 3 (a) of the paper, and of its appendix.

Command: `python -m experiments.galanti2020.figures` (needs matplotlib, the extra `experiments`), writes
docs/images/galanti2020.png and docs/images/galanti2020_appendix.png from results/galanti2020_*.json.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cyclopts import App
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE, APPENDIX = Path("docs/images/galanti2020.png"), Path("docs/images/galanti2020_appendix.png")
COLOURS = {"embedding": "tab:red", "hypernetwork": "tab:blue"}
LITERAL: dict[str, Any] = {"start": "default", "rate": 0.01}
# Beside what the paper states: where its setting diverges or does not learn.
BESIDE = {
    "rotation_cifar": [("hypernetwork", "anchored", 0.003)],
    "colorization": [("embedding", "default", 0.1), ("hypernetwork", "default", 0.1)],
}
app = App(help=__doc__, help_format="plaintext")


def literal(axes: Axes, content: dict[str, Any], title: str) -> None:
    """Both methods over the figure's axis at the paper's setting, after the most passes that any point has."""
    for method in COLOURS:
        line(axes, content, method, "o-", method, **LITERAL)
    axes.set_title(f"{title}, {epochs(content, **LITERAL)}")


def chosen(content: dict[str, Any], **setting: Any) -> list[dict[str, Any]]:
    """Rows of one setting; of several at one point, the last has the most epochs, then repetitions."""
    rows = [row for row in content["rows"] if setting.items() <= row.items()]
    return sorted(rows, key=lambda row: (row["x"], row["rate"], row["epochs"], row["seeds"]))


def most_epochs(content: dict[str, Any], **setting: Any) -> int:
    """Those of the longest trainings of a setting."""
    return max(row["epochs"] for row in chosen(content, **setting))


def epochs(content: dict[str, Any], **setting: Any) -> str:
    """Of the longest trainings of a setting, in words."""
    count = most_epochs(content, **setting)
    return "1 epoch" if count == 1 else f"{count} epochs"


def line(
    axes: Axes, content: dict[str, Any], method: str, style: str, label: str, over: str = "x", **setting: Any
) -> None:
    """Means and standard errors of one setting after the most epochs; diverged points are named."""
    after, colour = str(most_epochs(content, **setting)), COLOURS[method]
    rows = chosen(content, method=method, **setting)
    found = {row[over]: row["after_epochs"][after] for row in rows if after in row["after_epochs"]}
    shown = {x: one for x, one in found.items() if one["mean"] is not None}
    means, errors = ([one[name] or 0 for one in shown.values()] for name in ("mean", "standard_error"))
    axes.errorbar(list(shown), means, errors, color=colour, fmt=style, capsize=3, label=label)
    axes.margins(x=0.12)
    diverged = sorted(found.keys() - shown.keys())
    if diverged:
        top = [0.97] * len(diverged)
        axes.plot(diverged, top, "x", color=colour, transform=axes.get_xaxis_transform(), label=f"{label}, diverged")


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
    for name, title, label in (
        ("layers", "Fig. 1 (a): synthetic target", "layers k of f and e"),
        ("embedding_size", "Fig. 1 (b): synthetic target", "i (width 100 i of f, 1000 i numbers of e)"),
        ("rotation", "Fig. 3 (a): rotated MNIST digits", "layers k of f and e"),
    ):
        axes, content = next(panels), json.loads((results / f"galanti2020_{name}.json").read_text())
        literal(axes, content, title)
        if "baselines" in content:
            baselines(axes, content)
            axes.set_yscale("log")
        axes.set(xlabel=label, ylabel="share wrong" if name == "rotation" else "test error")
        axes.legend(fontsize=8)
    axes, content = next(panels), json.loads((results / "galanti2020_assumption1.json").read_text())
    for (space, found), style in zip(content["spaces"].items(), ("-", "--", ":"), strict=False):
        for curve, colour in (("f1 and f2", "tab:blue"), ("f1 and y", "tab:red")):
            means = [one["mean"] / found["variance of y"]["mean"] for one in found[curve]]
            axes.plot(means, linestyle=style, color=colour, label=f"{curve}, {space}")
    axes.set(title="Fig. 2: Assumption 1", xlabel="epochs of 10,000", ylabel="squared difference / variance of y")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    return figure


def draw_appendix(results: Path) -> Figure:
    """Types II and III over layers and sizes, learning rates, embedding sizes on digits, colorization, if measured."""
    mpl.use("Agg")
    figure = Figure((12, 9), dpi=80, layout="constrained")
    panels = figure.subplots(3, 3).flat
    for name, title, label in (
        ("layers_type2", "Type II", "layers k of f and e"),
        ("layers_type3", "Type III", "layers k of f and e"),
        ("embedding_size_type2", "Type II", "i (width 100 i of f, 1000 i numbers of e)"),
        ("embedding_size_type3", "Type III", "i (width 100 i of f, 1000 i numbers of e)"),
        ("rotation_cifar", "Fig. 3 (b): rotated CIFAR-10", "layers k of f and e"),
        ("rotation_embedding", "1.2: rotated digits", "i (e with 10,000 i numbers); 0: hypernetwork"),
        ("colorization", "1.3: colorization", "layers k of f and e"),
    ):
        file = results / f"galanti2020_{name}.json"
        if not file.exists():
            continue
        axes, content = next(panels), json.loads(file.read_text())
        literal(axes, content, title)
        if "ignoring_context" in content.get("baselines", {}):
            baselines(axes, content)
        for method, start, rate in BESIDE.get(name, ()):
            if chosen(content, method=method, start=start, rate=rate):
                label_of = f"{method}, rate {rate:g}" + (", library's start" if start == "anchored" else "")
                line(axes, content, method, "s:", label_of, start=start, rate=rate)
        diverged = any("diverged" in str(line.get_label()) for line in axes.lines)
        if diverged:  # room for a long legend beside the marks
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.7 * (high - low))
        axes.set(xlabel=label, ylabel="share wrong" if "rotation" in name else "test error")
        axes.legend(fontsize=7, loc="upper right" if diverged else "best")
    axes, content = next(panels), json.loads((results / "galanti2020_rotation.json").read_text())
    learning_rates(axes, content, depth=4)
    for axes in panels:
        axes.set_axis_off()
    return figure


def learning_rates(axes: Axes, content: dict[str, Any], depth: int) -> None:
    """Both methods over the learning rate."""
    setting: dict[str, Any] = {"x": depth, "start": "default"}
    for method in COLOURS:
        line(axes, content, method, "o-", method, over="rate", **setting)
    title = f"1.4: rotated digits, k = {depth}, {epochs(content, **setting)}"
    axes.set(xscale="log", xlabel="learning rate", ylabel="share wrong", title=title)
    axes.legend(fontsize=8)


@app.default
def main(*, results: Path = Path("results"), picture: Path = PICTURE, appendix: Path = APPENDIX) -> None:
    """Draw both pictures."""
    for path, figure in ((picture, draw(results)), (appendix, draw_appendix(results))):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


if __name__ == "__main__":
    app()
