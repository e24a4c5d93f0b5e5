"""The form of all sweeps: jobs (points of a figure) in one process, several or a cluster, and their result file."""

import contextlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import joblib
import torch
from cyclopts import App, Parameter

from experiments import report
from experiments.galanti2020.start import STARTS

T = TypeVar("T")
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
        processes: jobs at a time, each in a process of its own with one thread.
        cluster: address of a Dask scheduler, tcp://HOST:PORT, whose workers run the jobs (extra `cluster`).
        smoke: a tiny problem, for a test; needs a result file of its own.
    """

    x: list[int] = field(default_factory=list)
    starts: list[str] = field(default_factory=lambda: ["default"])
    rates: list[float] = field(default_factory=lambda: [0.01])
    epochs: int = 1
    seeds: int = 10
    result: Path | None = None
    seconds: float = 540
    processes: int = 1
    cluster: str = ""
    smoke: bool = False

    def jobs(self, axis: Iterable[int], methods: Iterable[str] = METHODS) -> list[Job]:
        """Every combination that differs: for the embedding method two of four starts are the same as others."""
        if wrong := set(self.starts) - set(STARTS):
            raise SystemExit(f"--starts {' '.join(sorted(wrong))}: expected some of {', '.join(STARTS)}")
        if min(self.seeds, self.epochs) < 1:
            raise SystemExit(f"--seeds {self.seeds} --epochs {self.epochs}: expected at least 1 of each")
        known = dict.fromkeys(methods, STARTS) | {"embedding": ("default", "he")}
        return [
            Job(method, x, start, rate, self.epochs, self.seeds)
            for start, rate, x, method in itertools.product(self.starts, self.rates, self.x or axis, methods)
            if start in known[method]
        ]

    def file(self, default: Path) -> Path:
        """The result file; a smoke run never writes the experiment's own."""
        if self.smoke and self.result is None:
            raise SystemExit("--smoke: expected --result FILE, so that no real result is overwritten")
        return self.result or default


class Once(Generic[T]):
    """A function's value, made at the first call in every process; a copy sent to another process makes its own."""

    def __init__(self, make: Callable[[], T]):
        self.make, self.values = make, list[T]()

    def __call__(self) -> T:
        """The value."""
        if not self.values:
            self.values.append(self.make())
        return self.values[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return Once, (self.make,)


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
    options: Options,
) -> list[dict[str, Any]]:
    """Run the jobs that the result file does not hold, until the time is up; all its rows.

    A row is written as soon as its job is done, so what was killed goes on where it stopped. Jobs do not depend on
    each other: the numbers are the same in one process, in several and on a cluster.
    """
    rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"] if result.exists() else []
    missing = [job for job in jobs if not any(job.done_by(row) for row in rows)]
    for job, after, taken in _done(missing, run, options):
        rows = [row for row in rows if not job.replaces(row)] + [asdict(job) | {"after_epochs": after} | taken]
        report.write(result, head() | {"rows": rows})
        shown = ", ".join(f"{epoch}: {line(value)}" for epoch, value in after.items())
        print(f"{job.method:12} x {job.x} {job.start:11} rate {job.rate:<6g} epochs {shown}; {taken}", flush=True)
    return rows


def _done(
    jobs: list[Job], run: Callable[[Job], dict[str, Any]], options: Options
) -> Iterator[tuple[Job, dict[str, Any], dict[str, int]]]:
    """Jobs in the order in which they end, with what they gave and the time they took."""
    began = time.perf_counter()

    def in_time() -> Iterator[Job]:
        for job in jobs:
            if time.perf_counter() - began > options.seconds:
                print("time is up; call again for the rest")
                return
            yield job

    with _cluster(options.cluster):
        parallel = joblib.Parallel(
            n_jobs=options.processes, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
        )
        yield from parallel(joblib.delayed(_one)(run, job) for job in in_time())


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[None]:
    """joblib's calls go to the workers of a Dask scheduler, where one is given."""
    if not address:
        yield
        return
    from distributed import Client

    with Client(address), joblib.parallel_config("dask"):
        yield


def _one(run: Callable[[Job], dict[str, Any]], job: Job) -> tuple[Job, dict[str, Any], dict[str, int]]:
    torch.set_num_threads(1)
    start, processor = time.perf_counter(), time.process_time()
    after = run(job)
    taken = {"seconds": round(time.perf_counter() - start), "cpu_seconds": round(time.process_time() - processor)}
    return job, after, taken


def line(value: dict[str, Any]) -> str:
    """A summary in a few letters."""
    if value["mean"] is None:
        return f"diverged in all {value['diverged']}"
    error = "" if value["standard_error"] is None else f" +- {value['standard_error']:.1g}"
    return f"{value['mean']:.3g}{error}" + (f" ({value['diverged']} diverged)" if value["diverged"] else "")
