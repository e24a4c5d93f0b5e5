"""Does a training survive? Killed at random steps and resumed it ends with the same bits; two processes follow one.

Claim: `fastweights train` killed with -9 five times ends with the weights and losses of a run that was left alone (one
thread, float32), and a run of two processes has the loss curve of one process with the same batch in all.
Command: `python -m experiments.denoiser.survival`, 5 minutes. Needs FASTWEIGHTS_DATA (training photos).
Measured: results/survival.json.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cyclopts import App

from experiments import data, report
from fastweights.burst import weights

RESULT = Path("results/survival.json")
SEED = 3
app = App(help=__doc__, help_format="plaintext")


def start(out: Path, steps: int, every: int, width: int, launcher: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """`fastweights train` of a gated network in a process, or in those of a launcher."""
    photos = data.training_photos()
    shape = ("--kind", "gated", "--width", width, "--post", width, "--maps", 32, "--kernel-size", 7, "--patch", 64)
    pace = ("--steps", steps, "--save-every", every, "--log-every", 1, "--eval-every", steps, "--eval-bursts", 4)
    command = ["-m", "fastweights", "train", "--data", photos, "--out", out, *shape, *pace, "--threads", 1]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words, nowhere = [sys.executable, *launcher, *map(str, command)], subprocess.DEVNULL
    return subprocess.Popen(words, env=environment, stdout=nowhere, stderr=nowhere)


def losses(out: Path) -> list[float]:
    """The loss logged at every step, so far."""
    path = out / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run that nobody disturbs."""
    if process.wait():
        raise SystemExit(f"a training ended with {process.returncode}")


def kill(process: subprocess.Popen[bytes], out: Path, step: int) -> int:
    """SIGKILL once the log has the step; the number of logged steps."""
    while len(losses(out)) < step and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(losses(out))


def checksum(out: Path) -> str:
    """Of the weights alone: a card also tells the folder of the run."""
    state = weights.load(out / "weights.safetensors").state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()


@app.default
def main(*, steps: int = 120, every: int = 10, kills: int = 5, width: int = 32, result: Path = RESULT) -> None:
    """Run, kill, resume and compare.

    Args:
        steps: Training steps of four bursts.
        every: Steps between checkpoints.
        kills: How often to kill.
        width: Channels of the network.
        result: The JSON file written.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, killed, both = (Path(folder) / name for name in ("whole", "killed", "both"))
        finish(start(whole, steps, every, width))
        drawn = np.random.default_rng(SEED).choice(np.arange(1, steps - 1), kills, replace=False)
        at = [kill(start(killed, steps, every, width), killed, int(step)) for step in sorted(drawn)]
        finish(start(killed, steps, every, width))
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
        finish(start(both, steps, every, width, launcher))
        curves = [np.array(losses(out)) for out in (whole, killed, both)]
        found = {
            "steps": steps,
            "killed when the log had steps": at,
            "same weights": checksum(whole) == checksum(killed),
            "same losses": bool((curves[0] == curves[1]).all()),
            "largest relative difference of the smoothed loss, two processes": float(
                np.abs(curves[2] / curves[0] - 1).max()
            ),
            "loss at the end": [round(float(curve[-1]), 6) for curve in curves],
        }
    for name, value in found.items():
        print(f"{name}: {value}")
    report.write(result, found)


if __name__ == "__main__":
    app()
