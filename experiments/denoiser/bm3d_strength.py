"""How strong should BM3D be? Its pipeline by the strength that scales its noise, on held-back training photos alone.

Claim: the strengths that `fastweights.burst.methods` gives it, one for white noise and one for the measured spectrum,
are those that serve it best, so that a network above it is not above a badly set rival.
Command: `python -m experiments.denoiser.bm3d_strength`, 6 minutes. Needs FASTWEIGHTS_DATA (training photos).
Measured: results/bm3d_strength.json.
"""

import os
from pathlib import Path

from cyclopts import App

from experiments import report
from fastweights.burst import baselines, cases, evaluate
from fastweights.burst.methods import Method
from fastweights.burst.synthesis.photos import load_photos, split

RESULT = Path("results/bm3d_strength.json")
STRENGTHS = (0.6, 0.8, 1.0, 1.25, 1.5)
SETS = ("camera", "camera-mean", "camera-jpeg", "paper")
SEED = 31
app = App(help=__doc__, help_format="plaintext")


def way(spectrum: bool, strength: float) -> Method:
    """The pipeline at one strength."""
    return lambda case: baselines.bm3d(case.frames, case.noise, spectrum=spectrum, strength=strength)


@app.default
def main(*, count: int = 24, result: Path = RESULT, smoke: bool = False) -> None:
    """Print PSNR by set, noise model and strength.

    Args:
        count: Bursts of a set.
        result: The JSON file written.
        smoke: One small burst of one set, for a test.
    """
    _, held_back = split(load_photos(Path(os.environ["FASTWEIGHTS_DATA"]) / "train" / "wikipedia38"))
    sets, count, patch = (SETS[:1], 1, 32) if smoke else (SETS, count, 128)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in sets:
        ways = {
            f"{noise}, {strength}": way(noise == "spectrum", strength)
            for noise in ("white", "spectrum")
            for strength in STRENGTHS
        }
        scores, _ = evaluate.evaluate(cases.cases(name, held_back, SEED, patch), count, ways)
        for noise in ("white", "spectrum"):
            row = {str(strength): scores[f"{noise}, {strength}"].psnr for strength in STRENGTHS}
            rows.setdefault(name, {})[noise] = row
            print(f"{name:12} {noise:9}", row, flush=True)
    report.write(result, {"bursts of a set": count, "psnr by strength": rows})


if __name__ == "__main__":
    app()
