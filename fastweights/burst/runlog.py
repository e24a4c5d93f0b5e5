"""What a training run says: a bar on a terminal or plain lines elsewhere, and OUT/log.jsonl in both cases."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class RunLog:
    """Appends records to a JSON-lines file and shows them on stderr; a context manager.

    path: the file; records of steps after `start` are dropped from it first (their checkpoint was lost in a kill).
    shown=False writes the file only, path=None neither (the other processes of a run with several).

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "log.jsonl"
    ...     with RunLog(path, start=0, steps=10, shown=False) as log:
    ...         log.write({"step": 5, "loss": 0.25})
    ...     path.read_text()
    '{"step": 5, "loss": 0.25}\\n'
    """

    def __init__(self, path: Path | None, start: int, steps: int, shown: bool = True) -> None:
        self._path, self._start, self._steps = path, start, steps
        self._console = Console(stderr=True, quiet=not shown or path is None)
        self._bar: Progress | None = None

    def __enter__(self) -> "RunLog":
        if self._path is not None and self._path.exists():
            kept = [line for line in self._path.read_text(encoding="utf-8").splitlines() if self._is_past(line)]
            draft = self._path.with_suffix(".draft")
            draft.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            os.replace(draft, self._path)
        if self._console.is_terminal and not self._console.quiet:
            columns = [BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._steps, completed=self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """Move the bar to a number of steps done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record with a "step" to the file and show it."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        line = _text(record)
        if self._bar is not None and "psnr" not in record:
            self._bar.update(self._task, description=line)
        else:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Show a line that belongs to no step."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _is_past(self, line: str) -> bool:
        try:
            return 0 < self._start >= json.loads(line)["step"]
        except ValueError:
            return False  # the half of a line that a kill left


class Clock:
    """Seconds a step since the last question, and of these the wait for data; without validation and saving."""

    def __init__(self) -> None:
        self._steps, self._wait, self._work = 0, 0.0, 0.0
        self.restart()

    def restart(self) -> None:
        self._mark = time.perf_counter()

    def waited(self) -> None:
        self._wait += time.perf_counter() - self._mark
        self.restart()

    def worked(self) -> None:
        self._work += time.perf_counter() - self._mark
        self._steps += 1
        self.restart()

    def seconds_a_step(self) -> dict[str, float]:
        spent = {"seconds": (self._wait + self._work) / self._steps, "wait": self._wait / self._steps}
        self._steps, self._wait, self._work = 0, 0.0, 0.0
        return {name: round(value, 4) for name, value in spent.items()}


def _text(record: Mapping[str, object]) -> str:
    parts = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.items()]
    return "  ".join(parts)
