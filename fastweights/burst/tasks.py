"""What the two training tasks differ in: the bursts, the loss and the figures of a validation."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from fastweights.burst.losses import annealing_weight, camera_loss, drawn_frame, paper_loss, psnr
from fastweights.burst.synthesis.camera_bursts import CameraBurst, CameraBursts
from fastweights.burst.synthesis.paper import PaperBurst, PaperBursts, noise_map
from fastweights.burst.transfer import srgb_encode

# Weight below which the per-frame loss is left out, after 18 % of the steps: it would add some 1e-5 of the loss.
NEGLIGIBLE = 1e-6

Figures = dict[str, float]
# A network of a task, called as `fastweights.burst.models` says, that returns float32.
Network = Callable[..., Tensor]


class Task(abc.ABC):
    """Bursts, loss and figures of a training task; a batch is what torch's collate makes of the bursts."""

    @abc.abstractmethod
    def bursts(self, photos: Sequence[np.ndarray], seed: int) -> Dataset[Any]:
        """Endless bursts from photos (H, W, 3) uint8, number n a pure function of (seed, n)."""

    @abc.abstractmethod
    def loss(self, network: Network, batch: Any, step: int) -> Float[Tensor, ""]:
        """The loss of a step."""

    @abc.abstractmethod
    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """What a network of the task is called with."""

    def denoise(self, network: Network, batch: Any) -> Tensor:
        """The network's pictures."""
        return network(*self.inputs(batch))

    @abc.abstractmethod
    def trivial(self, batch: Any) -> dict[str, Tensor]:
        """The answers that need no network, by name: the mean of the frames, and the reference alone."""

    @abc.abstractmethod
    def figures(self, picture: Tensor, batch: Any) -> Figures:
        """PSNRs of a picture in dB, by name: "psnr" is the one to go by."""


@dataclass(frozen=True)
class CameraTask(Task):
    """Colour bursts of a random camera; the loss and the (clipped) PSNR are taken in sRGB."""

    patch: int
    slots: int
    truth: Literal["mean", "clean"]
    aligned: float
    jpeg: float

    def bursts(self, photos: Sequence[np.ndarray], seed: int) -> CameraBursts:
        return CameraBursts(
            photos, seed, patch=self.patch, slots=self.slots, truth=self.truth, aligned=self.aligned, jpeg=self.jpeg
        )

    def loss(self, network: Network, batch: CameraBurst, step: int) -> Float[Tensor, ""]:
        return camera_loss(self.denoise(network, batch), batch.truth, batch.single_error)

    def inputs(self, batch: CameraBurst) -> tuple[Tensor, ...]:
        return batch.frames, batch.counts

    def trivial(self, batch: CameraBurst) -> dict[str, Tensor]:
        weights = batch.counts / batch.counts.sum(dim=1, keepdim=True)
        mean = (weights[..., None, None, None] * batch.frames).sum(dim=1)
        return {"mean": mean, "one": batch.frames[:, 0]}

    def figures(self, picture: Tensor, batch: CameraBurst) -> Figures:
        return {"psnr": psnr(picture, batch.truth, clip=True, encode=srgb_encode).item()}


@dataclass(frozen=True)
class PaperTask(Task):
    """Grey bursts by the papers' protocol; unclipped ("psnr") and clipped PSNR in the KPN's encoding.

    annealed: with the per-frame loss; one_frame: with one drawn frame in place of their sum (see `paper_loss`).
    """

    patch: int
    frames: int
    upscale: int
    steps: int
    annealed: bool
    one_frame: bool
    seed: int

    def bursts(self, photos: Sequence[np.ndarray], seed: int) -> PaperBursts:
        return PaperBursts(photos, seed, patch=self.patch, upscale=self.upscale, frames=self.frames)

    def loss(self, network: Network, batch: PaperBurst, step: int) -> Float[Tensor, ""]:
        per_frame = self.annealed and annealing_weight(step, self.steps) > NEGLIGIBLE
        if not per_frame:
            output, estimates = self.denoise(network, batch), None
        elif self.one_frame:
            drawn = drawn_frame(self.seed, step, self.frames)
            pair = network(*self.inputs(batch), estimate=drawn)
            output, estimates = pair[:, 0], pair[:, 1:]
        else:
            estimates = network(*self.inputs(batch), per_frame=True)
            output = estimates.mean(dim=1)
        return paper_loss(output, estimates, batch.truth, batch.white_level, step, self.steps, self.frames)

    def inputs(self, batch: PaperBurst) -> tuple[Tensor, ...]:
        return batch.frames, noise_map(batch.frames[:, 0], batch.sigma_read, batch.sigma_shot)[:, None]

    def trivial(self, batch: PaperBurst) -> dict[str, Tensor]:
        return {"mean": batch.frames.mean(dim=1, keepdim=True), "one": batch.frames[:, :1]}

    def figures(self, picture: Tensor, batch: PaperBurst) -> Figures:
        truth, level = batch.truth[:, None], batch.white_level
        return {
            "psnr": psnr(picture, truth, clip=False, white_level=level).item(),
            "psnr_clipped": psnr(picture, truth, clip=True, white_level=level).item(),
        }


class Validation:
    """A fixed set of bursts from held-back photos, and what the trivial answers reach on it.

    The bursts are made once, and kept on `move`'s device.
    """

    def __init__(
        self, task: Task, photos: Sequence[np.ndarray], *, seed: int, count: int, batch: int, move: Callable[[Any], Any]
    ) -> None:
        bursts = task.bursts(photos, seed)
        groups = [range(first, min(first + batch, count)) for first in range(0, count, batch)]
        self._task = task
        self._batches = [move(default_collate([bursts[n] for n in numbers])) for numbers in groups]
        self._trivial = [task.trivial(one) for one in self._batches]

    def figures(self, network: Network) -> Figures:
        """Mean figures of the network over the bursts, and beside them those of the trivial answers."""
        found = self._mean([self._task.denoise(network, batch) for batch in self._batches], "")
        for name in self._trivial[0]:
            found |= self._mean([answers[name] for answers in self._trivial], f"_{name}")
        return found

    def _mean(self, pictures: list[Tensor], suffix: str) -> Figures:
        each = [self._task.figures(picture, batch) for picture, batch in zip(pictures, self._batches, strict=True)]
        weights = [len(picture) for picture in pictures]
        return {name + suffix: float(np.average([one[name] for one in each], weights=weights)) for name in each[0]}
