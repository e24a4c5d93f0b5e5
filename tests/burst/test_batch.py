"""The command `denoise`: what it writes and skips, and every bad input in one sentence with nothing half-written."""

import errno
import json
import os
import pickle
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from burst.samples import encoded, pixels, tiff
from PIL import Image
from safetensors.torch import load_file, save_file

from fastweights import __main__ as program
from fastweights.burst import batch, images, models, weights


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The weights of an untrained network."""
    config = models.ModelConfig(task="camera", width=4, post=4, kernel_size=3, unit_sum=True)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return weights.save_weights(path, models.build(config), config, {})


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encoded(".png", pixels(seed=number)))
    return folder


@pytest.fixture
def denoise(network, capfd):
    """Runs the command; gives status, lines of stdout and of stderr."""

    def run(*arguments):
        status = program.main(["denoise", *map(str, arguments), "--model", str(network)])
        out, err = capfd.readouterr()
        return status, out.splitlines(), err.splitlines()

    return run


@pytest.fixture
def refused(denoise, tmp_path):
    """Runs the command on what it has to refuse: status 2, one line on stderr, no file changed."""

    def run(*arguments, output=None):
        before = _files(tmp_path)
        status, out, err = denoise(*arguments, "-o", output or tmp_path / "clean.png")
        assert (status, out, len(err)) == (2, [], 1)
        assert err[0].startswith("error: ")
        assert _files(tmp_path) == before
        return err[0]

    return run


def _files(folder):
    return {path: path.is_dir() or path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_picture_comparison_and_facts(denoise, frames, tmp_path):
    output = tmp_path / "clean.tif"
    status, out, err = denoise(frames, "-o", output, "--compare", "--json", "--bits", 16, "--reference", 1)
    assert (status, err) == (0, [])
    assert "3 frames of 56 x 40 pixels, shown as 1.png saw it" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clean.compare.jpg",
        "clean.json",
        "clean.tif",
        "frames",
    ]
    facts = json.loads((tmp_path / "clean.json").read_text())
    assert facts["reference"] == 1
    assert np.shape(facts["shifts"]) == (3, 2)
    assert np.shape(facts["noise"]["std"]) == np.shape(facts["noise"]["intensities"])
    assert facts["seconds"]["all"] > facts["seconds"]["without_reading"] > 0
    assert facts["peak_memory_bytes"] > 2**20
    (picture,) = images.read_frames([output])
    assert (picture.pixels.shape, picture.pixels.dtype) == ((40, 56, 3), np.uint16)
    sheet = images.read(tmp_path / "clean.compare.jpg")
    assert sheet.shape[2] == 3 * 56 + 16
    one, mean, result = (sheet[:, -40:, left : left + 56] for left in (0, 64, 128))
    assert (one - images.read(frames / "1.png")).abs().mean() < 0.02
    assert (mean - torch.stack([images.read(path) for path in sorted(frames.iterdir())]).mean(0)).abs().mean() < 0.02
    assert (result - images.read(output)).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("suffix", "source", "flags", "dtype"),
    [
        (".png", np.uint8, [], np.uint8),
        (".png", np.uint16, [], np.uint16),
        (".jpg", np.uint16, [], np.uint8),
        (".tif", np.uint16, ["--transfer", "linear"], np.uint16),
        (".tif", np.float32, [], np.float32),
        (".png", np.float32, [], np.uint16),
        (".tif", np.float32, ["--bits", "8"], np.uint8),
    ],
)
def test_bits_are_the_frames_unless_named(denoise, tmp_path, suffix, source, flags, dtype):
    peak = 1 if source == np.float32 else np.iinfo(source).max
    for number in range(2):
        array = (pixels(seed=number)[..., 0] / 255 * peak).astype(source)
        (tmp_path / f"{number}.tif").write_bytes(tiff(array, photometric="minisblack"))
    output = tmp_path / f"clean{suffix}"
    assert denoise(tmp_path / "0.tif", tmp_path / "1.tif", "-o", output, "--no-align", *flags)[0] == 0
    (picture,) = images.read_frames([output])
    assert (picture.pixels.shape, picture.pixels.dtype) == ((40, 56, 1), dtype)
    assert abs(picture.pixels.mean() / picture.white - pixels()[..., 0].mean() / 255) < 0.02


def test_a_linear_stack_keeps_its_scale(denoise, tmp_path):
    stack = np.random.default_rng(0).poisson(900, (6, 40, 56)).astype(np.uint16)
    (tmp_path / "stack.tif").write_bytes(tiff(stack, photometric="minisblack"))
    output = tmp_path / "clean.tif"
    status, _, _ = denoise(tmp_path / "stack.tif", "-o", output, "--transfer", "linear", "--white", 4095)
    (picture,) = images.read_frames([output])
    assert status == 0
    assert abs(picture.pixels.mean() - 900) < 5


@pytest.mark.parametrize("jobs", [1, 2])
def test_several_bursts_are_resumed(denoise, frames, tmp_path, jobs):
    for name in ("second", "third"):
        (tmp_path / name).mkdir()
        for path in frames.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "third" / "1.png").write_text("Dear diary")
    out = tmp_path / "out"
    out.mkdir()
    (out / "second.jpg").write_bytes(b"made before")
    folders = [frames, tmp_path / "second", tmp_path / "third"]
    status, lines, errors = denoise(*folders, "-o", out, "--suffix", ".jpg", "--jobs", jobs)
    assert status == 2
    assert lines[0].startswith(f"wrote {out / 'frames.jpg'}")
    assert lines[1:] == [f"skipped {out / 'second.jpg'}: it exists, --overwrite makes it again"]
    assert errors[0].startswith(f"error: cannot read {tmp_path / 'third' / '1.png'}")
    assert errors[1:] == ["error: 1 of 3 bursts failed, see above"]
    assert sorted(path.name for path in out.iterdir()) == ["frames.jpg", "second.jpg"]
    assert (out / "second.jpg").read_bytes() == b"made before"
    assert denoise(tmp_path / "second", "-o", out, "--suffix", ".jpg", "--overwrite")[0] == 0
    assert images.read(out / "second.jpg").shape == (3, 40, 56)


class TestBadInput:
    def test_bursts_need_a_folder(self, refused, frames, tmp_path):
        (tmp_path / "other").mkdir()
        assert "need a folder" in refused(frames, tmp_path / "other")
        assert "is no folder" in refused(frames, frames / "0.png")
        (tmp_path / "other" / "frames").mkdir()
        assert "has the name of another" in refused(frames, tmp_path / "other" / "frames", output=tmp_path)

    @pytest.mark.parametrize("odd", ["16 bits", "grey", "size"])
    def test_frames_that_differ_in_kind_are_refused(self, refused, frames, odd):
        array = pixels()
        array = {"16 bits": array.astype(np.uint16) * 257, "grey": array[..., 0], "size": array[:, :50]}[odd]
        (frames / "1.png").write_bytes(encoded(".png", np.ascontiguousarray(array)))
        assert str(frames / "1.png") in refused(frames)

    def test_a_decompression_bomb(self, refused, frames):
        # The header of a picture of 30,000 x 30,000 pixels.
        content = bytearray(encoded(".png", pixels()))
        content[16:24] = (30_000).to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        (frames / "1.png").write_bytes(content)
        assert "decompression bomb" in refused(frames)
        (frames / "1.png").unlink()
        huge = tiff(np.zeros((1, 1), np.uint8))
        for tag in (256, 257):
            entry = huge.index(tag.to_bytes(2, "little") + (4).to_bytes(2, "little"))
            huge = huge[: entry + 8] + (60_000).to_bytes(4, "little") + huge[entry + 12 :]
        (frames / "1.tif").write_bytes(huge)
        assert str(frames / "1.tif") in refused(frames)

    def test_printers_colours(self, refused, frames):
        Image.fromarray(pixels()).convert("CMYK").save(frames / "1.jpg")
        assert "CMYK" in refused(frames)

    def test_forty_frames(self, refused, tmp_path, frames):
        for number in range(3, 40):
            (frames / f"{number}.png").write_bytes(b"not even looked at")
        assert "2 to 32 frames, got 40" in refused(frames)
        (tmp_path / "stack.tif").write_bytes(tiff(np.zeros((40, 20, 30), np.uint8), photometric="minisblack"))
        assert "2 to 32 frames, got 40" in refused(tmp_path / "stack.tif")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
    def test_values_that_are_no_light(self, refused, tmp_path, value):
        stack = np.full((3, 20, 30), 0.5, np.float32)
        stack[1, 3, 4] = value
        (tmp_path / "stack.tif").write_bytes(tiff(stack, photometric="minisblack"))
        assert str(tmp_path / "stack.tif") in refused(tmp_path / "stack.tif")

    def test_channels_that_the_format_does_not_hold(self, refused, tmp_path):
        stack = np.zeros((3, 2, 20, 30), np.uint8)
        (tmp_path / "stack.tif").write_bytes(tiff(stack, imagej=True, metadata={"axes": "TCYX"}))
        assert "2 channels" in refused(tmp_path / "stack.tif")

    @pytest.mark.parametrize("what", ["cut short", "shapes", "pickle", "another program's"])
    def test_weights_that_are_none(self, frames, tmp_path, network, capfd, what):
        path = tmp_path / "bad.safetensors"
        if what == "cut short":
            path.write_bytes(network.read_bytes()[:-100])
        elif what == "pickle":
            path.write_bytes(pickle.dumps({"weight": [1.0]}))
        else:
            tensors = {name: value[:1].contiguous() for name, value in load_file(network).items()}
            config = '{"task": "camera", "width": 4, "post": 4, "kernel_size": 3, "unit_sum": true}'
            save_file(tensors, path, {"config": config, "card": "{}"} if what == "shapes" else None)
        status = program.main(["denoise", str(frames), "-o", str(tmp_path / "clean.png"), "--model", str(path)])
        out, err = capfd.readouterr()
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert str(path) in err
        assert not (tmp_path / "clean.png").exists()


class TestDisk:
    def test_a_folder_that_is_read_only(self, refused, frames, tmp_path, monkeypatch):
        # Root may write anywhere: the answer of the system is made up.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert "no permission" in refused(frames)

    @pytest.mark.parametrize("call", ["write", "replace"])
    def test_a_full_disk(self, refused, frames, monkeypatch, call):
        def full(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(*((Path, "write_bytes") if call == "write" else (os, "replace")), full)
        assert "No space left on device" in refused(frames)

    def test_a_disk_that_is_really_full(self, refused, frames, tmp_path):
        small = tmp_path / "small"
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", str(small)]
        if os.name != "posix" or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        try:
            assert "No space left on device" in refused(frames, output=small / "clean.tif")
            assert list(small.iterdir()) == []
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_ctrl_c_while_writing(self, denoise, frames, tmp_path, monkeypatch):
        def stop(path, content):
            with path.open("wb") as file:
                file.write(content[:100])
            raise KeyboardInterrupt

        (tmp_path / "clean.png").write_bytes(b"old")
        monkeypatch.setattr(Path, "write_bytes", stop)
        status, out, err = denoise(frames, "-o", tmp_path / "clean.png", "--overwrite")
        assert (status, out, err) == (130, [], ["stopped"])
        assert (tmp_path / "clean.png").read_bytes() == b"old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.png", "frames"]

    def test_no_memory_left(self, refused, frames, monkeypatch):
        def none(*_, **__):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 byte")

        monkeypatch.setattr(batch, "denoise", none)
        assert "--tile" in refused(frames)
