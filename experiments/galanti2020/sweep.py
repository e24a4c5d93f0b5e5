"""The form of all sweeps: jobs (points of a figure), a result file that grows, a picture of it."""

import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from experiments import report
from experiments.galanti2020.start import STARTS

METHODS = ("embedding", "hypernetwork")
EPOCHS_KEPT = (1, 2, 5, 10, 20)


@dataclass(frozen=True)
class Job:
    """One point: all repetitions of one network, trained at once; x is the figure's axis (layers, or i)."""

    method: str
    x: int
    start: str = "default"
    rate: float = 0.01
    epochs: int = 1
    seeds: int = 10

    def done_by(self, row: dict[str, Any]) -> bool:
        """Whether a row of a result file holds at least this."""
        return self.same(row) and row["seeds"] >= self.seeds and row["epochs"] >= self.epochs

    def replaces(self, row: dict[str, Any]) -> bool:
        """Whether this holds at least what a row of a result file does."""
        return self.same(row) and row["seeds"] <= self.seeds and row["epochs"] <= self.epochs

    def same(self, row: dict[str, Any]) -> bool:
        """Whether a row is of this point, whatever its repetitions and epochs."""
        return all(row[name] == getattr(self, name) for name in ("method", "x", "start", "rate"))


@dataclass(frozen=True)
class Options:
    """What every sweep takes from the command line.

    Args:
        x: the points of the figure's axis; default all of the paper's.
        starts: of the parameters, see start.py.
        rates: learning rates.
        epochs: passes over the training samples.
        seeds: repetitions.
        result: another JSON file than the experiment's own.
        seconds: start nothing new after so long; call again for the rest.
        smoke: a tiny problem, for a test; needs a result file of its own.
    """

    x: list[int] = field(default_factory=list)
    starts: list[str] = field(default_factory=lambda: ["default"])
    rates: list[float] = field(default_factory=lambda: [0.01])
    epochs: int = 1
    seeds: int = 10
    result: Path | None = None
    seconds: float = 540
    smoke: bool = False

    def jobs(self, axis: Iterable[int], methods: Iterable[str] = METHODS) -> list[Job]:
        """Every combination that differs: for the embedding method two of four starts are the same as others."""
        known = dict.fromkeys(methods, STARTS) | {"embedding": ("default", "he")}
        return [
            Job(method, x, start, rate, self.epochs, self.seeds)
            for start, rate, x, method in itertools.product(self.starts, self.rates, self.x or axis, methods)
            if start in known[method]
        ]

    def file(self, default: Path) -> Path:
        """The result file; a smoke run never writes the experiment's own."""
        if self.smoke and self.result is None:
            raise ValueError("--smoke: expected --result FILE, so that no real result is overwritten")
        return self.result or default


Given = Annotated[Options, Parameter(name="*")]


def app(doc: str | None) -> App:
    """A command that takes several numbers after one option."""
    return App(help=doc or "", help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


def summary(values: list[float]) -> dict[str, Any]:
    """Mean and standard error over the finite values, how many are not, and all of them (None: not finite).

    Example
    -------
    >>> summary([1.0, 3.0, float("nan")])
    {'mean': 2.0, 'standard_error': 1.0, 'diverged': 1, 'each': [1.0, 3.0, None]}
    """
    finite = [value for value in values if math.isfinite(value)]
    mean = statistics.mean(finite) if finite else None
    error = statistics.stdev(finite) / math.sqrt(len(finite)) if len(finite) > 1 else None
    each = [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
    return {"mean": mean, "standard_error": error, "diverged": len(values) - len(finite), "each": each}


def sweep(
    jobs: Iterable[Job],
    run: Callable[[Job], dict[str, Any]],
    head: Callable[[], dict[str, Any]],
    result: Path,
    seconds: float,
) -> list[dict[str, Any]]:
    """Run the jobs that the result file does not hold, until the time is up; all its rows."""
    rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"] if result.exists() else []
    began = time.perf_counter()
    for job in jobs:
        if any(job.done_by(row) for row in rows):
            continue
        if time.perf_counter() - began > seconds:
            print("time is up; call again for the rest")
            break
        start, processor = time.perf_counter(), time.process_time()
        after = run(job)
        taken = {"seconds": round(time.perf_counter() - start), "cpu_seconds": round(time.process_time() - processor)}
        rows = [row for row in rows if not job.replaces(row)] + [asdict(job) | {"after_epochs": after} | taken]
        report.write(result, head() | {"rows": rows})
        shown = ", ".join(f"{epoch}: {line(value)}" for epoch, value in after.items())
        print(f"{job.method:12} x {job.x} {job.start:11} rate {job.rate:<6g} epochs {shown}; {taken}", flush=True)
    return rows


def line(value: dict[str, Any]) -> str:
    """A summary in a few letters."""
    if value["mean"] is None:
        return f"diverged in all {value['diverged']}"
    error = "" if value["standard_error"] is None else f" +- {value['standard_error']:.1g}"
    return f"{value['mean']:.3g}{error}" + (f" ({value['diverged']} diverged)" if value["diverged"] else "")
