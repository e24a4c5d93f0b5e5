"""Folding a trained kernel prediction network: how many gates hold the kernels that it really predicts?

Claim (Müller 2024, Sec. 4.2, 4.3): denoising kernels do not fill the space of all kernels, so a gated layer below full
rank matches the quality of the predicted weights.
Command: `python -m experiments.mueller2024.fold`, a minute on an idle core, and with `--tuned 4 8` three minutes more
for each of these and for the kernel network itself, 500 steps of training more. Needs FASTWEIGHTS_DATA and the
network of `python -m experiments.mueller2024.table1_burst train kpn`.
What runs: `fastweights.burst.folding`, as `fastweights convert --rank` does it, with training bursts. The r leading
eigenvectors of the second moment of the kernels span the best subspace for kernels (Eckart-Young); projected on it,
the 3 x 3 head of 200 kernel numbers becomes a head of r gates, and the subspace r filters: Table 1's gated network with
a 1 x 1 second filter, no training. "weighted": the subspace that is best for kernels times the root of the second
moment of the frames' windows, that is for pictures. PSNR (unclipped, random noise) on McMaster bursts, paired with the
kernel network's.
Measured: results/fold.json, docs/images/fold.png. Half width, 7,000 steps (1.4 % of the paper's), seed 0, 72 bursts:
the kernels lie almost in a few dimensions, the same for all bursts. 12 gates in place of 200 numbers have the
network's own PSNR (29.34 dB, -.00 +- .01), 8 gates .09 +- .02 less, 4 gates .67; on the basis best for kernels instead
of pictures 16, 12 and 8 gates lose .01, .09 and .33. After 500 steps more of both networks 8 gates lose .02 +- .01,
4 gates .15 +- .02. What a gated network of 64 maps loses when it is trained like this one (Table 1) is therefore not
rank; whether longer training fills more dimensions was not seen. The largest tensor is 48 maps of the burst's size up
to 48 gates (the U-Net's own), 50 with kernels applied in one pass as they are interpolated, 200 with kernels held.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import matplotlib
import torch
from cyclopts import App, Parameter
from torch.utils.data import default_collate

from experiments import data, report
from experiments.mueller2024.table1_burst import EXAMPLE, TEST_SEED, settings
from fastweights import cost
from fastweights.burst import folding, weights
from fastweights.burst.evaluate import paired
from fastweights.burst.losses import psnr
from fastweights.burst.models import ModelConfig, PaperDenoiser, build
from fastweights.burst.synthesis.paper import PaperBursts, noise_map
from fastweights.burst.synthesis.photos import load_photos, split
from fastweights.burst.train import train

matplotlib.use("agg")
import matplotlib.pyplot as plt

RESULT = Path("results/fold.json")
FIGURE = Path("docs/images/fold.png")
NETWORK = Path("runs/table1/kpn-seed0/weights.safetensors")
RUNS = Path("runs/fold")
RANKS = (2, 4, 6, 8, 12, 16, 32, 64, 128, 200)
CLOSE = 0.1  # dB
STEPS = 500  # more
app = App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


def observed(network: PaperDenoiser, count: int) -> dict[str, folding.Seen]:
    """What the network sees of training bursts."""
    bursts = PaperBursts(split(load_photos(data.training_photos()))[0], seed=77)
    inputs = []
    for number in range(count):
        burst = default_collate([bursts[number]])
        noise = noise_map(burst.frames[:, 0], burst.sigma_read, burst.sigma_shot)[:, None]
        inputs.append((burst.frames, noise))
    return folding.observe(network, inputs)


def folded(network: PaperDenoiser, rank: int, seen: dict[str, folding.Seen]) -> tuple[PaperDenoiser, float]:
    """The gated network of `rank` maps, sharing the trunk, and the mean square error of what was seen, relative."""
    found, (weight,) = folding.fold(network, rank, seen)
    found.trunk = network.trunk
    return cast(PaperDenoiser, found), (weight.measured or 0.0) ** 2


@torch.no_grad()
def judge(networks: dict[str, PaperDenoiser], count: int) -> dict[str, list[float]]:
    """PSNR of each network on every McMaster burst; a trunk that several share runs once."""
    bursts = PaperBursts(load_photos(data.path("mcmaster")), TEST_SEED)
    each: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(count):
        burst = default_collate([bursts[number]])
        noise = noise_map(burst.frames[:, 0], burst.sigma_read, burst.sigma_shot)[:, None]
        features: dict[int, Any] = {}
        for name, network in networks.items():
            trunk = id(network.trunk)
            if trunk not in features:
                features[trunk] = network.trunk(torch.cat([burst.frames, noise], 1))
            picture = network.product(network.weight.code(features[trunk]), burst.frames)
            found = psnr(picture, burst.truth[:, None], clip=False, white_level=burst.white_level)
            each[name].append(found.item())
    return each


def tune(network: PaperDenoiser, name: str, steps: int, runs: Path) -> PaperDenoiser:
    """Some more steps of training, the per-frame loss left out; a run that was stopped goes on."""
    runs.mkdir(parents=True, exist_ok=True)
    start = runs / f"{name}.safetensors"
    if not start.exists():
        weights.save_weights(start, network, network.config, {})
    config = replace(
        settings("kpn", 100, steps, runs),
        model=network.config,
        out=str(runs / name),
        start=str(start),
        lr=2e-4,
        annealed=False,
        save_every=100,
        eval_every=max(steps, 1),
        eval_bursts=8,
    )
    return cast(PaperDenoiser, train(config).model)


def maps(config: ModelConfig) -> dict[str, Any]:
    """Counted on one burst of 128 x 128 pixels; the largest tensor also in maps of the burst's size."""
    found = cost.measure(build(config), torch.zeros(1, config.frames, 128, 128), torch.zeros(1, 1, 128, 128))
    return asdict(found) | {"largest in maps": found.largest_bytes / 4 / 128**2}


@app.default
def main(
    *,
    network: Path = NETWORK,
    ranks: tuple[int, ...] = RANKS,
    tuned: tuple[int, ...] = (),
    count: int = 72,
    runs: Path = RUNS,
    result: Path = RESULT,
    figure: Path = FIGURE,
    smoke: bool = False,
) -> None:
    """Fold at every rank, fine-tune some, judge all.

    Args:
        network: The kernel prediction network, with a 3 x 3 head.
        ranks: Numbers of gates.
        tuned: Ranks that are trained 500 steps further, beside the network itself.
        count: McMaster bursts of the judgement; half as many training bursts give the subspace.
        runs: Folder of the fine-tuned networks.
        result: The JSON file written.
        figure: The picture written.
        smoke: Three ranks, two bursts and one step, for a test.
    """
    torch.set_num_threads(1)
    steps = STEPS
    if smoke:
        ranks, tuned, steps, count = (4, 8, 200), (4,), 1, 2
    if not network.exists():
        raise SystemExit(f"no trained network {network}: train one first, by `{EXAMPLE}`")
    kpn = cast(PaperDenoiser, weights.load(network))
    weighted = observed(kpn, -(-count // 2))
    kernels = {name: replace(seen, metric=None) for name, seen in weighted.items()}
    numbers = kpn.config.frames * kpn.config.kernel_size**2
    networks, rows = {"kpn": kpn}, {"kpn": {"kernel numbers": numbers} | maps(kpn.config)}
    for rank in ranks:
        for basis, seen in (("kernels", kernels), ("weighted", weighted)):
            name = f"{basis}, {rank} gates"
            networks[name], error = folded(kpn, rank, seen)
            rows[name] = {"basis": basis, "gates": rank, "error": error} | maps(networks[name].config)
    for rank in tuned:
        name = f"weighted, {rank} gates"
        networks[f"{name}, tuned"] = tune(networks[name], f"weighted-{rank}-{steps}", steps, runs)
        rows[f"{name}, tuned"] = rows[name] | {"steps more": steps}
    if tuned:
        networks["kpn, tuned"] = tune(kpn, f"kpn-{steps}", steps, runs)
        rows["kpn, tuned"] = rows["kpn"] | {"steps more": steps}
    each = judge(networks, count)
    for name, row in rows.items():
        against = each["kpn, tuned" if name.endswith("tuned") else "kpn"]
        row |= {"psnr": sum(each[name]) / count, "to the kpn": paired(each[name], against)}
        difference = row["to the kpn"]
        print(
            f"{name:28} {row['psnr']:6.2f} dB, {difference['difference']:+.2f} ± {difference['error']:.2f}; largest "
            f"tensor {row['largest in maps']:.0f} maps, {row['multiply_adds'] / 1e6:.0f} M multiply-adds"
        )
    content = {"bursts": count, "test seed": TEST_SEED, "close, dB": CLOSE, "smallest": smallest(rows), "rows": rows}
    trained = {"steps": weights.card(network).get("training", {}).get("steps"), "width": kpn.config.width}
    report.write(result, content | {"network": trained, "published width": published()})
    print(f"fewest gates within {CLOSE} dB: {content['smallest']}")
    draw(rows, figure)


def smallest(rows: dict[str, Any]) -> dict[str, int | None]:
    """The fewest gates within 0.1 dB of the kernel network (after as much training), on each basis."""
    found: dict[str, int | None] = {}
    for name, row in rows.items():
        if "gates" in row:
            kind = row["basis"] + (", tuned" if name.endswith("tuned") else "")
            kpn = rows["kpn, tuned" if name.endswith("tuned") else "kpn"]
            near = row["psnr"] >= kpn["psnr"] - CLOSE
            fewest = found.setdefault(kind, None)
            if near and (fewest is None or row["gates"] < fewest):
                found[kind] = row["gates"]
    return found


def published() -> dict[str, Any]:
    """The same counts at the published width, where nothing was trained."""
    kpn = ModelConfig()
    return {"kpn": maps(kpn)} | {
        f"{rank} gates": maps(replace(kpn, kind="gated", maps=rank, out_kernel_size=1)) for rank in (16, 32, 64, 128)
    }


def draw(rows: dict[str, Any], path: Path) -> None:
    """What is lost against the number of gates, and the largest tensor."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    folds = [row for row in rows.values() if "gates" in row]
    for basis, colour in (("kernels", "tab:blue"), ("weighted", "tab:orange")):
        shown = [row for row in folds if row["basis"] == basis and "steps more" not in row]
        _errorbar(left, shown, colour, f"best subspace for {'kernels' if basis == 'kernels' else 'pictures'}")
    shown = [row for row in folds if "steps more" in row]
    if shown:
        label = f"the same, {shown[0]['steps more']} steps more (both networks)"
        _errorbar(left, shown, "tab:green", label)
    left.axhline(-CLOSE, color="gray", linewidth=1, linestyle=":")
    left.set(ylabel="PSNR above the kernel network's, dB")
    left.set_yscale("symlog", linthresh=0.2)
    left.set_yticks([-10, -1, -CLOSE, 0, CLOSE], ["-10", "-1", f"-{CLOSE}", "0", f"{CLOSE}"])
    left.legend(fontsize=7)
    plain = sorted((row for row in folds if row["basis"] == "kernels"), key=lambda row: row["gates"])
    gates = [row["gates"] for row in plain]
    right.plot(gates, [row["largest in maps"] for row in plain], "o-", markersize=4, linewidth=1, label="gates")
    right.axhline(rows["kpn"]["largest in maps"], color="black", linewidth=1, label="kernels, applied in one pass")
    right.axhline(rows["kpn"]["kernel numbers"], color="black", linestyle="--", linewidth=1, label="kernels, held")
    right.set(ylabel="largest tensor, maps of the picture's size", yscale="log")
    right.set_yticks([50, 100, 200], ["50", "100", "200"])
    right.legend(fontsize=7)
    for ax in (left, right):
        ax.set(xscale="log", xlabel="gates")
        ax.set_xticks(gates, [str(number) for number in gates], fontsize=7)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _errorbar(ax: Any, rows: list[dict[str, Any]], colour: str, label: str) -> None:
    rows = sorted(rows, key=lambda row: row["gates"])
    differences = [row["to the kpn"] for row in rows]
    ax.errorbar(
        [row["gates"] for row in rows],
        [one["difference"] for one in differences],
        [one["error"] for one in differences],
        fmt="o-",
        color=colour,
        markersize=4,
        linewidth=1,
        label=label,
    )


if __name__ == "__main__":
    app()
