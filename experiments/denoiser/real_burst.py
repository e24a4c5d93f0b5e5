"""A real burst with a reference: 8 and 16 frames of a camera at ISO 3200 against the mean of 34 others. Look seldom.

Claim: the shipped networks beat the plain mean of the frames (37.8 dB) on a real camera's burst, without losing
texture that the mean shows. It holds for `gated` (38.3 dB; 38.5 at strength 0.6), and with 16 frames. Burst and
reference share the sensor's fixed pattern (`fixed_pattern`), which is not the scene: a network that removes it loses
here. So each network is also shown at a strength that is best for simulated bursts of that kind (`strength`).
Command: `python -m experiments.denoiser.real_burst`, minutes. Needs FASTWEIGHTS_DATA. Nothing may be tuned by what it
prints; every look is appended to results/real_burst_looks.jsonl, so their number is known.
Measured: results/real_burst.json.
"""

import hashlib
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cyclopts import App
from torch import Tensor

from experiments import data, report
from fastweights.burst import baselines, cases, images, methods, weights
from fastweights.burst.losses import psnr
from fastweights.burst.pipeline import denoise
from fastweights.burst.transfer import srgb_decode, srgb_encode

RESULT = Path("results/real_burst.json")
LOOKS = Path("results/real_burst_looks.jsonl")
BLOCK = 16
# The best for simulated static bursts with a fixed pattern, by experiments/denoiser/strength.py; of `gated` the best is
# .8 or .9, and .08 dB above.
STRENGTH = 0.6
# Of BM3D beside its own, as a fixed pattern in the reference favours whoever takes less away.
WEAK = 0.8
app = App(help=__doc__, help_format="plaintext")


def load() -> tuple[Tensor, Tensor]:
    """All 16 frames (16, 3, H, W) as sRGB values, and the reference (3, H, W) in linear light."""
    folder = data.path("bursts", "mit_toys_iso3200")
    frames = torch.stack([images.read(folder / f"frame_{i:02d}.webp") for i in range(16)])
    reference = np.load(folder / "reference.npz")["linear_x65535"].astype(np.float32) / 65535
    return frames, torch.from_numpy(reference).permute(2, 0, 1)


def by_region(picture: Tensor, reference: Tensor) -> dict[str, float]:
    """Error of 255 (root mean square, sRGB) on the flattest and on the most textured tenth of 16 x 16 blocks."""
    truth = srgb_encode(reference)
    around = F.avg_pool2d(truth, 3, 1, 1, count_include_pad=False)
    contrast = _blocks((truth - around).square()).flatten()
    error = _blocks((srgb_encode(picture.clamp(0, 1)) - truth).square()).flatten()
    order = contrast.argsort()
    tenth = len(order) // 10
    parts = {"flat": order[:tenth], "textured": order[-tenth:]}
    return {name: round(255 * error[part].mean().sqrt().item(), 2) for name, part in parts.items()}


def figures(picture: Tensor, reference: Tensor) -> dict[str, float]:
    """PSNR in dB in sRGB over the whole picture, and the errors by region."""
    whole = psnr(picture[None], reference[None], clip=True, border=0, encode=srgb_encode)
    return {"psnr": round(whole.item(), 2)} | by_region(picture, reference)


def _blocks(error: Tensor) -> Tensor:
    return F.avg_pool2d(error.mean(0, keepdim=True), BLOCK)


@app.default
def main(
    *, model: tuple[str, ...] = (), classical: bool = True, pictures: Path | None = None, result: Path = RESULT
) -> None:
    """Denoise the burst and compare with its reference.

    Args:
        model: Shipped names or .safetensors files; by default all that ship.
        classical: Also BM3D, which takes minutes.
        pictures: A folder that exists, for the pictures.
        result: The JSON file written.
    """
    frames, reference = load()
    light = srgb_decode(frames)
    made = {"one frame": light[0], "mean of 8": light[:8].mean(0), "mean of 16": light.mean(0)}
    for number, (name, way) in itertools.product((8, 16) if classical else (), methods.classical().items()):
        if "BM3D" in name:
            case = cases.real_case(frames[:number], reference)
            made[f"{name}, {number} frames"] = way(case)
            weak = baselines.bm3d(case.frames, case.noise, spectrum="spectrum" in name, strength=WEAK)
            made[f"{name}, {number} frames, strength {WEAK}"] = weak
    for name, number, strength in itertools.product(model or weights.available(), (8, 16), (1.0, STRENGTH)):
        label = f"{name}, {number} frames" + ("" if strength == 1 else f", strength {strength}")
        made[label] = denoise(frames[:number], model=name, reference=0, precision="float32", strength=strength).image
    rows = {name: figures(picture, reference) for name, picture in made.items()}
    sums = {
        name: hashlib.sha256(weights.find(name).read_bytes()).hexdigest()[:12] for name in model or weights.available()
    }
    with LOOKS.open("a") as looks:
        looks.write(
            json.dumps({"time": datetime.now(UTC).isoformat(timespec="minutes"), "weights": sums, "psnr": rows}) + "\n"
        )
    number = len(LOOKS.read_text().splitlines())
    report.write(result, {"look": number, "weights": sums, "figures": rows})
    for name, row in rows.items():
        print(
            f"{name:40} {row['psnr']:6.2f} dB   error of 255: flat {row['flat']:5.2f}, textured {row['textured']:5.2f}"
        )
    print(f"look number {number}")
    if pictures is not None:
        for name, picture in (made | {"reference": reference}).items():
            images.write(pictures / f"{Path(name).stem.replace(' ', '-')}.png", srgb_encode(picture))


if __name__ == "__main__":
    app()
