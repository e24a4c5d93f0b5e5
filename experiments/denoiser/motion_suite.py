"""Frames that move, turn, blur or fail: what each costs, with known motion.

Claim: shake, turns, a moving thing, drifting light or a bad frame do not spoil the picture; a bad frame in a burst
never costs more than 0.2 dB against the burst without it. "no noise" is the mean of the frames had they no noise:
what displaced pixels, their demosaicing and interpolation alone leave.
Command: `python -m experiments.denoiser.motion_suite`, 4 minutes. Needs FASTWEIGHTS_DATA (McMaster photos; thresholds
were chosen on others).
Measured: results/motion_suite.json.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from cyclopts import App
from torch import Tensor

from experiments import data, report
from fastweights.burst import cases, evaluate, images, weights
from fastweights.burst.align import estimate_shifts
from fastweights.burst.aligned import Aligned
from fastweights.burst.frames import Burst, load
from fastweights.burst.models import Denoiser
from fastweights.burst.motion import Motion, Registration, unregistered
from fastweights.burst.registration import register
from fastweights.burst.slots import to_slots
from fastweights.burst.synthesis.camera import draw_camera, shoot
from fastweights.burst.synthesis.photos import load_photos
from fastweights.burst.transfer import srgb_decode, srgb_encode

RESULT = Path("results/motion_suite.json")
KINDS = ("static", "shift", "rotation", "local motion", "all three", "one blurred frame", "one black frame", "drift")
BAD = ("one blurred frame", "one black frame")
MOVING = ("shift", "rotation", "local motion", "all three")
FRAMES, WHICH = 8, 3
SIDE, MARGIN, AROUND = 256, 10, 50
app = App(help=__doc__, help_format="plaintext")


def scenes(kind: str, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the sensor sees in each frame, (8, SIDE + 20, SIDE + 20, 3), from a larger picture in linear light."""
    seen = []
    size, offset = light.shape[0], (light.shape[0] - SIDE) // 2 - MARGIN
    inner = SIDE + 2 * MARGIN
    moving = kind in ("local motion", "all three")
    thing = light[20:100, 20:100][::-1].copy()
    for number in range(FRAMES):
        picture, shift, turn = light, np.zeros(2), 0.0
        if number and kind in ("shift", "rotation", "all three"):
            shift = rng.uniform(-8, 8, 2)
        if number and kind in ("rotation", "all three"):
            turn = rng.uniform(-1.5, 1.5)
        if moving:
            picture = light.copy()
            top, left = offset + 80 + 2 * number, offset + 60 + 4 * number
            picture[top : top + 80, left : left + 80] = thing
        if kind == "one blurred frame" and number == WHICH:
            picture = cv2.GaussianBlur(picture, (0, 0), 2.5)
        if kind == "one black frame" and number == WHICH:
            picture = np.zeros_like(picture)
        if kind == "drift":
            picture = picture * np.float32(1 + 0.03 * number)
        if shift.any() or turn:
            matrix = cv2.getRotationMatrix2D((size / 2, size / 2), turn, 1)
            matrix[:, 2] -= shift[::-1]
            picture = cv2.warpAffine(
                picture, matrix, (size, size), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT
            )
        seen.append(picture[offset : offset + inner, offset : offset + inner].clip(0))
    return np.stack(seen)


def burst(kind: str, photo: np.ndarray, number: int, silent: bool = False) -> cases.Case:
    """One burst of a kind with a random camera, or the same without noise: a pure function of its number.

    The sensor's fixed pattern belongs to what is wanted only where nothing moves.
    """
    rng = np.random.default_rng([number, 7])
    camera = draw_camera(rng)
    if silent:
        camera = dataclasses.replace(camera, shot=0.0, read=0.0, pattern=(0.0, 0.0), blotches=0.0)
    size = SIDE + 2 * (MARGIN + AROUND)
    top, left = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
    crop = torch.from_numpy(photo[top : top + size, left : left + size].astype(np.float32) / 255)
    # A lens is softer than the pixels of a photo that was made small.
    light = cv2.GaussianBlur(0.8 * srgb_decode(crop).numpy(), (0, 0), 0.7)
    pixels, truth = shoot(scenes(kind, light, rng), camera, rng, MARGIN, keep_pattern=kind not in MOVING)
    return cases.real_case(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, truth)


def ways(network: Denoiser) -> dict[str, Callable[[cases.Case], Tensor]]:
    """One frame; the network behind whole-frame shifts alone, and behind `register`; the same without the bad frame."""

    def clean(burst: Burst, registration: Registration) -> Tensor:
        everything = (slice(0, SIDE), slice(0, SIDE))
        frames = Aligned(burst, registration).light(*everything)
        with torch.no_grad():
            slots, counts = to_slots(frames)
            return network(slots[None], counts[None])[0] if len(frames) > 1 else frames[0]

    def shifted(case: cases.Case) -> Tensor:
        burst = load(srgb_encode(case.frames))
        shifts = estimate_shifts(burst.greys()).round().tolist()
        motions = [Motion(np.array([[1, 0, right], [0, 1, down]])) for down, right in shifts]
        return clean(burst, dataclasses.replace(unregistered(len(burst), 0), motions=motions))

    def registered(case: cases.Case) -> Tensor:
        burst = load(srgb_encode(case.frames))
        return clean(burst, register(burst))

    def without(case: cases.Case) -> Tensor:
        burst = load(srgb_encode(case.frames[[index for index in range(FRAMES) if index != WHICH]]))
        return clean(burst, register(burst))

    return {"one frame": lambda case: case.frames[0], "shifts": shifted, "register": registered, "without it": without}


def no_noise(case: cases.Case) -> Tensor:
    """The mean of the registered frames."""
    burst = load(srgb_encode(case.frames))
    return Aligned(burst, register(burst)).light(slice(0, SIDE), slice(0, SIDE)).mean(0)


@app.default
def main(*, model: str = "gated", count: int = 18, pictures: Path | None = None, result: Path = RESULT) -> None:
    """Print the table.

    Args:
        model: A shipped name or a .safetensors file.
        count: Bursts of a kind.
        pictures: A folder that exists, for a sheet of crops of each kind.
        result: The JSON file written.
    """
    photos = load_photos(data.path("mcmaster"))
    methods = ways(weights.load(model))
    rows = {}
    print(f"{'PSNR in dB':20}" + "".join(f"{name:>14}" for name in (*methods, "no noise")))
    for kind in KINDS:
        chosen = {name: way for name, way in methods.items() if name != "without it" or kind in BAD}

        def save(number: int, case: cases.Case, made: dict[str, Tensor], kind: str = kind) -> None:
            if pictures is not None and number == 0:
                images.write(pictures / f"{kind.replace(' ', '-')}.png", evaluate.report.sheet(case, made))

        def case_of(number: int, kind: str = kind, silent: bool = False) -> cases.Case:
            return burst(kind, photos[number % len(photos)], number, silent)

        scores, each = evaluate.evaluate(case_of, count, chosen, save)
        scores |= evaluate.evaluate(partial(case_of, silent=True), count, {"no noise": no_noise})[0]
        rows[kind] = {
            name: {"psnr": round(one.psnr, 2), "error": round(one.psnr_error, 2)} for name, one in scores.items()
        }
        if kind in BAD:
            rows[kind]["cost of the bad frame"] = evaluate.paired(each["without it"], each["register"])
        shown = (f"{scores[name].psnr:14.2f}" if name in scores else " " * 14 for name in (*methods, "no noise"))
        print(f"{kind:20}" + "".join(shown), flush=True)
    report.write(result, {"model": model, "weights": weights.checksum(model), "bursts of a kind": count, "kinds": rows})


if __name__ == "__main__":
    app()
