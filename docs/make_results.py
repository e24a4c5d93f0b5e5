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
