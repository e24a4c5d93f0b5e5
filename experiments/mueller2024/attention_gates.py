"""How many gates does attention need? Rank of a map, span of all maps, gates between fixed layers, over real patches.

Claim (Müller 2024, Sec. 5.1.3, 5.2): attention without softmax is a hypernetwork; Theorem 3.1 covers softmax attention
too, but no useful basis of low rank is easy to find for it, unlike for convolutions.
Command: `python -m experiments.mueller2024.attention_gates`, about 4 minutes on an idle core; what has run is kept in
runs/attention. Needs FASTWEIGHTS_DATA.
What runs: a transformer of two blocks, 64 features, 4 heads of 16, on CIFAR-10 cut into S = 2 to 32 patches, as
initialised and after 300 steps of classification. For two heads of its last block, over 10,000 training images, judged
on 3,000 test images, relative errors being squared errors over squared sizes, 1 % allowed:
(a) the rank that a single map needs, mean over images;
(b) the dimension of the span of all maps, which no fixed U, V with fewer gates can hold;
(c) the smallest number of gates, each map with the best ones between U and V fixed for all, which are fitted by L-BFGS
    from a random start. Rows that sum to one leave S (S - 1) + 1 dimensions and as many gates hold them exactly, fewer
    than the S^2 of Theorem 3.1. Above --fitted patches only these two bounds of (c).
Measured: results/attention_gates.json, docs/images/attention_gates.png. Low rank of one map does not make few gates.
With 16 patches and training (41 % right) a map needs rank 3.6, all maps 196 dimensions and the gates fitted are 196,
of 241 that are exact and 256 of Theorem 3.1; with 32 patches rank 3.8 and 794 dimensions of 993. As initialised: rank
2.4, 114 dimensions, 122 gates. What gates have to hold is where attention looks, which differs from image to image,
not how simple each map is. Linear attention trains to maps of rank 1 (S = 16: 13 dimensions); as a predicted matrix on
the channels it is 64 x 16 gates whatever S is, equal to 1.3e-15; softmax attention with S^2 gates to 2.7e-15.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from cyclopts import App, Parameter
from jaxtyping import Float
from torch import Tensor

from experiments import data, report
from experiments.mueller2024 import attention_maps
from experiments.mueller2024.attention_maps import PATCHES, PatchClassifier
from experiments.mueller2024.fixed_basis import ALLOWED, fewest_gates, span
from fastweights import convert, equivalences, zoo
from fastweights.structures import Gated

matplotlib.use("agg")
import matplotlib.pyplot as plt

RESULT = Path("results/attention_gates.json")
FIGURE = Path("docs/images/attention_gates.png")
RUNS = Path("runs/attention")
app = App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


def rows_of_one_sum(size: int) -> Gated:
    """U and V of S (S - 1) + 1 gates that hold every S x S matrix whose rows all have the same sum.

    Gate (t, s): row t moves weight from the last position to position s. The last gate: every row at the last position.
    """
    eye = torch.eye(size, dtype=torch.float64)
    u = torch.cat([eye.repeat_interleave(size - 1, 1), torch.ones(size, 1, dtype=torch.float64)], 1)
    v = torch.cat([(eye[:-1] - eye[-1]).repeat(size, 1), eye[-1:]])
    return Gated(u, v)


def gates_of_rows(maps: Float[Tensor, "*b t s"]) -> Float[Tensor, "*b k"]:
    """The gates with which `rows_of_one_sum` holds maps whose rows all sum to one."""
    return torch.cat([maps[..., :-1].flatten(-2), maps.new_ones(*maps.shape[:-2], 1)], -1)


def second_moment(maps: Iterable[Tensor]) -> tuple[Tensor, float]:
    """Mean of a a^T over flat maps a, and the mean rank that a map needs for the error allowed."""
    total, ranks, count = torch.zeros(()), 0, 0
    for some in maps:
        flat = some.flatten(1)
        total = total + flat.T @ flat
        power = torch.linalg.svdvals(some).square()
        left = 1 - power.cumsum(1) / power.sum(1, keepdim=True)
        ranks += int((left > ALLOWED).sum() + len(some))
        count += len(some)
    return total / count, ranks / count


def measure(kind: str, patches: int, steps: int, counts: tuple[int, int], fitted: int) -> dict[str, Any]:
    """One network: train it, then (a), (b), (c) for two heads; steps = 0 leaves it as initialised."""
    images, labels = data.cifar10("train")
    test, truth = data.cifar10("test")
    torch.manual_seed(0)
    model = PatchClassifier(patches, kind)
    attention_maps.train(model, images, labels, steps)
    right = attention_maps.accuracy(model, test[-2000:], truth[-2000:])
    model.double()
    heads = []
    for head in (0, 1):
        found, rank = second_moment(attention_maps.maps_of(model, images[: counts[0]], head))
        held_out, _ = second_moment(attention_maps.maps_of(model, test[: counts[1]], head))
        exact, dimension = span(found, held_out)
        bound = patches * (patches - 1) + 1
        row: dict[str, Any] = {
            "rank of a map": rank,
            "span, exact": exact,
            "span": dimension,
            "gates at most": bound,
        }
        if patches <= fitted:
            row["gates"], row["errors"] = fewest_gates(found, held_out, patches, dimension, bound)
        heads.append(row)
    return {"kind": kind, "patches": patches, "steps": steps, "accuracy": right, "heads": heads}


@torch.no_grad()
def conversions(count: int) -> dict[str, Any]:
    """Linear attention as a predicted matrix and as gates, softmax attention as S^2 gates, on patches of images."""
    images, _ = data.cifar10("test")
    rows: dict[str, Any] = {}
    torch.manual_seed(0)
    linear = zoo.LinearAttention(attention_maps.FEATURES, 16).double()
    fast = equivalences.fast_weight_layer(linear, attention_maps.FEATURES)
    gated = convert.layer(fast.part)
    gated.structure.double()
    for patches in PATCHES:
        model = PatchClassifier(patches, "softmax").double()
        x = model.last_input(images[:count])
        p, q = linear.predictor(x)
        theirs = linear(x)
        ours = gated(p.unflatten(-1, (patches, -1)), (x, q))
        softmax = model.last.attention.attention
        values = x[:, None].expand(-1, attention_maps.HEADS, -1, -1)
        fixed = equivalences.at_fixed_size(softmax, patches, patches)
        fixed.structure.double()
        maps, fewer = softmax.weight((x, x)), rows_of_one_sum(patches)
        held = fewer.materialize(gates_of_rows(maps))
        rows[str(patches)] = {
            "linear, gates": gated.structure.code_features,
            "linear, largest difference": (ours - theirs).abs().max().item(),
            "rows that sum to one, gates a head": fewer.code_features,
            "rows that sum to one, largest difference": (held - maps).abs().max().item(),
            "softmax, gates a head": fixed.structure.code_features,
            "softmax, largest difference": (fixed(values, (x, x)) - softmax(values, (x, x))).abs().max().item(),
        }
    return rows


def draw(cells: Sequence[dict[str, Any]], path: Path) -> None:
    """The three numbers against S, a panel a kind of attention and state of training."""
    panels = sorted({(cell["kind"], cell["steps"] > 0) for cell in cells}, reverse=True)
    figure, _ = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 3.4), sharey=True, layout="constrained")
    for ax, (kind, trained) in zip(figure.axes, panels, strict=True):
        _panel(ax, [c for c in cells if (c["kind"], c["steps"] > 0) == (kind, trained)])
        ax.set_title(f"{kind} attention, {'trained' if trained else 'as initialised'}", fontsize=9)
    figure.axes[0].set_ylabel("number, for 1 % error")
    figure.axes[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _panel(ax: Any, cells: list[dict[str, Any]]) -> None:
    cells = sorted(cells, key=lambda cell: cell["patches"])
    sizes = [cell["patches"] for cell in cells]
    ax.plot(sizes, [s * s for s in sizes], ":", color="gray", label="$S^2$ (Theorem 3.1)")
    for name, style, label in (
        ("span", "s--", "(b) span of all maps"),
        ("gates", "o-", "(c) gates, fixed U and V"),
        ("rank of a map", "^-", "(a) rank of one map"),
    ):
        shown = [cell for cell in cells if name in cell["heads"][0]]
        means = [sum(head[name] for head in cell["heads"]) / len(cell["heads"]) for cell in shown]
        # Hollow and larger: (b) and (c) nearly coincide.
        marker = {"markersize": 8, "markerfacecolor": "none"} if name == "gates" else {"markersize": 4}
        ax.plot([cell["patches"] for cell in shown], means, style, linewidth=1, label=label, **marker)
    ax.set(xscale="log", yscale="log", xlabel="patches S")
    ax.set_xticks(sizes, [str(s) for s in sizes])
    ax.minorticks_off()
    ax.grid(alpha=0.3)


@app.default
def main(
    *,
    sizes: tuple[int, ...] = (2, 4, 8, 16, 32),
    steps: int = 300,
    counts: tuple[int, int] = (10_000, 3000),
    fitted: int = 16,
    runs: Path = RUNS,
    result: Path = RESULT,
    figure: Path = FIGURE,
    smoke: bool = False,
) -> None:
    """Run what is missing, then write the result and the figure.

    Args:
        sizes: Numbers of patches S.
        steps: Training steps of the trained networks.
        counts: Images of the maps found and of those held out.
        fitted: Largest S at which gates are fitted; the time grows as S to the sixth.
        runs: Folder of one file a network; delete a file to run it again.
        result: The JSON file written.
        figure: The picture written.
        smoke: Few images, for a test.
    """
    torch.set_num_threads(1)
    if smoke:
        sizes, steps, counts = (2, 4), 20, (500, 500)
    cells = []
    for kind in ("softmax", "linear"):
        for trained in (0, steps):
            for size in sizes:
                cell = partial(measure, kind, size, trained, counts, fitted)
                cells.append(report.once(runs / f"{kind}-{trained}-{size}.json", cell))
                print(line(cells[-1]), flush=True)
    exact = conversions(8 if smoke else 200)
    for patches, row in exact.items():
        print(f"S = {patches}: {row}")
    report.write(result, {"error allowed": ALLOWED, "images": counts, "networks": cells, "conversions": exact})
    draw(cells, figure)


def line(cell: dict[str, Any]) -> str:
    """A line of the table."""
    shown = "; ".join(
        f"rank {head['rank of a map']:.2f}, span {head['span']} (exact {head['span, exact']}), "
        f"gates {head.get('gates', '')} <= {head['gates at most']}"
        for head in cell["heads"]
    )
    return f"{cell['kind']}, {cell['steps']} steps, S = {cell['patches']}: {cell['accuracy']:.3f} right; {shown}"


if __name__ == "__main__":
    app()
