"""Settings of a training run: what they are, whether they fit together, and whether two runs are one."""

import dataclasses
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fastweights.burst.errors import BurstError
from fastweights.burst.models import ModelConfig

# Settings that change nothing in the result of a step: a run may be resumed with others.
_FREE = ("data", "out", "threads", "workers", "save_every", "eval_every", "log_every", "eval_bursts")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on; the defaults suit the camera task, `paper_protocol` gives the paper's settings.

    Args:
        data: folders of photos; of every ten photos one is held back for validation.
        out: folder for checkpoints, log.jsonl and weights.safetensors; a run found there is resumed.
        model: the network; model.task is the task too.
        start: trained weights to begin with, a shipped name or a file; "" begins afresh.
        steps: number of steps in all.
        batch: bursts a step, over all processes.
        patch: pixels of a burst's side.
        truth: "mean", what very many frames would show on average, or "clean", the picture without noise, which is
            darker in the shadows since noisy pixels clip at black; camera task only.
        aligned: share of the moving bursts whose frames alignment has moved back, up to its error, as `denoise` does;
            in the others it failed; camera task only.
        jpeg: share of the bursts whose frames went through JPEG of quality 80 to 98, camera task only.
        upscale: photo pixels per burst pixel, paper task only.
        lr: peak learning rate.
        schedule: "cosine" falls to 0 after a linear warm-up, "constant" stays.
        warmup: part of the steps that the warm-up takes.
        clip: largest norm of the gradient, 0 = any.
        ema: decay of the averaged weights, which are then judged and exported; 0 = no average.
        annealed: with the per-frame loss, paper task only.
        one_frame: one drawn frame in place of the per-frame loss's sum, paper task only.
        precision: of the network; the loss and the weights are float32.
        seed: of the first weights and of the bursts.
        threads: of torch, 0 = as many as it has now.
        workers: processes that make bursts, 0 = this one.
        save_every: steps between checkpoints.
        eval_every: steps between validations.
        log_every: steps between lines of the log.
        eval_bursts: bursts of a validation.
    """

    data: tuple[str, ...]
    out: str
    model: ModelConfig = dataclasses.field(default_factory=lambda: ModelConfig(task="camera", unit_sum=True))
    start: str = ""
    steps: int = 10_000
    batch: int = 4
    patch: int = 128
    truth: Literal["mean", "clean"] = "mean"
    aligned: float = 0.8
    jpeg: float = 0.0
    upscale: int = 4
    lr: float = 6e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    annealed: bool = True
    one_frame: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    threads: int = 2
    workers: int = 1
    save_every: int = 500
    eval_every: int = 500
    log_every: int = 100
    eval_bursts: int = 32


def paper_protocol(model: ModelConfig, data: tuple[str, ...], out: str, steps: int = 500_000) -> TrainConfig:
    """The settings of Mildenhall et al. 2018: Adam at 1e-4 throughout, batch 4, patch 128, annealed per-frame loss.

    Example
    -------
    >>> paper_protocol(ModelConfig(), ("photos",), "run").schedule
    'constant'
    """
    return TrainConfig(data, out, model, steps=steps, lr=1e-4, schedule="constant", clip=0.0, ema=0.0)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step 0..steps - 1, a pure function of it.

    Example
    -------
    >>> config = TrainConfig((), "run", steps=100, lr=1.0, warmup=0.1)
    >>> [round(learning_rate(config, step), 2) for step in (0, 4, 9, 55, 99)]
    [0.1, 0.5, 1.0, 0.5, 0.0]
    """
    if config.schedule == "constant":
        return config.lr
    warm = round(config.warmup * config.steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (config.steps - warm)))


def check(config: TrainConfig, processes: int = 1) -> None:
    """Raise BurstError for settings that do not fit together, or not the number of processes."""
    for name in ("steps", "batch", "patch", "upscale", "save_every", "eval_every", "log_every", "eval_bursts"):
        if getattr(config, name) < 1:
            raise BurstError(f"{name} is {getattr(config, name)}: give at least 1")
    for name in ("lr", "clip", "seed", "threads", "workers"):
        if not 0 <= getattr(config, name) < math.inf:
            raise BurstError(f"{name} is {getattr(config, name)}: give a finite number of at least 0")
    for name in ("aligned", "jpeg"):
        if not 0 <= getattr(config, name) <= 1:
            raise BurstError(f"{name} is {getattr(config, name)}: give a share of 0 to 1")
    for name in ("ema", "warmup"):
        if not 0 <= getattr(config, name) < 1:
            raise BurstError(f"{name} is {getattr(config, name)}: give at least 0 and less than 1")
    for name, allowed in (
        ("schedule", ("cosine", "constant")),
        ("precision", ("float32", "bfloat16")),
        ("truth", ("mean", "clean")),
    ):
        if getattr(config, name) not in allowed:
            raise BurstError(f"{name} is {getattr(config, name)!r}: give {allowed[0]!r} or {allowed[1]!r}")
    if config.batch % processes:
        raise BurstError(f"batch is {config.batch}: give a multiple of the {processes} processes that share it")
    if not config.data:
        raise BurstError("no data: give at least one folder of photos")
    if not config.out:
        raise BurstError("out is '': give a folder for what the run writes")


def identity(config: TrainConfig, photos: Sequence[np.ndarray]) -> dict[str, Any]:
    """All that the result of a run depends on, flat; the photos by a checksum, wherever they lie.

    Example
    -------
    >>> found = identity(TrainConfig(("photos",), "run"), [np.zeros((2, 2, 3), np.uint8)])
    >>> found["model.width"], found["photos"]
    (64, '1 photos, crc32 7bd5c66f')
    """
    checksum = 0
    for photo in photos:
        checksum = zlib.crc32(np.ascontiguousarray(photo).data, checksum)
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    flat = {f"model.{name}": value for name, value in settings.pop("model").items()}
    flat |= {name: value for name, value in settings.items() if name not in _FREE}
    return flat | {"photos": f"{len(photos)} photos, crc32 {checksum:08x}"}


def check_same(ours: dict[str, Any], theirs: dict[str, Any], out: str) -> None:
    """Raise BurstError if the identity of the run in `out` is not ours; a setting it lacks has its default."""
    theirs = identity(TrainConfig((), ""), []) | theirs
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise BurstError(
                f"{out!r} holds a run with {name} = {theirs.get(name)!r} and this one has {ours.get(name)!r}: "
                "give another out folder, or the old setting to go on with that run"
            )
