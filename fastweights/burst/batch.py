"""Bursts to pictures on disk: one after another or in several processes, done ones left alone."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import joblib
import torch
from cyclopts import Parameter

from fastweights.burst import images
from fastweights.burst.compare import side_by_side
from fastweights.burst.errors import BurstError
from fastweights.burst.frames import Crop, Transfer, load
from fastweights.burst.pipeline import Result, denoise
from fastweights.burst.precision import Precision

# The help fits a screen: what a flag's own line says is not said again.
_QUIET = Parameter(show_default=False, show_choices=False)
_SWITCH = Parameter(show_default=False, negative=[])


@dataclass(frozen=True)
class Settings:
    """How bursts are read, denoised and written.

    Args:
        model: gated, gated-clean, kpn or a .safetensors file.
        reference: Frame whose view is kept, from 0; else the sharpest.
        align: Undo motion; leave out what does not fit.
        strength: 0 is the mean of the frames, 1 (default) the network.
        transfer: srgb or linear: values in (raw is linear) and TIFF out.
        white: Value that is white, if not 1 or the type's largest.
        crop: Part to make: left, top, width, height.
        bits: 8, 16 (PNG, TIFF), 32 (TIFF); else as the frames.
        compare: Also one frame, mean, result: NAME.compare.jpg.
        json: Also what was estimated: NAME.json.
        overwrite: Make pictures again that exist.
        tile: Pixels of a tile's side; fewer take less memory.
        precision: float32, bfloat16; else the faster one here.
        threads: Processor threads; by default torch's choice.
    """

    model: str = "gated"
    reference: int | None = None
    align: Annotated[bool, _QUIET] = True
    strength: Annotated[float, _QUIET] = 1.0
    transfer: Annotated[Transfer, _QUIET] = "srgb"
    white: float | None = None
    crop: Annotated[Crop | None, Parameter(negative=[])] = None
    bits: Annotated[Literal[8, 16, 32] | None, _QUIET] = None
    compare: Annotated[bool, _SWITCH] = False
    json: Annotated[bool, _SWITCH] = False
    overwrite: Annotated[bool, _SWITCH] = False
    tile: int = 448
    precision: Annotated[Precision | None, _QUIET] = None
    threads: int | None = None


@dataclass(frozen=True)
class Report:
    """What became of one burst: the lines to show, and whether it went wrong."""

    lines: tuple[str, ...]
    failed: bool = False


def run(
    bursts: Sequence[tuple[Sequence[Path], Path]], settings: Settings, jobs: int = 1, progress: bool = False
) -> Iterator[Report]:
    """Denoises bursts, each (files or folder, picture), in `jobs` processes; reports come in the bursts' order.

    A burst whose picture exists is skipped unless settings.overwrite. A burst that cannot be denoised is reported and
    the others go on. Raises BurstError for jobs below 1.
    """
    if jobs < 1:
        raise BurstError(f"jobs is {jobs}: expected at least 1")
    if min(jobs, len(bursts)) == 1:
        yield from (_guarded(frames, output, settings, progress) for frames, output in bursts)
        return
    threads = settings.threads or max(1, torch.get_num_threads() // jobs)
    settings = dataclasses.replace(settings, threads=threads)
    work = (joblib.delayed(_guarded)(frames, output, settings, False) for frames, output in bursts)
    yield from joblib.Parallel(n_jobs=jobs, return_as="generator")(work)


def _guarded(frames: Sequence[Path], output: Path, settings: Settings, progress: bool) -> Report:
    try:
        return Report(tuple(_one(frames, output, settings, progress)))
    except BurstError as error:
        return Report((str(error),), failed=True)
    except (MemoryError, RuntimeError) as error:
        # Of torch, the latter.
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        return Report((f"not enough memory for {output}: give a smaller --tile, or fewer --jobs",), failed=True)


def _one(frames: Sequence[Path], output: Path, settings: Settings, progress: bool) -> Iterator[str]:
    set_threads(settings.threads)
    # What is sure to fail at the end fails now.
    paths = images.find(frames)
    images.check_output(output, settings.bits or 8, paths, 3, settings.transfer)
    if len(frames) == 1 and frames[0].is_dir() and frames[0].samefile(output.parent):
        raise BurstError(
            f"cannot write {output}: the next run would take it for a frame of the burst {frames[0]}, choose another "
            "folder"
        )
    if output.exists() and not settings.overwrite:
        yield f"skipped {output}: it exists, --overwrite makes it again"
        return
    start = time.perf_counter()
    burst = load(paths, settings.transfer, settings.white, settings.crop)
    bits = settings.bits or _deepest(output, burst.bits)
    images.check_output(output, bits, paths, burst.channels, settings.transfer)
    result = denoise(
        burst,
        model=settings.model,
        reference=settings.reference,
        align=settings.align,
        strength=settings.strength,
        precision=settings.precision,
        tile=settings.tile,
        progress=progress,
    )
    written = [output]
    if settings.compare:
        written.append(output.with_name(f"{output.stem}.compare.jpg"))
        images.write(written[-1], side_by_side(result))
    if settings.json:
        written.append(output.with_name(f"{output.stem}.json"))
        facts = found(result, settings, time.perf_counter() - start)
        images.write_whole(written[-1], (json.dumps(facts, indent=2) + "\n").encode())
    # Last, since its presence says that the burst is done.
    result.write(output, bits, settings.transfer)
    seen, (height, width) = Path(burst.names[result.reference]).name, burst.size
    yield f"{len(burst)} frames of {width} x {height} pixels, shown as {seen} saw it"
    yield from _motion(result) if settings.align else ("motion not looked for",)
    yield f"noise of one frame: {result.noise.summary()}"
    yield f"wrote {', '.join(map(str, written))} after {time.perf_counter() - start:.1f} s"


def found(result: Result, settings: Settings, seconds: float) -> dict[str, Any]:
    """What was estimated, as JSON holds it: lists and numbers, null for what is not known."""
    noise, burst = result.noise, result.burst
    return {
        "frames": list(burst.names),
        "reference": result.reference,
        "left_out": [burst.names[index] for index in range(len(burst)) if index not in result.registration.kept],
        "shifts": [[round(value, 3) for value in shift] for shift in result.shifts.tolist()],
        "turns": [round(value, 3) for value in result.registration.turns.tolist()],
        "gains": [round(value, 4) for value in result.registration.gains.tolist()],
        "fitting": [round(value, 3) for value in result.registration.fitting.tolist()],
        "detail": [_number(value) for value in result.registration.detail.tolist()],
        "noise": {
            "summary": noise.summary(),
            "intensities": [[_number(value) for value in channel] for channel in noise.intensities.tolist()],
            "std": [[_number(value) for value in channel] for channel in noise.std.tolist()],
        },
        "noise_profile": [list(pair) for pair in burst.details[result.reference].noise] or None,
        "model": settings.model,
        "strength": settings.strength,
        "precision": result.precision,
        "seconds": {"all": round(seconds, 3), "without_reading": round(result.seconds, 3)},
        "peak_memory_bytes": peak_memory(),
    }


def _motion(result: Result) -> Iterator[str]:
    found = result.registration
    turned = f", turns up to {found.turns.abs().max():.1f} degrees" if found.turns.any() else ""
    yield f"shifts up to {found.shifts.abs().max():.1f} pixels{turned}"
    left_out = [Path(name).name for index, name in enumerate(result.burst.names) if index not in found.kept]
    if left_out:
        yield f"left out, for they do not fit or are blurred: {', '.join(left_out)}"


def peak_memory() -> int | None:
    """Most bytes that this process has held at any time; None where the system does not tell (Windows).

    Example
    -------
    >>> (peak_memory() or 2**30) > 2**20
    True
    """
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def set_threads(threads: int | None) -> None:
    """Of torch, from now on; None leaves them. Raises BurstError below 1."""
    if threads is not None:
        if threads < 1:
            raise BurstError(f"threads is {threads}: expected at least 1")
        torch.set_num_threads(threads)


def outputs(frames: Sequence[Path], output: Path, suffix: str) -> list[tuple[list[Path], Path]]:
    """Which bursts are meant, each with its picture: files are one burst, several folders one each.

    Several folders need a folder for their pictures, named as theirs; one burst may have one too. Raises BurstError
    for folders mixed with files, two folders of one name, and an output that is no folder.
    """
    frames = [Path(os.path.normpath(path)) for path in frames]
    folders = [path for path in frames if path.is_dir()]
    if len(frames) < 2 or not folders:
        name = (frames[0].resolve().stem if not folders else frames[0].resolve().name) if frames else ""
        return [(frames, output / f"{name}{suffix}" if output.is_dir() else output)]
    # A pattern such as BURSTS/* also meets notes.
    files = [path for path in frames if not path.is_dir()]
    if files:
        raise BurstError(f"{files[0]} is no folder: give the frames of one burst, or folders of a burst each")
    if not output.is_dir():
        raise BurstError(f"{len(folders)} bursts need a folder that exists for their pictures, got --output {output}")
    made = [([folder], output / f"{folder.resolve().name}{suffix}") for folder in folders]
    for index, (folder, picture) in enumerate(made):
        if picture in [other for _, other in made[:index]]:
            raise BurstError(f"two folders would be written to {picture}: {folder[0]} has the name of another")
    return made


def _deepest(output: Path, bits: int) -> Literal[8, 16, 32]:
    """Bits of the frames, or as many as the format holds."""
    suffix = output.suffix.lower()
    if suffix in images.TIFF_SUFFIXES:
        return 32 if bits == 32 else 16 if bits == 16 else 8
    return 16 if bits > 8 and suffix in images.DEEP_SUFFIXES else 8


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if value == value else None
