"""The experiments' data: official files and ours are the same, and a sentence where there are none."""

import gzip

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import data as sets
from experiments.mueller2024 import fig3_random


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv(sets.VARIABLE, str(tmp_path))
    return tmp_path


def test_without_the_variable_one_sentence(run):
    with pytest.raises(SystemExit, match=r"set the variable FASTWEIGHTS_DATA to its folder; docs/data.md") as end:
        run("mueller2024.movielens")
    assert isinstance(end.value.code, str)  # Python prints it, and the exit status is 1


def test_a_set_that_lacks_is_named(here):
    with pytest.raises(SystemExit, match=r"lacks 'movielens/ml-100k/u.data': docs/data.md"):
        sets.movielens()


def test_cifar10_as_published_is_the_sheets(here):
    images = np.random.default_rng(0).integers(0, 256, (10_000, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(60_000, dtype=np.uint8) % 10
    (here / "cifar10").mkdir()
    sheet = images.reshape(100, 100, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(3200, 3200, 3)
    Image.fromarray(sheet).save(here / "cifar10" / "test_batch.webp", lossless=True, method=0, quality=0)
    np.savez(here / "cifar10" / "index.npz", labels=labels)
    ours = sets.cifar10("test")
    assert np.array_equal(ours[0].numpy(), images)
    assert np.array_equal(ours[1].numpy(), labels[50_000:])
    archive = here / "cifar10" / "cifar-10-batches-bin"
    archive.mkdir()
    np.concatenate([labels[50_000:, None], images.reshape(10_000, -1)], 1).tofile(archive / "test_batch.bin")
    sets._cifar10.cache_clear()
    theirs = sets.cifar10("test")
    assert theirs[0] is not ours[0]
    assert torch.equal(theirs[0], ours[0])
    assert torch.equal(theirs[1], ours[1])
    sets._cifar10.cache_clear()


def test_mnist_as_published(here):
    images = np.arange(2 * 28 * 28, dtype=np.uint16).astype(np.uint8).reshape(2, 28, 28)
    (here / "mnist").mkdir()
    for name, header, content in (("images-idx3", 16, images), ("labels-idx1", 8, np.array([7, 2], np.uint8))):
        file = here / "mnist" / f"t10k-{name}-ubyte.gz"
        file.write_bytes(gzip.compress(bytes(header) + content.tobytes()))
    found, labels = sets.mnist("test")
    assert np.array_equal(found.numpy(), images)
    assert labels.tolist() == [7, 2]


def test_mcmaster_by_number_whatever_the_format(here):
    (here / "mcmaster").mkdir()
    for name in ("10.tif", "2.tif", "1.tif", "readme.txt"):
        (here / "mcmaster" / name).touch()
    assert [file.name for file in sets.mcmaster()] == ["1.tif", "2.tif", "10.tif"]


def test_real_sets_have_their_sizes(data, monkeypatch):
    monkeypatch.setenv(sets.VARIABLE, str(data))
    assert [len(sets.mnist(part)[1]) for part in ("train", "test")] == [60_000, 10_000]
    assert sets.cifar10("test")[1][:4].tolist() == [3, 8, 8, 0]  # cat, ship, ship, airplane
    assert len(sets.mcmaster()) == 18
    assert sets.movielens().shape == (100_000, 4)


def test_networks_that_are_not_trained(run, tmp_path):
    for arguments in (
        ("table1_burst", "judge", "--runs", tmp_path),
        ("memory", "--runs", tmp_path),
        ("fold", "--network", tmp_path / "kpn-seed0" / "weights.safetensors"),
    ):
        with pytest.raises(SystemExit, match=r"no trained network .*: train one first, by `python -m experiments"):
            run(f"mueller2024.{arguments[0]}", *arguments[1:], "--result", tmp_path / "r.json", data=tmp_path)
    with pytest.raises(SystemExit, match="no network 'kpn-from-7': expected one of kpn, "):
        run("mueller2024.table1_burst", "train", "kpn-from-7", "--runs", tmp_path, data=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_size_that_no_h_has():
    with pytest.raises(SystemExit, match="--tasks Z3: expected reading A or B and a size from 1 to 128"):
        fig3_random.main(tasks="Z3")
    with pytest.raises(SystemExit, match="--tasks A0"):
        fig3_random.main(tasks="A0")
