"""The denoiser beside the BM3D pipeline: seconds a burst by the frames' size, all of both included.

Command: `THP_MEM_ALLOC_ENABLE=1 python -m benchmarks.beside_bm3d` (the command `fastweights` sets the same), two
minutes on two threads; needs FASTWEIGHTS_DATA and the extra `baselines`; writes results/benchmark_beside_bm3d.json.
Medians over six simulated camera bursts of McMaster photos, half of them moving; both register the frames and measure
their noise.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from experiments import data, report
from fastweights.burst import cases, methods, weights
from fastweights.burst.synthesis.photos import load_photos

RESULT = Path("results/benchmark_beside_bm3d.json")
SIZES, BURSTS = (128, 256, 440), 6


def seconds(method: methods.Method, bursts: list[cases.Case]) -> float:
    """Median over the bursts, after one that compiles."""
    method(bursts[0])
    taken = []
    for burst in bursts:
        start = time.perf_counter()
        method(burst)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small frames, nothing written")
    smoke = parser.parse_args().smoke
    torch.set_num_threads(2)
    photos = load_photos(data.path("mcmaster"))[:4]
    ways = {"gated": methods.network_method(weights.load("gated")), "BM3D": methods.classical()["align + BM3D"]}
    rows = []
    for size in (48,) if smoke else SIZES:
        make = cases.cases("camera", photos, patch=size)
        bursts = [make(number) for number in range(1 if smoke else BURSTS)]
        found = {name: round(seconds(way, bursts), 3) for name, way in ways.items()}
        rows.append({"size": size, "seconds": found, "times as fast": round(found["BM3D"] / found["gated"], 1)})
        print(rows[-1], flush=True)
    if not smoke:
        report.write(RESULT, {"bursts": BURSTS, "rows": rows})


if __name__ == "__main__":
    main()
