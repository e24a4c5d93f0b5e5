"""How much of a real burst's noise is the same in every frame: the sensor's fixed pattern, which no burst averages out.

Claim: on a tripod, between 15 and 40 % of the variance of a frame's fine grain is common to all frames. It is noise,
not texture: it has the spatial and colour correlation of the noise that changes, and it is as strong in featureless
areas. A reference averaged from the same static camera contains it, so a denoiser that removes it loses PSNR there.
Command: `python -m experiments.denoiser.fixed_pattern`, seconds. Needs FASTWEIGHTS_DATA; looks at noisy frames alone,
never at the reference.
Measured: results/fixed_pattern.json.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cyclopts import App
from jaxtyping import Float
from torch import Tensor

from experiments import report
from experiments.denoiser.real_burst import load
from fastweights.burst.synthesis.camera import Camera, shoot

RESULT = Path("results/fixed_pattern.json")
LEVELS = ((0, 20), (20, 40), (40, 80), (80, 160), (160, 256))
AROUND = 31  # pixels: what is flat is judged on this scale
FLATTEST = 0.3  # part of a level's pixels
OFFSETS = ((0, 1), (0, 2), (1, 1))
app = App(help=__doc__, help_format="plaintext")


def common_grain(frames: Float[Tensor, "t 3 h w"]) -> dict[str, dict[str, object]]:
    """By grey level: the share of green's fine grain common to all frames, by distance in time, and its correlations.

    Grain is what differs from the mean of 3 x 3 pixels. Covariances between different frames hold no independent noise.

    >>> grain = 20 * torch.randn(4, 3, 96, 96, generator=torch.manual_seed(0)) + 20 * torch.randn(3, 96, 96)
    >>> found = common_grain(0.4 + grain / 255)["80..160"]
    >>> 0.45 < found["common to near frames"] < 0.55, 0.45 < found["common to far frames"] < 0.55
    (True, True)
    """
    grain = 255 * (frames - _box(frames, 3))
    level = 255 * _box(frames.mean(0, keepdim=True), AROUND)[0].mean(0)
    mean = frames.mean(0, keepdim=True)
    contrast = _box((_box(mean, 7) - _box(mean, AROUND)).square().mean(1, keepdim=True), AROUND)[0, 0]
    common, changing = grain.mean(0), grain[0] - grain[len(grain) // 2]
    found: dict[str, dict[str, object]] = {}
    for low, high in LEVELS:
        inside = (level >= low) & (level < high)
        if int(inside.sum()) < 5000:
            continue
        inside &= contrast <= contrast[inside].double().quantile(FLATTEST)
        samples = grain[:, 1][:, inside].double()
        covariance = samples @ samples.T / samples.shape[1]
        variance = covariance.diagonal().mean()
        half = len(frames) // 2
        near = torch.cat([covariance.diagonal(lag) for lag in range(1, half)]).mean()
        far = torch.cat([covariance.diagonal(lag) for lag in range(half, len(frames))]).mean()
        found[f"{low}..{high}"] = {
            "variance of a frame, of 255 squared": round(variance.item(), 2),
            "common to near frames": round((near / variance).item(), 3),
            "common to far frames": round((far / variance).item(), 3),
            "correlation of the common grain": _correlations(common, inside),
            "correlation of the changing grain": _correlations(changing, inside),
        }
    return found


def _correlations(grain: Float[Tensor, "3 h w"], inside: Tensor) -> list[float]:
    """Of green with itself at the offsets (0, 1), (0, 2), (1, 1), then of green with red and with blue."""
    green = grain[1]
    others = [torch.roll(green, offset, (0, 1)) for offset in OFFSETS] + [grain[0], grain[2]]
    power = green[inside].square().mean()
    return [
        round(((green * other)[inside].mean() / (power * other[inside].square().mean()).sqrt()).item(), 2)
        for other in others
    ]


def _box(x: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False)


def simulated(pattern: tuple[float, float]) -> Float[Tensor, "t 3 h w"]:
    """16 frames of a grey ramp by the simulated camera, with or without a fixed pattern."""
    ramp = np.linspace(0.002, 0.6, 640, dtype=np.float32) ** 2
    scene = np.broadcast_to(ramp[None, None, :, None], (16, 340, 640, 3)).copy()
    camera = Camera(shot=9e-4, read=4.6e-3, gains=(2.2, 2.0), matrix=0.9, smooth_colour=1.0, pattern=pattern)
    frames, _ = shoot(scene, camera, np.random.default_rng(0))
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255


@app.default
def main(*, result: Path = RESULT) -> None:
    """Measure the real burst, and two simulated ones of which the answer is known.

    Args:
        result: The JSON file written.
    """
    bursts = {
        "real": load()[0],
        "simulated, no pattern": simulated((0.0, 0.0)),
        "simulated, with a pattern": simulated((0.02, 0.8)),
    }
    rows = {name: common_grain(frames) for name, frames in bursts.items()}
    report.write(result, {"bursts": rows, "correlations at": [*map(list, OFFSETS), "red", "blue"]})
    for name, levels in rows.items():
        print(name)
        for level, row in levels.items():
            print(f"  grey {level:8}", *(f"{key} {value}" for key, value in row.items()), sep="  ")


if __name__ == "__main__":
    app()
