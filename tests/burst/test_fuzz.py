"""Damaged files of every format: read or refused in one sentence, never anything else."""

import numpy as np
import pytest
from burst.samples import damaged, every_format

from fastweights.burst import images
from fastweights.burst.errors import BurstError

FORMATS = every_format()
COPIES = 40


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(tmp_path, name, capfd):
    if name.endswith(".dng"):
        pytest.importorskip("rawpy")
    path = tmp_path / name
    path.write_bytes(FORMATS[name])
    sound = images.read_frames([path])
    rng = np.random.default_rng(7)
    refused = []
    for _ in range(COPIES):
        path.write_bytes(damaged(FORMATS[name], rng))
        try:
            pictures = images.read_frames([path])
        except BurstError as error:
            refused.append(str(error))
        else:
            assert all(picture.pixels.dtype in (np.uint8, np.uint16, np.float32) for picture in pictures)
            assert all(np.isfinite(picture.pixels).all() for picture in pictures)
    assert len(refused) > COPIES // 5
    assert all(sentence.startswith(f"cannot read {path}: ") for sentence in refused)
    assert len(sound) == (5 if name == "stack.tif" else 1)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", FORMATS)
def test_files_cut_off_are_refused(tmp_path, name):
    if name.endswith(".dng"):
        pytest.importorskip("rawpy")
    path = tmp_path / name
    for part in (0.05, 0.5, 0.97):
        path.write_bytes(FORMATS[name][: int(part * len(FORMATS[name]))])
        with pytest.raises(BurstError, match="cannot read"):
            images.read_frames([path])
