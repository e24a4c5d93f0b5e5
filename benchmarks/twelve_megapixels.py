"""A burst of eight 12-megapixel colour frames: seconds, memory beyond the frames, and what tiles change.

Command: `python -m benchmarks.twelve_megapixels`, about 5 minutes on two threads; writes
results/benchmark_twelve_megapixels.json. Each run is a process of its own; its memory is the peak of the process less
what it held with the frames loaded and the network built. Convolutions are timed call by call.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments import report
from fastweights.burst import images, weights
from fastweights.burst.frames import load
from fastweights.burst.pipeline import denoise

RESULT = Path("results/benchmark_twelve_megapixels.json")
SIZE, FRAMES = (3000, 4000), 8
RUNS = (("float32", 640), ("float32", 448), ("bfloat16", 640), ("bfloat16", 448))


class Convolutions(TorchDispatchMode):
    """Adds up the seconds that torch's convolutions take."""

    seconds = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.convolution.default:
            self.seconds += time.perf_counter() - start
        return result


def make(size: tuple[int, int]) -> np.ndarray:
    """Frames (8, H, W, 3) uint8: the shipped portrait magnified and repeated, shaken by up to 3 pixels, with noise."""
    photo = (255 * images.read(images.SAMPLE)).byte().permute(1, 2, 0).numpy()
    height, width = size
    large = cv2.resize(photo, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    repeated = np.tile(large, (height // large.shape[0] + 2, width // large.shape[1] + 2, 1))
    rng = np.random.default_rng(0)
    frames = np.empty((FRAMES, height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        down, right = rng.integers(0, 7, 2) if number else (3, 3)
        noise = rng.standard_normal(frame.shape, dtype=np.float32) * 10
        frame[:] = (repeated[down : down + height, right : right + width] + noise).clip(0, 255)
    return frames


def run(folder: Path, precision: str, tile: int) -> dict[str, Any]:
    """One denoising, measured in this process."""
    torch.set_num_threads(2)
    burst, network = load(np.load(folder / "frames.npy")), weights.load("gated")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    start = time.perf_counter()
    with Convolutions() as convolutions:
        result = denoise(burst, model=network, reference=0, precision=precision, tile=tile)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(folder / f"{precision}-{tile}.npy", result.image.numpy())
    return {
        "precision": precision,
        "tile": tile,
        "seconds": round(seconds, 1),
        "seconds in convolutions": round(convolutions.seconds, 1),
        "MiB beyond the frames": round(peak - before),
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="a small burst, nothing written")
    arguments = parser.parse_args()
    if arguments.one:
        folder, precision, tile = arguments.one
        print(json.dumps(run(Path(folder), precision, int(tile))))
        return
    size = (200, 300) if arguments.smoke else SIZE
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "frames.npy", make(size))
        for precision, tile in RUNS:
            command = [sys.executable, "-m", "benchmarks.twelve_megapixels", "--one", folder, precision, str(tile)]
            # as the command `fastweights` does
            settings = os.environ | {"THP_MEM_ALLOC_ENABLE": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
        pictures = {f"{p}-{t}": np.load(Path(folder) / f"{p}-{t}.npy") for p, t in RUNS}
    differences = {
        "float32, two tile sizes": float(np.abs(pictures["float32-640"] - pictures["float32-448"]).max()),
        "bfloat16, two tile sizes": float(np.abs(pictures["bfloat16-640"] - pictures["bfloat16-448"]).max()),
        "bfloat16 - float32": float(np.abs(pictures["bfloat16-640"] - pictures["float32-640"]).max()),
    }
    print(differences)
    if not arguments.smoke:
        frames = FRAMES * size[0] * size[1] * 3 / 2**20
        report.write(RESULT, {"frames MiB": round(frames), "runs": rows, "largest difference": differences})


if __name__ == "__main__":
    main()
