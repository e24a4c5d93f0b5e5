"""Which strength is best, for bursts like those of a camera on a tripod? Simulated bursts of held-back photos alone.

Claim: without a fixed pattern the network's picture is best as it is (strength 1); where a sensor's fixed pattern is
in the frames and in what they are compared with, as in a mean of many static frames, a blend with the mean is better.
Command: `python -m experiments.denoiser.strength`, 4 minutes. Needs FASTWEIGHTS_DATA (training photos; never the real
burst, but its noisy frames gave the simulated camera's noise and pattern).
Measured: results/strength.json.
"""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import torch
from cyclopts import App

from experiments import data, report
from fastweights.burst import cases, evaluate, weights
from fastweights.burst.slots import to_slots
from fastweights.burst.synthesis.camera import Camera
from fastweights.burst.synthesis.camera_bursts import CameraBursts
from fastweights.burst.synthesis.motion import draw_shifts
from fastweights.burst.synthesis.photos import load_photos, split

RESULT = Path("results/strength.json")
STRENGTHS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Fitted to the noise of frame differences of the real burst, and its pattern to `fixed_pattern`.
CAMERA = Camera(shot=9e-4, read=4.6e-3, gains=(2.2, 2.0), matrix=0.9, smooth_colour=1.0, contrast=0.8)
PATTERNS = {"no pattern": (0.0, 0.0), "pattern": (0.025, 0.7)}
SEED = 77
app = App(help=__doc__, help_format="plaintext")


def static(count: int) -> list[int]:
    """Numbers of the first bursts that do not move: with camera and frames given, the first draw is that of shifts."""
    numbers = (n for n in itertools.count() if not draw_shifts(np.random.default_rng([SEED, n]), cases.FRAMES).any())
    return list(itertools.islice(numbers, count))


@app.default
def main(*, model: tuple[str, ...] = (), count: int = 24, result: Path = RESULT) -> None:
    """Print PSNR by strength.

    Args:
        model: Shipped names or .safetensors files; by default all that ship.
        count: Static bursts.
        result: The JSON file written.
    """
    _, held_back = split(load_photos(data.training_photos()))
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in model or weights.available():
        network = weights.load(name)
        for kind, pattern in PATTERNS.items():
            camera = dataclasses.replace(CAMERA, pattern=pattern)
            bursts = CameraBursts(held_back, SEED, camera=camera, frames=cases.FRAMES, truth="mean")
            found: dict[float, list[float]] = {strength: [] for strength in STRENGTHS}
            for number in static(count):
                burst = bursts[number]
                case = cases.camera_case(burst.frames, burst.truth)
                slots, counts = to_slots(burst.frames)
                mean = slots.mean(0)
                with torch.no_grad():
                    picture = network(slots[None], counts[None])[0]
                for strength, figures in found.items():
                    figures.append(evaluate.compare(case, mean + strength * (picture - mean))[0])
            row = {str(strength): round(sum(figures) / count, 2) for strength, figures in found.items()}
            rows.setdefault(name, {})[kind] = row
            print(f"{name:12} {kind:12}", row, flush=True)
    report.write(result, {"bursts": count, "psnr by strength": rows})


if __name__ == "__main__":
    app()
