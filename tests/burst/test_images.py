"""Image files: what is written is read again, whatever the format; what is broken is refused by name."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastweights.burst import images
from fastweights.burst.errors import BurstError
from fastweights.burst.frames import load


def picture(height=20, width=31, peak=255):
    """Random encoded values on the grid of a bit depth."""
    return torch.randint(0, peak + 1, (3, height, width), generator=torch.manual_seed(1)) / peak


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".webp"])
def test_8_bits_survive_lossless_formats(tmp_path, suffix):
    path, image = tmp_path / f"a{suffix}", picture()
    images.write(path, image)
    assert torch.equal(images.read(path), image)


@pytest.mark.parametrize("suffix", images.DEEP_SUFFIXES)
def test_16_bits_survive(tmp_path, suffix):
    path, image = tmp_path / f"a{suffix}", picture(peak=65535)
    images.write(path, image, bits=16)
    assert torch.equal(images.read(path), image)


def test_jpeg_comes_close(tmp_path):
    smooth = torch.linspace(0.1, 0.9, 32).expand(3, 24, 32) * torch.tensor([1.0, 0.8, 0.6]).reshape(3, 1, 1)
    images.write(tmp_path / "a.jpg", smooth)
    assert (images.read(tmp_path / "a.jpg") - smooth).abs().max() < 0.02


def test_colours_are_in_the_order_of_pillow(tmp_path):
    array = (picture() * 255).byte().permute(1, 2, 0).numpy()
    for suffix in (".png", ".tif", ".webp", ".bmp"):
        Image.fromarray(array).save(tmp_path / f"a{suffix}", lossless=True)
        assert torch.equal(images.read(tmp_path / f"a{suffix}"), picture())


def test_values_are_clipped_and_rounded(tmp_path):
    image = torch.tensor([-0.5, 0.4 / 255, 0.6 / 255, 2.0]).expand(3, 1, 4)
    images.write(tmp_path / "a.png", image)
    assert (images.read(tmp_path / "a.png")[0, 0] * 255).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("mode", ["L", "I;16", "1", "P", "RGBA", "LA"])
def test_grey_palette_and_transparent_pictures(tmp_path, mode):
    grey = (np.arange(12 * 9).reshape(12, 9) * 2).astype(np.uint8)
    if mode == "I;16":
        source, expected = Image.fromarray(grey.astype(np.uint16) * 257), grey
    else:
        source = Image.fromarray(grey).convert("RGB").convert(mode)
        expected = np.asarray(source.convert("RGB"))[..., 0]
    source.save(tmp_path / "a.png")
    read = images.read(tmp_path / "a.png")
    assert torch.equal(read, torch.from_numpy(expected / np.float32(255)).expand(3, 12, 9))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_camera_orientation_is_applied(tmp_path, suffix, orientation):
    array = np.zeros((24, 40, 3), np.uint8)
    array[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(array).save(path, exif=exif)
    turned = np.rot90(array, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    read = images.read(path)
    assert read.shape[1:] == turned.shape[:2]
    assert (read.permute(1, 2, 0) - torch.from_numpy(turned / np.float32(255))).abs().mean() < 0.02


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("part", [0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, capfd, suffix, part):
    path = tmp_path / f"a{suffix}"
    images.write(path, picture(60, 80))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(BurstError, match=f"cannot read .*{path.name}"):
        images.read(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n", bytes(1000), b"P6 3 3 255 "])
def test_what_is_no_picture_is_named(tmp_path, capfd, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(BurstError, match=r"cannot read .*a\.png"):
        images.read(path)
    assert capfd.readouterr() == ("", "")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(BurstError, match=r"nothing\.png"):
        images.read(tmp_path / "nothing.png")
    with pytest.raises(BurstError, match="cannot read"):
        images.read(tmp_path)


def test_a_folder_is_read_in_natural_order(tmp_path):
    for name in ("frame_10.png", "frame_2.PNG", "frame_1.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "raw").mkdir()
    expected = [tmp_path / name for name in ("frame_1.jpg", "frame_2.PNG", "frame_10.png")]
    assert images.find(tmp_path) == expected
    assert images.find(str(tmp_path)) == expected
    assert images.find([tmp_path]) == expected
    assert images.find(expected[::-1]) == expected[::-1]
    with pytest.raises(BurstError, match="no pictures"):
        images.find(tmp_path / "raw")
    with pytest.raises(BurstError, match="does not exist"):
        images.find(tmp_path / "nowhere")


def test_a_burst_has_one_size(tmp_path):
    for number, width in enumerate((30, 30, 29)):
        images.write(tmp_path / f"{number}.png", picture(width=width))
    paths = images.find(tmp_path)
    assert load(paths[:2]).size == (20, 30)
    with pytest.raises(BurstError, match=r"2\.png is 29 x 20 pixels, but .*0\.png is 30 x 20"):
        load(paths)


@pytest.mark.parametrize("name", ["nowhere/a.png", "a", "a.gif", "."])
def test_impossible_outputs(tmp_path, name):
    with pytest.raises(BurstError):
        images.check_output(tmp_path / name)
    with pytest.raises(BurstError):
        images.write(tmp_path / name, picture())
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_not_replaced(tmp_path):
    images.write(tmp_path / "a.png", picture())
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    images.check_output(tmp_path / "b.png")
    with pytest.raises(BurstError, match="own frames"):
        images.check_output(tmp_path / "b.png", 8, [tmp_path / "a.png"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    images.write(path, picture())
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BurstError, match="No space left"):
        images.write(path, 1 - picture())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_ordinary_permissions(tmp_path):
    images.write(tmp_path / "a.png", picture())
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode
