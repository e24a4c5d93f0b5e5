"""torch.compile, torch.export and ONNX of hypernetworks and of what they bake; two processes that train one."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "compile_network.py"


def test_hypernetworks_compile_and_export():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("fine: ") == 6


def test_two_processes_have_the_gradients_of_one(tmp_path):
    command = [sys.executable, SCRIPT.with_name("parallel_network.py"), tmp_path / "store"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("fine: ") == 3
