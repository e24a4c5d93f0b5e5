"""How good is a denoiser: PSNR and SSIM of networks and of classical methods on shared bursts, or on a real one."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

import fastweights
from fastweights.burst import cases, images, methods, report, weights
from fastweights.burst.cases import Case
from fastweights.burst.errors import BurstError
from fastweights.burst.frames import load
from fastweights.burst.losses import BORDER, psnr
from fastweights.burst.methods import Method
from fastweights.burst.synthesis.photos import load_photos
from fastweights.burst.transfer import kpn_encode, srgb_decode, srgb_encode

_SHEETS = 4


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean and standard error over the bursts of a set; seconds are the median of one burst."""

    psnr: float
    psnr_error: float
    ssim: float
    ssim_error: float
    seconds: float


def compare(case: Case, picture: Float[Tensor, "c h w"]) -> tuple[float, float]:
    """PSNR in dB and SSIM (Wang et al. 2004, Gaussian window, torchmetrics) of a picture."""
    # Here, because it imports for a second, and most commands compare nothing.
    from torchmetrics.functional.image import structural_similarity_index_measure

    level = torch.tensor([case.white])
    found = psnr(
        picture[None],
        case.truth[None],
        clip=case.clip,
        white_level=level,
        encode=kpn_encode if case.sensor else srgb_encode,
    )
    ours, truth = (case.encode(x)[..., BORDER:-BORDER, BORDER:-BORDER].clamp(0, 1)[None] for x in (picture, case.truth))
    similar = structural_similarity_index_measure(ours, truth, data_range=1.0)
    assert isinstance(similar, Tensor)
    return found.item(), similar.item()


def evaluate(
    case_of: Callable[[int], Case],
    count: int,
    methods: Mapping[str, Method],
    done: Callable[[int, Case, dict[str, Tensor]], None] = lambda number, case, pictures: None,
) -> tuple[dict[str, Score], dict[str, list[float]]]:
    """Scores of the methods on bursts 0 .. count - 1, and the PSNR of every burst for paired comparisons.

    `done` gets each burst's number, case and pictures by method.
    """
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    for number in range(count):
        case, pictures = case_of(number), {}
        for name, method in methods.items():
            start = time.perf_counter()
            pictures[name] = method(case)
            seconds = time.perf_counter() - start
            rows[name].append((*compare(case, pictures[name]), seconds))
        done(number, case, pictures)
    return {name: _score(row) for name, row in rows.items()}, {
        name: [one[0] for one in row] for name, row in rows.items()
    }


def _score(rows: Sequence[tuple[float, float, float]]) -> Score:
    values = np.array(rows)
    error = values.std(0, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else np.full(3, np.nan)
    return Score(*map(float, (values[:, 0].mean(), error[0], values[:, 1].mean(), error[1], np.median(values[:, 2]))))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Mean difference of two methods over the same bursts, and its standard error.

    Example
    -------
    >>> paired([3.0, 4.0, 5.0], [2.0, 2.0, 2.0])
    {'difference': 2.0, 'error': 0.58}
    """
    difference = np.subtract(ours, theirs)
    error = difference.std(ddof=1) / math.sqrt(len(difference)) if len(difference) > 1 else math.nan
    return {"difference": round(float(difference.mean()), 2), "error": round(float(error), 2)}


def as_json(scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """Scores as plain rounded numbers."""
    digits = {"psnr": 2, "psnr_error": 2, "ssim": 4, "ssim_error": 4, "seconds": 3}
    return {
        name: {key: round(value, digits[key]) for key, value in dataclasses.asdict(score).items()}
        for name, score in scores.items()
    }


@dataclasses.dataclass(frozen=True)
class Request:
    """What to compare, and on what; see the command's help."""

    source: Path
    sets: tuple[str, ...]
    reference: Path | None
    models: tuple[str, ...]
    count: int
    bm3d: bool


def run(request: Request, result: Path | None, pictures: Path | None, console: Console) -> None:
    """Print one table for each set; write what was asked for.

    Raises BurstError for what cannot be read, fits no set or cannot be written.
    """
    if result is not None and not result.parent.is_dir():
        raise BurstError(f"cannot write {result}: the folder {result.parent} does not exist, make it first")
    if pictures is not None and not pictures.is_dir():
        raise BurstError(f"cannot write pictures: {pictures} is no folder, make it first")
    if request.count < 1:
        raise BurstError(f"count is {request.count}: give at least 1")
    names = request.models or tuple(weights.available())
    networks = {name: weights.load(name) for name in names}
    sums = {name: weights.checksum(name) for name in names}
    found: dict[str, Any] = {}
    for name, case_of in _bursts(request).items():
        ways = methods.classical(request.bm3d)
        ours = {Path(key).stem: one for key, one in networks.items() if methods.fits(one, name)}
        ways |= {key: methods.network_method(one) for key, one in ours.items()}
        scores, each = _scores(name, case_of, 1 if request.reference else request.count, ways, pictures)
        console.print(report.table(name, as_json(scores)))
        found[name] = {"scores": as_json(scores)}
        if ours and len(next(iter(each.values()))) > 1:
            first = next(iter(ours))
            others = {key: paired(each[first], each[key]) for key in each if key != first}
            found[name][f"{first} above"] = others
            console.print(f"{first} above " + ", ".join(_difference(*item) for item in others.items()))
        if result is not None:
            psnrs = {key: round(score.psnr, 2) for key, score in scores.items()}
            looks = report.log_look(result.with_suffix(".looks.jsonl"), name, sums, psnrs)
            console.print(f"look number {looks} at {name}")
    if result is not None:
        head = {"version": fastweights.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
        report.write_json(result, head | {"count": request.count, "weights": sums, "sets": found})


def _bursts(request: Request) -> dict[str, Callable[[int], Case]]:
    if request.reference is None:
        photos = load_photos(request.source)
        return {name: cases.cases(name, photos) for name in request.sets}
    burst = load(request.source)
    frames = torch.stack([burst.light(index) for index in range(len(burst))])
    truth = _reference(request.reference)
    if frames.shape[1:] != truth.shape:
        raise BurstError(f"frames are {tuple(frames.shape[1:])} and {request.reference} is {tuple(truth.shape)}")
    case = cases.camera_case(frames, truth)
    return {str(request.source.name): lambda number: case}


def _reference(path: Path) -> Float[Tensor, "3 h w"]:
    if path.suffix != ".npy":
        return srgb_decode(images.read(path))
    try:
        light = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BurstError(f"cannot read {path}: {error}") from error
    if light.ndim != 3 or light.shape[2] != 3 or not np.issubdtype(light.dtype, np.floating):
        raise BurstError(f"{path} is {light.dtype} {light.shape}: expected linear light 0..1, floating point (H, W, 3)")
    return torch.from_numpy(np.ascontiguousarray(light.transpose(2, 0, 1), np.float32))


def _scores(
    name: str, case_of: Callable[[int], Case], count: int, ways: dict[str, Method], pictures: Path | None
) -> tuple[dict[str, Score], dict[str, list[float]]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=count)

        def done(number: int, case: Case, made: dict[str, Tensor]) -> None:
            progress.update(task, advance=1)
            if pictures is not None and number < _SHEETS:
                images.write(pictures / f"{name}-{number}.png", report.sheet(case, made))

        return evaluate(case_of, count, ways, done)


def _difference(name: str, found: dict[str, float]) -> str:
    return f"{name} by {found['difference']:.2f} ± {found['error']:.2f}"
