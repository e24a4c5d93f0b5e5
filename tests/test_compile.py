"""torch.compile and torch.export of every layer, and of the burst networks where their extra is installed."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cases
import zoo_cells

SCRIPT = Path(__file__).parent / "compile_cases.py"


def test_layers_and_burst_networks_compile_and_export():
    burst = ["--burst"] if find_spec("cv2") is not None else []
    done = subprocess.run([sys.executable, SCRIPT, *burst], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(cases.CASES) + len(zoo_cells.CELLS + zoo_cells.MACHINES) + (
        10 if burst else 0
    )
