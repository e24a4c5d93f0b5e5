from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from fastweights.burst.errors import BurstError
from fastweights.burst.synthesis.photos import list_photos, load_photos, split


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.webp", "c.PNG"):
        Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(tmp_path / name, lossless=True)
    Image.fromarray(rng.integers(0, 256, (4, 6), dtype=np.uint8)).save(tmp_path / "grey.png")
    (tmp_path / "notes.md").write_text("not a photo")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_names_and_a_list_in_its_own(folder):
    paths = list_photos(folder)
    assert [path.name for path in paths] == ["a.webp", "b.png", "c.PNG", "grey.png"]
    photos = load_photos(folder)
    assert [photo.shape for photo in photos] == [(5, 7, 3)] * 3 + [(4, 6, 3)]
    for photo, again in zip(photos, reversed(load_photos(reversed(paths))), strict=True):
        assert photo.dtype == np.uint8
        assert np.array_equal(photo, again)
    assert np.array_equal(photos[1], np.asarray(Image.open(folder / "b.png")))
    assert (photos[3][..., :1] == photos[3]).all()


@given(st.integers(0, 500))
def test_split_keeps_all_once_and_holds_back_a_tenth_spread_out(n):
    train, held_back = split(range(n))
    assert sorted(train + held_back) == list(range(n))
    assert abs(len(held_back) - n / 10) < 1
    assert all(b - a == 10 for a, b in pairwise(held_back))


def test_split_of_arrays_and_of_paths_agree(folder):
    paths = [*list_photos(folder), folder / "b.png"]
    _, held_back = split(paths)
    _, photos = split(load_photos(paths))
    assert held_back == [folder / "b.png"]
    assert np.array_equal(photos[0], load_photos(held_back)[0])


def test_bad_sources_are_one_sentence(tmp_path, folder):
    with pytest.raises(BurstError, match="no folder of photos"):
        load_photos(tmp_path / "absent")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BurstError, match="no photo in"):
        load_photos(empty)
    fake = tmp_path / "fake.png"
    fake.write_text("plain text")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes((folder / "b.png").read_bytes()[:60])
    for path in (fake, truncated):
        with pytest.raises(BurstError, match=f"cannot read the photo '.*{path.name}'"):
            load_photos([path])
