"""Benchmarks run on a small case; nothing here looks at the times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured on Linux only")
def test_local_conv():
    command = [sys.executable, "-m", "benchmarks.local_conv", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    row = json.loads(done.stdout)
    assert set(row["milliseconds"]) == {"read", "local_conv", "local_conv, backward", "unfold", "unfold, backward"}
    assert row["extra MiB"]["unfold"] > row["extra MiB"]["local_conv"]


def test_twelve_megapixels():
    pytest.importorskip("cv2")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.twelve_megapixels", "--smoke"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert "two tile sizes" in done.stdout
