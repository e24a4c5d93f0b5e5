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


def test_convolutions():
    command = [sys.executable, "-m", "benchmarks.convolutions", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    rows = json.loads(done.stdout)
    names = {
        "shared": ("shared_conv", "unfold", "grouped", "image by image"),
        "separable": ("separable_conv", "whole kernels"),
    }
    for name, ways in names.items():
        assert set(rows[name]["milliseconds"]) == {f"{way}{end}" for way in ways for end in ("", ", backward")}


def test_fast_ways():
    command = [sys.executable, "-m", "benchmarks.fast_ways", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    rows = json.loads(done.stdout)
    operations = ["cond_conv", "basis_prediction", "gated_kernels", "slicing", "machine", "ids", "attention"]
    assert [row["operation"] for row in rows] == operations
    assert all(len(row["milliseconds"]) >= 4 for row in rows)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured on Linux only")
def test_hypernetwork():
    command = [sys.executable, "-m", "benchmarks.hypernetwork", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    assert (
        {"HyperNetwork", "by hand", "vmap"}
        <= set(row["forward"]["milliseconds"])
        == set(row["backward"]["milliseconds"])
    )
    assert set(row["extra MiB"]) == {"HyperNetwork", "by hand"}


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


def test_beside_bm3d(data):
    pytest.importorskip("bm3d")
    command = [sys.executable, "-m", "benchmarks.beside_bm3d", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "times as fast" in done.stdout


def test_seeds():
    command = [sys.executable, "-m", "benchmarks.seeds", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["method"] for row in rows[:-1]] == ["embedding", "hypernetwork"] * 2
    assert all(row[how]["floor, times one seed"] > 0 for row in rows[:-1] for how in ("in turn", "warm"))
    assert rows[-1]["milliseconds"]["all seeds"] > 0
