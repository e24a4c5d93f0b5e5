"""Writes the tables in docs/*.md that come from results/*.json: python docs/make_results.py [--check]

A table stands between `<!-- table: name -->` and `<!-- end -->`; the text around it is written by hand.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder, not the experiments beside it

from experiments.mueller2024.burst_names import burst_name  # noqa: E402

BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def result(name: str) -> dict[str, Any]:
    """A result file."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


def layers() -> list[str]:
    """Each layer's loss with its own context and with another sample's, over the seeds."""
    lines = ["| layer | task | own context | another's | own is better |", "| --- | --- | ---: | ---: | :-: |"]
    for name, row in sorted(result("layers_that_learn")["parts"]["layers"].items(), key=lambda item: item[0].lower()):
        runs = list(row["seeds"].values())
        own, shuffled = ([run[key] for run in runs] for key in ("own", "shuffled"))
        wins = sum(run["own"] < run["shuffled"] for run in runs)
        lines.append(
            f"| `{name}` | {row['task']}, {row['steps']} steps "
            f"| {over_seeds(own)} | {over_seeds(shuffled)} | {wins} of {len(runs)} |"
        )
    return lines


def initialisation() -> list[str]:
    """Test loss by way of conditioning, depth and learning rate."""
    rows = result("layers_that_learn")["parts"].get("initialisation", {})
    names, settings = (list(dict.fromkeys(key.split(", ", 1)[part] for key in rows)) for part in (0, 1))
    lines = ["| network | " + " | ".join(settings) + " |", "| --- |" + " ---: |" * len(settings)]
    for name in names:
        found = (rows.get(f"{name}, {setting}") for setting in settings)
        cells = ["" if row is None else over_seeds(_own(row)) for row in found]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def simple_gate() -> list[str]:
    """Test loss with the gate, without it, and with activations."""
    rows = result("layers_that_learn")["parts"].get("simple gate", {})
    lines = ["| in the middle | squared error x 1000 |", "| --- | ---: |"]
    return lines + [f"| {name} | {over_seeds([1000 * x for x in _own(row)])} |" for name, row in rows.items()]


def _own(row: dict[str, Any]) -> list[float]:
    return [run["own"] for run in row["seeds"].values()]


def conditioning() -> list[str]:
    """Accuracy, sizes and time of every way of conditioning."""
    lines = [
        "| method | accuracy in % | hidden features of g | parameters | multiply-adds | ms a step | rate |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in result("conditioning")["methods"].items():
        accuracy = over_seeds([100 * value for value in row["accuracy"].values()])
        counts = f"{row['hidden features']} | {row['parameters']:,} | {row['multiply-adds']:,}"
        lines.append(f"| {name} | {accuracy} | {counts} | {row['milliseconds']:.2f} | {row['rate']:g} |")
    return lines


def burst_networks() -> list[str]:
    """PSNR of Table 1's networks (means over seeds) and of what needs no network, at every noise."""
    found = result("table1_burst")
    rows: dict[str, list[list[dict[str, float]]]] = {}
    for scores in (part["scores"] for part in found["sets"].values()):
        here: dict[str, list[dict[str, float]]] = {}
        for name, score in scores.items():
            here.setdefault(burst_name(name.rsplit("-seed", 1)[0]), []).append(score)
        for name, each in here.items():
            rows.setdefault(name, []).append(each)
    lines = [
        "| method | seeds | random noise | gain 1 | gain 2 | gain 4 | gain 8 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    trained = {burst_name(name.rsplit("-seed", 1)[0]) for name in found["networks"]}
    for name, parts in sorted(rows.items(), key=lambda item: _mean(item[1][0], "psnr")):
        cells = [f"{_mean(each, 'psnr'):.2f} ± {short(_mean(each, 'psnr_error'))}" for each in parts]
        lines.append(f"| {name} | {len(parts[0]) if name in trained else ''} | {' | '.join(cells)} |")
    return lines


def burst_differences() -> list[str]:
    """Table 1's networks against the kernel network of the same seed, burst by burst, and what each seed gave."""
    parts = [part["differences"] for part in result("table1_burst")["sets"].values()]
    lines = ["| network | random noise | gain 1 | gain 2 | gain 4 | gain 8 |", "| --- |" + " ---: |" * 5]
    for key in sorted(parts[0], key=lambda key: -parts[0][key]["difference"]):
        cells = [f"{signed(part[key]['difference'])} ± {short(part[key]['error'])}" for part in parts]
        name, seeds = re.split(" - kpn(?:-full)?, ", key)
        each = parts[0][key].get("each seed", [])
        shown = f" ({', '.join(map(signed, each))})" if len(each) > 1 else ""
        lines.append(f"| {burst_name(name)}, {seeds.replace('1 seeds', '1 seed')}{shown} | {' | '.join(cells)} |")
    return lines


def burst_costs() -> list[str]:
    """What Table 1's networks of the first seed cost, beside their PSNR; counts of those that were trained."""
    measured, counted = result("memory")["networks"], result("table1_burst")["networks"]
    lines = [
        "| network | predicted maps | parameters | multiply-adds a pixel | pass, MiB | ms | step, MiB | ms | PSNR |",
        "| --- |" + " ---: |" * 8,
    ]
    for name, row in sorted(measured.items(), key=lambda item: -item[1]["psnr"]):
        trained = counted[f"{name.split(',')[0]}-seed0"]
        gates = re.search(r", (\d+) gates", name)
        # Gates of a bottleneck: one a feature, and one for the bias.
        features = re.search(r"-from-(\d+)(-full)?, as gates", name)
        maps = gates[1] if gates else int(features[1]) + 1 if features else None
        counts = f"{maps} | | "
        if maps is None:
            a_pixel = trained["multiply-adds"] / 128**2
            counts = f"{trained['channels of the largest code']} | {trained['parameters']:,} | {a_pixel:,.0f}"
        costs = [
            f"{row[f'{kind} MiB']:.0f} | {1000 * row[f'{kind} seconds']:.0f}" for kind in ("inference", "training")
        ]
        lines.append(f"| {burst_name(name)} | {counts} | {' | '.join(costs)} | {row['psnr']:.2f} |")
    return lines


def short(value: float) -> str:
    """Two decimals without a zero in front, as the pages write figures below one.

    >>> short(0.53), short(1.18)
    ('.53', '1.18')
    """
    return f"{value:.2f}".removeprefix("0")


def signed(value: float) -> str:
    """The same with its sign.

    >>> signed(-0.16), signed(0.11)
    ('-.16', '+.11')
    """
    return ("-" if value < 0 else "+") + short(abs(value))


def _mean(rows: list[dict[str, float]], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def over_seeds(values: list[float]) -> str:
    """Mean and standard error of the mean, with three significant digits.

    >>> over_seeds([1.0, 2.0, 3.0]), over_seeds([0.00412])
    ('2.00 ± 0.58', '0.00412')
    """
    mean = statistics.fmean(values)
    digits = max(0, 2 - int(f"{mean:e}".split("e")[1]))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


TABLES: dict[str, Callable[[], list[str]]] = {
    "conditioning": conditioning,
    "layers": layers,
    "initialisation": initialisation,
    "simple-gate": simple_gate,
    "burst-networks": burst_networks,
    "burst-differences": burst_differences,
    "burst-costs": burst_costs,
}


def filled(text: str) -> str:
    """A page with its tables renewed."""
    return BLOCK.sub(lambda found: found[1] + "\n" + "\n".join(TABLES[found[2]]()) + "\n\n" + found[3], text)


def main() -> int:
    """Writes the tables, or with --check says whether they are up to date (exit 1 if not)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is out of date")
    check = parser.parse_args().check
    stale = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(page.name)
            if not check:
                page.write_text(filled(text), encoding="utf-8")
    if check and stale:
        print(f"out of date: docs/{', docs/'.join(stale)}; run: python docs/make_results.py", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
