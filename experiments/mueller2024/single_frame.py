"""How noisy is one frame of the paper's test bursts? Which of two earlier counts, 19.91 and 19.43 dB, is right?

Claim: Table 1's single-frame baseline, 20.0 dB, is the unclipped PSNR of one frame on McMaster at random noise levels
and white levels. A count of the released pipeline gave 19.91 (one frame) and 20.31 (mean of the eight); a second count,
of 9,000 centre crops without shifts, gave 19.43 +- .10.
Command: `python -m experiments.mueller2024.single_frame`, about 10 minutes on one thread; it stops after --seconds and
goes on where it stopped when called again. Needs FASTWEIGHTS_DATA, a folder with `mcmaster/1.png` .. `18.png`.
Measured: results/paper_protocol_single_frame.json, 19.43 +- .07 dB (20,000 single frames; 19.44 +- .14 from 5,000 whole
bursts of the generator), mean of the eight 20.15 +- .06; clipped 24.14 and 20.94. The spread of 9.7 dB a burst comes
from the noise and white level drawn, so 19.91, whose sample size is not stated, is within one standard error of the
same quantity if it rests on 400 bursts or fewer. Padding, shifts and the choice of patch change less than .15 dB;
taking grey before the power (-.63) or keeping the border (-.51) lead away from 19.91, and a white level not divided out
leads far beyond it (+7).
"""

import json
import math
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from cyclopts import App
from torch import Tensor

from experiments import data
from fastweights.burst.synthesis.paper import PaperBursts
from fastweights.burst.synthesis.photos import load_photos
from fastweights.burst.transfer import kpn_encode

BORDER = 8
RESULT = Path("results/paper_protocol_single_frame.json")
EARLIER = {
    "an earlier count, released pipeline, one frame": 19.91,
    "an earlier count, released pipeline, one frame, clipped": 24.34,
    "an earlier count, released pipeline, mean of 8": 20.31,
    "an earlier count, released pipeline, mean of 8, clipped": 21.07,
    "independent count, 9,000 centre crops without shifts": 19.43,
    "Table 1 of the paper, one frame": 20.0,
}
app = App(help=__doc__, help_format="plaintext")


@dataclass
class Sums:
    """Running sums of a figure and of its difference to the protocol's figure for the same noise draw."""

    number: int = 0
    total: float = 0.0
    squares: float = 0.0
    difference: float = 0.0
    difference_squares: float = 0.0

    def add(self, value: float, reference: float) -> None:
        """Count one more value in."""
        self.number += 1
        self.total += value
        self.squares += value**2
        self.difference += value - reference
        self.difference_squares += (value - reference) ** 2

    def report(self) -> dict[str, float]:
        """Mean, standard error and spread (standard deviation of one burst), and the paired difference."""
        n = self.number
        mean, change = self.total / n, self.difference / n
        spread = math.sqrt(max(self.squares / n - mean**2, 0))
        jitter = math.sqrt(max(self.difference_squares / n - change**2, 0))
        return {
            "number": n,
            "mean": round(mean, 3),
            "standard_error": round(spread / math.sqrt(n), 3),
            "spread": round(spread, 3),
            "minus_protocol": round(change, 3),
            "minus_protocol_standard_error": round(jitter / math.sqrt(n), 4),
        }


def psnr(picture: Tensor, truth: Tensor, *, clip: bool = False, border: int = BORDER) -> float:
    """PSNR in dB, peak 1, of two encoded pictures without their border, clipped to 0..1 on request.

    Example
    -------
    >>> round(psnr(torch.full((20, 20), 0.6), torch.full((20, 20), 0.5)), 3)
    20.0
    """
    a, b = (x[border : x.shape[0] - border, border : x.shape[1] - border].double() for x in (picture, truth))
    if clip:
        a, b = a.clamp(0, 1), b.clamp(0, 1)
    return -10 * math.log10((a - b).square().mean().item())


def protocol_scores(bursts: PaperBursts, number: int) -> dict[str, float]:
    """Burst `number` of the generator: PSNR of frame 0 and of the mean of all frames, unclipped and clipped."""
    burst = bursts[number]
    truth = kpn_encode(burst.truth / burst.white_level)
    pictures = {"one frame": burst.frames[0], "mean of 8": burst.frames.mean(0)}
    return {
        f"{name}{', clipped' * clip}": psnr(kpn_encode(picture / burst.white_level), truth, clip=clip)
        for name, picture in pictures.items()
        for clip in (False, True)
    }


def centre(light: np.ndarray, size: int, reduce: int) -> np.ndarray:
    """The middle size x size of a picture, filled up with zeros where it is smaller, area-reduced."""
    light = np.pad(light, max(0, (size - light.shape[0] + 1) // 2))
    start = (light.shape[0] - size) // 2
    crop = light[start : start + size, start : start + size]
    return cv2.resize(crop, (size // reduce, size // reduce), interpolation=cv2.INTER_AREA)


def variant_truths(photo: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The reference's clean picture under each reading of "a patch of this photo"."""
    light = (photo / 255) ** 2.2
    grey = light.mean(2)
    top, left = rng.integers(0, 500 - 256 + 1, 2)
    random = grey[top : top + 256, left : left + 256]
    return {
        "protocol: padded, reduced 4x": centre(grey, 512, 4),
        "centre crop without padding, reduced 4x": centre(grey, 496, 4),
        "centre crop, reduced 2x": centre(grey, 256, 2),
        "random crop, reduced 2x": cv2.resize(random, (128, 128), interpolation=cv2.INTER_AREA),
        "centre crop, not reduced": centre(grey, 128, 1),
        "grey before the power": centre((photo / 255).mean(2) ** 2.2, 512, 4),
    }


def variant_scores(photos: list[np.ndarray], seed: int, number: int) -> Iterator[tuple[str, float]]:
    """One frame, the same noise for every variant, so that differences between variants are sharp; protocol first."""
    rng = np.random.Generator(np.random.PCG64([seed, number, 9]))
    white, read, shot = 10 ** rng.uniform([-1, -3, -2], [0, -1.5, -1])
    noise = rng.standard_normal((2, 128, 128))

    def score(clean: np.ndarray, level: float, scale: float, border: int = BORDER) -> float:
        shot_noise, read_noise = noise[:, : clean.shape[0], : clean.shape[1]]
        noisy = level * clean + shot * np.sqrt(level * clean) * shot_noise + read * read_noise
        encoded = (kpn_encode(torch.from_numpy(x)) for x in (noisy / scale, level * clean / scale))
        return psnr(*encoded, border=border)

    truths = variant_truths(photos[number % len(photos)], rng)
    for name, clean in truths.items():
        yield name, score(clean, white, white)
    clean = truths["protocol: padded, reduced 4x"]
    yield "border of 8 px kept", score(clean, white, white, border=0)
    yield "not divided by the white level", score(clean, white, 1)
    yield "white level 1", score(clean, 1, 1)


def finding(protocol: dict[str, dict[str, float]], variants: dict[str, dict[str, float]]) -> str:
    """The answer in words, with the figures just measured."""
    ours, wide = protocol["one frame"], variants["protocol: padded, reduced 4x"]
    crop = variants["centre crop without padding, reduced 4x"]
    away = 19.91 - wide["mean"]
    errors = abs(19.43 - wide["mean"]) / math.hypot(0.10, wide["standard_error"])
    return (
        f"One frame has {wide['mean']:.2f} +- {wide['standard_error']:.2f} dB ({wide['number']} single frames; "
        f"{ours['mean']:.2f} +- {ours['standard_error']:.2f} from {ours['number']} bursts of the generator). "
        f"Padding and shifts do not matter (a centre crop without padding: {crop['minus_protocol']:+.2f} dB): frame 0 "
        f"is always the same centre crop, and the zeros fall into the 8 px border. The noise and white level drawn do: "
        f"their spread is {wide['spread']:.1f} dB a burst. 19.43 +- .10 lies {errors:.1f} standard errors from our "
        f"figure; 19.91 is {away:+.2f} dB away, one standard error of a sample of {(wide['spread'] / away) ** 2:.0f} "
        f"bursts (one round of the generator has 144: {wide['spread'] / 12:.1f} dB): a sample that small explains "
        f"it (its size is not stated), and of the other readings of the protocol tried here none does."
    )


def write(path: Path, content: dict[str, object]) -> None:
    """JSON, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def read_sums(path: Path, seed: int) -> dict[str, dict[str, Sums]]:
    """The sums an earlier call with the same seed left in its result file, or none."""
    if path.exists():
        before = json.loads(path.read_text())
        if before["seed"] == seed:
            return {kind: {name: Sums(**s) for name, s in group.items()} for kind, group in before["sums"].items()}
    return {"protocol": {}, "variants": {}}


def measure(sums: dict[str, dict[str, Sums]], bursts: int, singles: int, seed: int, seconds: float) -> bool:
    """Add to the sums until they have the numbers wanted; False if the time was up before."""
    photos = load_photos(data.mcmaster())
    generator, started = PaperBursts(photos, seed), time.monotonic()
    jobs: tuple[tuple[str, int, Callable[[int], Iterable[tuple[str, float]]]], ...] = (
        ("protocol", bursts, lambda number: protocol_scores(generator, number).items()),
        ("variants", singles, lambda number: variant_scores(photos, seed, number)),
    )
    for kind, wanted, scores in jobs:
        for number in range(max((s.number for s in sums[kind].values()), default=0), wanted):
            if time.monotonic() - started > seconds:
                return False
            values = dict(scores(number))
            reference = next(iter(values.values()))
            for name, value in values.items():
                sums[kind].setdefault(name, Sums()).add(value, reference)
    return True


@app.default
def main(*, bursts: int = 5000, singles: int = 20000, seconds: float = 170, seed: int = 0, smoke: bool = False) -> None:
    """Measure, write results/paper_protocol_single_frame.json and print a table.

    Args:
        bursts: bursts of the generator.
        singles: single frames for each variant.
        seconds: stop after so long; the next call goes on from the sums in the file.
        seed: of the bursts and of the noise.
        smoke: 40 bursts and 36 single frames, nothing read or written.
    """
    if smoke:
        bursts, singles = 40, 36
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sums = {"protocol": {}, "variants": {}} if smoke else read_sums(RESULT, seed)
    complete = measure(sums, bursts, singles, seed, seconds)
    report = {kind: {name: s.report() for name, s in group.items()} for kind, group in sums.items()}
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    result: dict[str, object] = {
        "command": f"python -m {__spec__.name} --bursts {bursts} --singles {singles} --seed {seed}",
        "commit": commit.stdout.strip() or "none yet",
        "seed": seed,
        "data": "McMaster, 18 photos of 500 x 500",
        "unit": "dB, means over bursts. protocol: whole bursts of PaperBursts; variants: one frame, unclipped, the "
        "same noise for all. minus_protocol: paired difference to the first row of its table",
        "finding": finding(report["protocol"], report["variants"]) if complete else "not complete: call it again",
        "earlier": EARLIER,
        **report,
        "sums": {kind: {name: vars(s) for name, s in group.items()} for kind, group in sums.items()},
    }
    if not smoke:
        write(RESULT, result)
    for kind, group in report.items():
        for name, row in group.items():
            line = f"{row['mean']:6.2f} +- {row['standard_error']:.2f} dB, spread {row['spread']:5.2f}"
            change = f"{row['minus_protocol']:+.2f} +- {row['minus_protocol_standard_error']:.3f}"
            print(f"{kind:9} {name:40} {line}, against the first {change}, {row['number']} bursts")
    print(result["finding"])


if __name__ == "__main__":
    app()
