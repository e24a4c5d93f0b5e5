"""How strong should BM3D be? Its pipeline by the strength that scales its noise, on held-back training photos alone.

Claim: the strengths that `fastweights.burst.methods` gives it, one for white noise and one for the measured spectrum,
are those that serve it best, so that a network above it is not above a badly set rival.
Command: `python -m experiments.denoiser.bm3d_strength`, 20 minutes on two threads, and the same with `--strengths 1.75
2 --sets camera camera-mean camera-jpeg`. Needs FASTWEIGHTS_DATA (training photos).
Measured: results/bm3d_strength.json, 24 bursts a set: for bursts of cameras 1.75 (white) and 1.25 (spectrum) are best
or within .03 dB of it, 41.28 and 41.64 dB on camera-mean, where the nominal strength 1 has 40.59 and 41.44. For the
papers' white noise of known strength 1.25 and 1.0: 30.75 and 30.70 dB.
"""

import json
from pathlib import Path

from cyclopts import App, Parameter

from experiments import data, report
from fastweights.burst import baselines, cases, evaluate
from fastweights.burst.methods import Method
from fastweights.burst.synthesis.photos import load_photos, split

RESULT = Path("results/bm3d_strength.json")
STRENGTHS = (0.6, 0.8, 1.0, 1.25, 1.5)
SETS = ("camera", "camera-mean", "camera-jpeg", "paper")
NOISES = ("white", "spectrum")
SEED = 31
Rows = dict[str, dict[str, dict[str, float]]]  # by set, noise model and strength
app = App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


def way(spectrum: bool, strength: float) -> Method:
    """The pipeline at one strength."""
    return lambda case: baselines.bm3d(case.frames, case.noise, spectrum=spectrum, strength=strength)


@app.default
def main(
    *,
    strengths: tuple[float, ...] = STRENGTHS,
    sets: tuple[str, ...] = SETS,
    count: int = 24,
    result: Path = RESULT,
    smoke: bool = False,
) -> None:
    """Print PSNR by set, noise model and strength; the result file keeps other strengths of as many bursts.

    Args:
        strengths: factors of the noise's standard deviation.
        sets: of bursts, see `fastweights evaluate`.
        count: Bursts of a set.
        result: The JSON file written.
        smoke: One small burst of one set, for a test.
    """
    _, held_back = split(load_photos(data.training_photos()))
    sets, count, patch = (SETS[:1], 1, 32) if smoke else (sets, count, 128)
    known = json.loads(result.read_text()) if result.exists() else {}
    rows: Rows = known["psnr by strength"] if known.get("bursts of a set") == count else {}
    for name in sets:
        ways = {f"{noise}, {one}": way(noise == "spectrum", one) for noise in NOISES for one in strengths}
        scores, _ = evaluate.evaluate(cases.cases(name, held_back, SEED, patch), count, ways)
        for noise in NOISES:
            row = rows.setdefault(name, {}).setdefault(noise, {})
            row |= {str(one): round(scores[f"{noise}, {one}"].psnr, 2) for one in strengths}
            print(f"{name:12} {noise:9}", row, flush=True)
        report.write(result, {"bursts of a set": count, "psnr by strength": rows})


if __name__ == "__main__":
    app()
