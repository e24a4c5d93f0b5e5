"""Does every layer of the zoo learn from its context? And the discussion's two comparisons, on the same tasks.

Claim (Sec. 5): gated networks train from an ordinary initialisation, where networks with predicted weights need a
special one. Beside it: NAFNet's gate has no activation function and needs none.
Command: `python -m experiments.mueller2024.layers_that_learn`, resumed by calling it again; needs FASTWEIGHTS_DATA.
Each layer of the zoo with a context is trained in a small network on a small real task of its kind, twice from the same
start: with its own context, and with every predictor reading the context of another sample of the batch, in training
and in the test. A smoke table: some hundred steps, no benchmark. Where few steps taught nothing, steps, rate and decay
are chosen on validation parts (`--choosing`), the same for both.
`StaticHyperConv2d` has no context to shuffle (its codes are learned numbers), `HyperHead`, `siren` and `with_inverse`
are parts.
Measured: results/layers_that_learn.json, as a table in docs/layers_that_learn.md.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cyclopts import App
from torch import nn

from experiments import report
from experiments.mueller2024.small_networks import ROWS, Row, shuffled
from experiments.mueller2024.starts import STARTS
from experiments.mueller2024.without_activation import GATES

RESULT = Path("results/layers_that_learn.json")
TESTED = 16
app = App(help=__doc__, help_format="plaintext")


@dataclass(frozen=True)
class How:
    """choosing: learn on "fit" and test on "validation", not "train" and "test". smoke: two steps, one batch."""

    choosing: bool = False
    smoke: bool = False


def loss(row: Row, seed: int, how: How, *, mixed: bool = False) -> float:
    """Test loss after training one network; with mixed=True every predictor reads another sample's context."""
    torch.manual_seed(seed)
    network = row.build()
    learned, tested = ("fit", "validation") if how.choosing else ("train", "test")
    with shuffled(network) if mixed else nullcontext():
        train(network, row, learned, seed, 2 if how.smoke else row.steps)
        return test(network, row, tested, 1 if how.smoke else TESTED)


def train(network: nn.Module, row: Row, part: str, seed: int, steps: int) -> None:
    """AdamW at a constant rate; the batches are the same for whatever is compared."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=row.rate, weight_decay=row.decay)
    for step in range(steps):
        inputs, target = row.task.batch(part, seed, step)
        optimiser.zero_grad()
        row.task.loss(network(*inputs), target).backward()
        optimiser.step()


@torch.no_grad()
def test(network: nn.Module, row: Row, part: str, batches: int) -> float:
    """Mean loss over batches of a part."""
    network.eval()
    tested = (row.task.batch(part, -1, step) for step in range(batches))
    return sum(row.task.loss(network(*inputs), target).item() for inputs, target in tested) / batches


def layer(row: Row, seed: int, how: How) -> dict[str, float]:
    """One line of the first table."""
    return {"own": loss(row, seed, how), "shuffled": loss(row, seed, how, mixed=True)}


def alone(row: Row, seed: int, how: How) -> dict[str, float]:
    """One line of the others."""
    return {"own": loss(row, seed, how)}


Run = Callable[[Row, int, How], dict[str, float]]
PARTS: dict[str, tuple[list[Row], Run]] = {
    "layers": (ROWS, layer),
    "initialisation": (STARTS, alone),
    "simple gate": (GATES, alone),
}


def pending(rows: dict[str, Any], seeds: int) -> Iterable[tuple[str, Row, Run, int]]:
    """What the results do not hold yet, all layers of a seed before the next seed."""
    for seed in range(seeds):
        for part, (listed, run) in PARTS.items():
            for row in listed:
                if str(seed) not in rows.get(part, {}).get(row.name, {}).get("seeds", {}):
                    yield part, row, run, seed


@app.default
def main(
    *,
    seeds: int = 3,
    only: list[str] | None = None,
    result: Path = RESULT,
    choosing: bool = False,
    smoke: bool = False,
) -> None:
    """Train what the result file does not hold yet.

    Args:
        seeds: Starts and orders of batches.
        only: Names of rows; the others are left out.
        result: The JSON file, written after every line.
        choosing: Test on validation parts; needs a result file of its own.
        smoke: Two steps, one batch of the test and one seed, for a test; needs a result file of its own.

    Raises ValueError for choosing or smoke with the result file that is kept.
    """
    if (choosing or smoke) and result == RESULT:
        raise SystemExit(f"choosing and smoke need a result file of their own, not {result}")
    torch.set_num_threads(1)
    rows: dict[str, Any] = json.loads(result.read_text())["parts"] if result.exists() else {}
    for part, row, run, seed in pending(rows, 1 if smoke else seeds):
        if only and row.name not in only:
            continue
        found = run(row, seed, How(choosing, smoke))
        line = rows.setdefault(part, {}).setdefault(row.name, {"task": row.task.name, "steps": row.steps, "seeds": {}})
        line["seeds"][str(seed)] = {name: round(value, 6) for name, value in found.items()}
        report.write(result, {"test batches": TESTED, "parts": rows})
        print(f"{part}, {row.name}, seed {seed}: {line['seeds'][str(seed)]}", flush=True)


if __name__ == "__main__":
    app()
