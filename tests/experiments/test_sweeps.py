"""A killed sweep goes on where it stopped; several processes and a Dask cluster give the numbers of one process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.galanti2020 import embedding_size, layers, sweep

ROOT = Path(__file__).parents[2]
NUMBERS = ("method", "x", "seeds", "epochs", "after_epochs")


def rows(path):
    found = json.loads(path.read_text())["rows"]
    return sorted(([row[name] for name in NUMBERS] for row in found), key=str)


def run(path, **options):
    embedding_size.main(sweep.Options(x=[1, 2], seeds=2, smoke=True, result=path, **options))
    return rows(path)


def test_mistakes_do_not_end_in_silence(tmp_path):
    for options, message in (
        ({"starts": ["foo", "he"]}, "--starts foo: expected some of default, he, hyperfan-in, anchored"),
        ({"seeds": 0}, "--seeds 0 --epochs 1: expected at least 1 of each"),
        ({"epochs": 0}, "--seeds 10 --epochs 0: expected at least 1 of each"),
        ({"x": [1]}, "--x 1: f and e have at least 2 layers"),
    ):
        with pytest.raises(SystemExit, match=message):
            layers.main(sweep.Options(smoke=True, result=tmp_path / "r.json", **options))


def test_several_processes_give_the_numbers_of_one(tmp_path):
    one = run(tmp_path / "one.json")
    assert len(one) == 4
    assert run(tmp_path / "two.json", processes=2) == one


@pytest.mark.filterwarnings(
    "ignore:::distributed", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_two_dask_workers_give_the_numbers_of_one_process(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = run(tmp_path / "cluster.json", processes=2, cluster=cluster.scheduler_address)
    assert len(there) == 4
    assert there == run(tmp_path / "one.json")


def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "r.json"
    arguments = ["--x", "1", "2", "3", "--seeds", "2", "--smoke", "--result", path]
    command = [sys.executable, "-m", "experiments.galanti2020.embedding_size", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ)
    line = process.stdout.readline()  # printed when a row is written
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert line.startswith("embedding"), line
    before, written = json.loads(path.read_text())["rows"], path.stat().st_mtime_ns
    assert 1 <= len(before) < 6
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = json.loads(path.read_text())["rows"]
    assert after[: len(before)] == before
    assert len(after) == 6
    assert len(done.stdout.splitlines()) == 6 - len(before)  # what was there was not run again
    assert path.stat().st_mtime_ns > written
    fresh = tmp_path / "fresh.json"
    embedding_size.main(sweep.Options(x=[1, 2, 3], seeds=2, smoke=True, result=fresh))
    assert rows(path) == rows(fresh)
