"""Training of a burst network in one loop that a kill cannot hurt: every step is a pure function of (seed, step)."""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fastweights.burst import checkpoint, models
from fastweights.burst.errors import BurstError
from fastweights.burst.runlog import Clock, RunLog
from fastweights.burst.settings import TrainConfig, check, check_same, identity, learning_rate
from fastweights.burst.synthesis.photos import load_photos, split
from fastweights.burst.tasks import CameraTask, Figures, Network, PaperTask, Task, Validation
from fastweights.burst.weights import load, save_weights

VALIDATION_SEED = 20180518  # the same held-back bursts for every run, whatever its seed
_SMOOTHING = 0.02


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The network (averaged if ema > 0, eval mode), its file, the smoothed loss, the last validation's figures."""

    model: nn.Module
    weights: Path
    loss: float
    figures: Figures


def train(config: TrainConfig) -> TrainResult:
    """Train from the newest checkpoint in config.out, or from the start, and write OUT/weights.safetensors.

    OUT/log.jsonl gets the loss every `log_every` steps, and every `eval_every` steps the PSNR on held-back bursts
    beside that of two answers without a network, the mean of the frames and the reference alone. On one thread in
    float32, a run that was killed and started again ends with the same bits as one that was not.

    Raises BurstError for settings that do not fit together, a checkpoint of other settings, a loss that is not finite.

    Example
    -------
    >>> train(TrainConfig(("photos",), "run", batch=0))
    Traceback (most recent call last):
        ...
    fastweights.burst.errors.BurstError: batch is 0: give at least 1
    """
    # accelerate keeps one precision a process; autocast by hand lets the next run in the same process have another.
    # It joins processes without an accelerator only when told that they have none.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    check(config, accelerator.num_processes)
    with _threads(config.threads):
        return _train(config, accelerator)


@contextlib.contextmanager
def _alone(out: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keeps a second run out of the folder; the lock goes with the process, however it ends."""
    if not accelerator.is_main_process:
        yield
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BurstError(f"cannot make the folder {str(out)!r}: {error.strerror}") from error
    lock = FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BurstError(f"another run is at work in {str(out)!r}: wait for its end, or give another folder") from error
    try:
        yield
    finally:
        lock.release()


def _begin_with(model: models.Denoiser, config: TrainConfig) -> None:
    given = load(config.start)
    try:
        model.load_state_dict(given.state_dict())
    except RuntimeError as error:
        theirs, ours = dataclasses.asdict(given.config), dataclasses.asdict(config.model)
        differing = [name for name in ours if ours[name] != theirs[name]]
        needed, found = (", ".join(f"{name} {of[name]}" for name in differing) for of in (theirs, ours))
        raise BurstError(
            f"the weights {config.start!r} to begin with are of a network with {needed}, and this one has {found}: "
            "give the same settings, or other weights"
        ) from error


def _train(config: TrainConfig, accelerator: Accelerator) -> TrainResult:
    out, main, device = Path(config.out), accelerator.is_main_process, accelerator.device
    photos = [photo for folder in config.data for photo in load_photos(folder)]
    ours = identity(config, photos)
    photos, held_back = split(photos)
    if not held_back:
        folders = ", ".join(map(repr, config.data))
        raise BurstError(f"{len(photos)} photos in {folders}: give at least 5, some are held back for validation")
    task = _task(config)

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = models.build(config.model)
    if config.start:
        _begin_with(model, config)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    averaged = copy.deepcopy(model).requires_grad_(False) if config.ema else model
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8)
    with _alone(out, accelerator):
        start, smoothed, figures = 0, None, {}
        found = checkpoint.load_latest(out / "checkpoints")
        if found is not None:
            check_same(ours, found.meta["config"], config.out)
            found.restore(model, optimizer, averaged if config.ema else None)
            start, figures = found.step, found.meta["figures"]
            smoothed = torch.tensor(found.meta["loss"], device=device)

        network = _network(accelerator.prepare_model(model), config, device)
        judged = _network(averaged, config, device)
        validation = _validation(config, task, held_back, device) if main else None
        with RunLog(out / "log.jsonl" if main else None, start, config.steps) as log:
            if validation is not None and start == 0:
                log.write({"step": 0, **_judge(validation, averaged, judged)})
            clock = Clock()
            for step, batch in _batches(config, task.bursts(photos, config.seed), start, accelerator):
                clock.waited()
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, step)
                loss = task.loss(network, batch, step)
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(loss)
                if config.clip:
                    accelerator.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                if config.ema:
                    # A young average forgets its start sooner.
                    _average(averaged, model, min(config.ema, (1 + step) / (10 + step)))
                smoothed = loss.detach() if smoothed is None else smoothed.lerp(loss.detach(), _SMOOTHING)
                clock.worked()

                done = step + 1
                log.advance(done)
                if _due(config.log_every, done, config):
                    # All processes take part in the mean.
                    shown = {"loss": accelerator.reduce(smoothed, "mean").item(), "lr": learning_rate(config, step)}
                    log.write({"step": done, **shown, **clock.seconds_a_step()})
                if validation is not None and _due(config.eval_every, done, config):
                    figures = _judge(validation, averaged, judged)
                    log.write({"step": done, **figures})
                if main and _due(config.save_every, done, config):
                    meta = {"config": ours, "loss": _finite(smoothed.item(), done), "figures": figures}
                    checkpoint.save(out / "checkpoints", done, model, optimizer, meta, averaged if config.ema else None)
                clock.restart()
            path = out / "weights.safetensors"
            if main:
                # Names only: a card goes round the world, the folders of this machine do not.
                training = {
                    **ours,
                    "data": [Path(folder).name for folder in config.data],
                    "start": Path(config.start).name,
                }
                save_weights(path, averaged, config.model, {"training": training, "figures": figures})
                log.say(f"wrote {path}")
        accelerator.wait_for_everyone()
        return TrainResult(averaged.eval(), path, math.nan if smoothed is None else smoothed.item(), figures)


def _task(config: TrainConfig) -> Task:
    model = config.model
    if model.task == "camera":
        return CameraTask(config.patch, model.frames, config.truth, config.aligned, config.jpeg)
    return PaperTask(
        config.patch, model.frames, config.upscale, config.steps, config.annealed, config.one_frame, config.seed
    )


def _network(model: nn.Module, config: TrainConfig, device: torch.device) -> Network:
    """The model at the run's precision; the loss is always taken in float32."""

    def network(*inputs: Tensor, **options: int | bool) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            return model(*inputs, **options).float()

    return network


def _batches(config: TrainConfig, bursts: Dataset, start: int, accelerator: Accelerator) -> Iterator[tuple[int, Any]]:
    """(step, batch) from a step on: bursts step * batch ... + batch - 1, of which each process makes its share."""
    share = config.batch // accelerator.num_processes
    offset = share * accelerator.process_index
    numbers = (
        list(range(first + offset, first + offset + share))
        for first in range(start * config.batch, config.steps * config.batch, config.batch)
    )
    device = accelerator.device
    loader = DataLoader(
        bursts,
        batch_sampler=numbers,
        num_workers=config.workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or it would draw from the caller's
    )
    for step, batch in enumerate(loader, start):
        yield step, _to(device, batch)


def _validation(config: TrainConfig, task: Task, photos: Sequence[np.ndarray], device: torch.device) -> Validation:
    return Validation(
        task,
        photos,
        seed=VALIDATION_SEED,
        count=config.eval_bursts,
        batch=config.batch,
        move=lambda batch: _to(device, batch),
    )


@torch.no_grad()
def _judge(validation: Validation, model: nn.Module, network: Network) -> Figures:
    training = model.training
    model.eval()
    figures = validation.figures(network)
    model.train(training)
    return figures


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, new in zip(averaged.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for buffer, new_buffer in zip(averaged.buffers(), model.buffers(), strict=True):
        buffer.copy_(new_buffer)


def _to(device: torch.device, batch: Any) -> Any:
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))


def _due(every: int, done: int, config: TrainConfig) -> bool:
    return done % every == 0 or done == config.steps


def _finite(loss: float, done: int) -> float:
    if not math.isfinite(loss):
        raise BurstError(f"the loss is {loss} at step {done}: train with a smaller lr, or with clip=1")
    return loss


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with some threads of torch, and none of OpenCV: a pool of threads does not survive the fork into a worker."""
    before, before_cv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count or before)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(before_cv)
