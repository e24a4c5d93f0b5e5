"""Bursts with a known clean picture: made from photos by camera or by the papers' protocol, or real."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.baselines import NoiseCurve
from fastweights.burst.errors import BurstError
from fastweights.burst.noise import estimate_noise
from fastweights.burst.synthesis.camera_bursts import CameraBursts, Truth
from fastweights.burst.synthesis.paper import GAINS, PaperBursts
from fastweights.burst.transfer import kpn_encode, srgb_decode, srgb_encode

FRAMES = 8
SETS = ("camera", "camera-mean", "camera-jpeg", "paper", *(f"paper-gain{gain}" for gain in GAINS))


@dataclasses.dataclass(frozen=True)
class Case:
    """One burst to denoise: frames in linear light (T, C, H, W), frame 0 the reference, the truth and the noise.

    Pictures are compared as encode(picture / white), cropped by 8 pixels, and limited to 0..1 where clip is set.
    """

    frames: Float[Tensor, "t c h w"]
    truth: Float[Tensor, "c h w"]
    noise: NoiseCurve
    sensor: tuple[float, float] | None  # read and shot noise where they are known
    white: float
    clip: bool

    def encode(self, light: Tensor) -> Tensor:
        """Linear light as it is compared."""
        return (kpn_encode if self.sensor else srgb_encode)(light / self.white)


def cases(name: str, photos: Sequence[np.ndarray], seed: int = 0, patch: int = 128) -> Callable[[int], Case]:
    """The bursts of a set as a function of their number: the same for every method and at every call.

    "camera": 8 frames of a random camera (`CameraBursts`), in sRGB, clipped, against the picture without noise;
    "camera-mean": against what very many such frames would show on average, with brighter shadows. "camera-jpeg": the
    same, and the frames went through JPEG of quality 80 to 98. "paper": the
    papers' protocol with random noise, unclipped, as in Table 1 of Müller 2024. "paper-gain1" to "paper-gain8": its
    noise at a gain, white level 1, clipped, as Mildenhall et al. 2018. Raises BurstError for another name.

    Example
    -------
    >>> photo = np.full((700, 700, 3), 128, np.uint8)
    >>> tuple(cases("paper-gain2", [photo], patch=32)(0).frames.shape)
    (8, 1, 32, 32)
    """
    if name not in SETS:
        raise BurstError(f"no set {name!r}: expected one of {', '.join(SETS)}")
    if name.startswith("camera"):
        truth: Truth = "clean" if name == "camera" else "mean"
        bursts = CameraBursts(
            photos, seed, patch=patch, frames=FRAMES, truth=truth, jpeg=1.0 if name == "camera-jpeg" else 0.0
        )
        return lambda number: camera_case(*bursts[number][0::2])
    gain = None if name == "paper" else int(name.removeprefix("paper-gain"))
    grey = PaperBursts(photos, seed, patch=patch, gain=gain)

    def paper_case(number: int) -> Case:
        burst = grey[number]
        white, *sensor = (value.item() for value in burst[2:])
        curve = NoiseCurve.of_sensor(sensor[0], sensor[1], white)
        return Case(burst.frames[:, None], burst.truth[None], curve, (sensor[0], sensor[1]), white, gain is not None)

    return paper_case


def real_case(frames: Float[Tensor, "t 3 h w"], reference: Float[Tensor, "3 h w"]) -> Case:
    """A real burst, frames as sRGB values, against a clean picture in linear light."""
    return camera_case(srgb_decode(frames), reference)


def camera_case(frames: Float[Tensor, "t 3 h w"], truth: Float[Tensor, "3 h w"]) -> Case:
    """A burst in linear light against a clean picture, both of a camera's files; the noise is estimated."""
    return Case(frames, truth, NoiseCurve.estimated(estimate_noise(frames)), None, 1.0, True)
