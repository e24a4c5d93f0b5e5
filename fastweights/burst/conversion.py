"""The command that makes a gated network's file of a kernel network's: folds, measures, writes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch.utils.data import default_collate

from fastweights.burst import folding, images, report, weights
from fastweights.burst.errors import BurstError
from fastweights.burst.folding import FoldedWeight
from fastweights.burst.models import Denoiser, ModelConfig
from fastweights.burst.synthesis.photos import load_photos
from fastweights.burst.tasks import CameraTask, PaperTask, Task
from fastweights.cost import Cost, measure

# Bursts of one seed say which gates are kept, those of the other what it costs; of this side, that many.
_KEPT_BY, _JUDGED_BY = 1, 2
_PATCH, _BURSTS, _JUDGED, _BATCH = 128, 32, 8, 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a conversion did, the network before and after it on the same bursts.

    difference: largest of two pictures, in linear light; psnr: mean in dB over the bursts. Costs are of one burst of
    `size` pixels.
    """

    weights: tuple[FoldedWeight, ...]
    before: Cost
    after: Cost
    psnr_before: float
    psnr_after: float
    difference: float
    size: tuple[int, int]
    bursts: str

    @property
    def exact(self) -> bool:
        """Whether no gate was left out: the pictures differ by rounding."""
        return all(weight.gates == weight.exact for weight in self.weights)

    @property
    def saves(self) -> bool:
        """Whether it is cheaper in parameters, multiply-adds or memory."""
        pairs = zip(dataclasses.astuple(self.before), dataclasses.astuple(self.after), strict=True)
        return any(isinstance(before, int) and after < before for before, after in pairs)


def check(output: Path, result: Path | None) -> None:
    """Raises BurstError now for what could not be written after the work."""
    if output.exists():
        raise BurstError(f"{output} exists: give another name, or remove it first")
    weights.check_output(output)
    if result is not None and (result.is_dir() or not result.parent.is_dir()):
        raise BurstError(f"cannot write {result}: it is a folder, or stands in none; give the name of a JSON file")


def convert(name: str, output: Path, rank: int | None, data: Path | None) -> Outcome:
    """Write the gated form of the weights `name` to a new file; see the command's help.

    Raises BurstError for weights that are missing or gated, a rank that is not possible, photos that cannot be read.
    """
    network = weights.load(name)
    photos = load_photos(data) if data is not None else [_sample()]
    task = _task(network.config)
    kept_by = _batches(task, photos, _KEPT_BY, _BURSTS) if rank is not None and data is not None else []
    gated, found = folding.fold(network, rank, folding.observe(network, [task.inputs(batch) for batch in kept_by]))
    source = "the photo that ships" if data is None else f"{len(photos)} photos of {data.name}"
    outcome = _judge(network, gated, found, _batches(task, photos, _JUDGED_BY, _JUDGED), task, source)
    card = {
        "converted": {
            "from": Path(name).name,
            "checksum": weights.checksum(name),
            "kept": "every gate" if rank is None else "singular values" if not kept_by else f"pictures of {source}",
            **as_json(outcome),
        },
        "source": weights.card(name),
    }
    weights.save_weights(output, gated, gated.config, card)
    return outcome


def table(outcome: Outcome) -> Table:
    """Before and after, a line each."""
    found = Table("", "before", "after")
    for weight in outcome.weights:
        found.add_row(f"{weight.name}: numbers a pixel", f"{weight.kernel} of a kernel", f"{weight.gates} gates")
    before, after = outcome.before, outcome.after
    found.add_row("parameters", f"{before.parameters:,}", f"{after.parameters:,}")
    found.add_row("multiply-adds", *(f"{cost.multiply_adds / 1e6:,.0f} M" for cost in (before, after)))
    found.add_row("largest tensor", *(_tensor(cost) for cost in (before, after)))
    found.add_row("PSNR dB", f"{outcome.psnr_before:.2f}", f"{outcome.psnr_after:.2f}")
    return found


def sentence(outcome: Outcome) -> str:
    """What became of the picture, and whether it was worth it."""
    pictures = f"pictures differ by at most {outcome.difference:.1e} on {outcome.bursts}"
    if not outcome.exact:
        bounds = ", ".join(f"{weight.name} {weight.bound:.1e}" for weight in outcome.weights)
        return f"truncated: {pictures}; a kernel by at most its features' norm times: {bounds}"
    saving = "" if outcome.saves else "; it saves nothing: such a head needs --rank, and --data to choose by"
    return f"exact: {pictures}{saving}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain numbers."""
    return {"exact": outcome.exact, **dataclasses.asdict(outcome)}


def write(path: Path, outcome: Outcome) -> None:
    """The outcome as a JSON file; BurstError if it cannot be written."""
    report.write_json(path, as_json(outcome))


def _sample() -> np.ndarray:
    return (255 * images.read(images.SAMPLE)).round().byte().permute(1, 2, 0).numpy()


def _task(config: ModelConfig) -> Task:
    if config.task == "camera":
        return CameraTask(_PATCH, config.frames, "mean", aligned=1.0, jpeg=0.0)
    return PaperTask(_PATCH, config.frames, upscale=4, steps=1, annealed=False, one_frame=False, seed=0)


def _batches(task: Task, photos: Sequence[np.ndarray], seed: int, count: int) -> list[Any]:
    bursts = task.bursts(photos, seed)
    return [default_collate([bursts[n] for n in range(first, first + _BATCH)]) for first in range(0, count, _BATCH)]


@torch.no_grad()
def _judge(
    network: Denoiser, gated: Denoiser, found: Sequence[FoldedWeight], batches: Sequence[Any], task: Task, source: str
) -> Outcome:
    difference = 0.0
    psnrs: tuple[list[float], list[float]] = ([], [])
    for batch in batches:
        pictures = [task.denoise(one, batch) for one in (network, gated)]
        difference = max(difference, (pictures[0] - pictures[1]).abs().max().item())
        for kept, picture in zip(psnrs, pictures, strict=True):
            kept.append(task.figures(picture, batch)["psnr"])
    one = tuple(tensor[:1] for tensor in task.inputs(batches[0]))
    before, after = measure(network, *one), measure(gated, *one)
    mean_before, mean_after = (float(np.mean(kept)) for kept in psnrs)
    bursts = f"{_JUDGED} bursts made from {source}"
    size = (_PATCH, _PATCH)
    return Outcome(tuple(found), before, after, mean_before, mean_after, difference, size, bursts)


def _tensor(cost: Cost) -> str:
    return f"{' x '.join(map(str, cost.largest))} ({cost.largest_bytes / 2**20:.1f} MiB)"
