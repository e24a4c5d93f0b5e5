"""torch.compile and torch.export of every layer, and of the burst networks where their extra is installed."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cases
import zoo_cells

SCRIPT = Path(__file__).parent / "compile_cases.py"


def in_two_processes(*arguments):
    """Every second case each."""
    commands = [[sys.executable, SCRIPT, part, *arguments] for part in "01"]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for command in commands]
    said = ["".join(both) for both in zip(*(one.communicate() for one in started), strict=True)]
    return subprocess.CompletedProcess(commands, max(abs(one.returncode) for one in started), *said)


def test_layers_and_burst_networks_compile_and_export():
    burst = ["--burst"] if find_spec("cv2") is not None else []
    done = in_two_processes(*burst)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(cases.CASES) + len(zoo_cells.CELLS + zoo_cells.MACHINES) + (
        10 if burst else 0
    )
