"""Files in: pixels as the array written or an independent reader has them, and what stands beside them."""

import cv2
import numpy as np
import pytest
import tifffile
import torch
from burst.samples import dng, encoded, pixels, tiff
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import IFDRational

from fastweights.burst import denoise, images
from fastweights.burst.demo import Mean
from fastweights.burst.errors import BurstError
from fastweights.burst.frames import load
from fastweights.burst.images.picture import Details, keep_exif

EIGHT = pixels()
SIXTEEN = np.random.default_rng(3).integers(0, 65536, (40, 56, 3)).astype(np.uint16)
FLOAT = (EIGHT / 255).astype(np.float32)


def read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return images.read_frames([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "content", "expected", "white"),
    [
        ("a.png", encoded(".png", SIXTEEN), SIXTEEN, 65535),
        ("a.png", encoded(".png", SIXTEEN[..., 0]), SIXTEEN[..., :1], 65535),
        ("a.png", encoded(".png", EIGHT[..., 0]), EIGHT[..., :1], 255),
        ("a.tif", tiff(EIGHT, photometric="rgb"), EIGHT, 255),
        ("a.tif", tiff(SIXTEEN, photometric="rgb", byteorder=">"), SIXTEEN, 65535),
        ("a.tif", tiff(SIXTEEN, photometric="rgb", compression="lzw"), SIXTEEN, 65535),
        ("a.tif", tiff(SIXTEEN, photometric="rgb", compression="zlib", predictor=True, tile=(16, 16)), SIXTEEN, 65535),
        ("a.tif", tiff(SIXTEEN.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), SIXTEEN, 65535),
        ("a.tif", tiff(FLOAT, photometric="rgb"), FLOAT, 1),
        ("a.tif", tiff(FLOAT.astype(np.float64), photometric="rgb"), FLOAT, 1),
        ("a.tif", tiff(255 - EIGHT[..., 0], photometric="miniswhite"), EIGHT[..., :1], 255),
        ("a.png", tiff(EIGHT, photometric="rgb"), EIGHT, 255),
    ],
)
def test_pixels_are_those_of_the_file(tmp_path, name, content, expected, white):
    (picture,) = read(tmp_path, name, content)
    assert picture.pixels.dtype == expected.dtype
    assert np.array_equal(picture.pixels, expected)
    assert picture.white == white
    assert picture.colour == (expected.shape[2] == 3)


def test_transparency_is_dropped(tmp_path):
    alpha = np.concatenate([SIXTEEN, SIXTEEN[..., :1]], axis=2)
    for name, content in (
        ("a.tif", tiff(alpha, photometric="rgb", extrasamples=["unassalpha"])),
        ("a.png", cv2.imencode(".png", alpha[..., [2, 1, 0, 3]])[1].tobytes()),
    ):
        (picture,) = read(tmp_path, name, content)
        assert np.array_equal(picture.pixels, SIXTEEN)


def test_channels_beyond_colour_stay(tmp_path):
    five = np.concatenate([SIXTEEN, SIXTEEN[..., :2]], axis=2)
    (picture,) = read(tmp_path, "a.tif", tiff(five, photometric="rgb", extrasamples=["unspecified"] * 2))
    assert np.array_equal(picture.pixels, five)
    assert picture.colour
    (picture,) = read(tmp_path, "a.tif", tiff(five, photometric="minisblack", planarconfig="contig"))
    assert np.array_equal(picture.pixels, five)
    assert not picture.colour


@pytest.mark.parametrize("kind", ["imagej", "shaped", "pages", "channels", "colour pages"])
def test_a_stack_is_a_burst(tmp_path, kind):
    path = tmp_path / "stack.tif"
    stack = np.random.default_rng(0).integers(0, 4096, (5, 20, 30)).astype(np.uint16)
    expected = stack[..., None]
    if kind == "imagej":
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TYX"})
    elif kind == "shaped":
        tifffile.imwrite(path, stack, photometric="minisblack")
    elif kind == "pages":
        with tifffile.TiffWriter(path) as writer:
            for page in stack:
                writer.write(page, metadata=None)
    elif kind == "channels":
        channels = np.stack([stack, stack[::-1]], axis=1)
        tifffile.imwrite(path, channels, imagej=True, metadata={"axes": "TCYX"})
        expected = channels.transpose(0, 2, 3, 1)
    else:
        expected = np.stack([stack >> 4] * 3, axis=-1).astype(np.uint8)
        frames = [Image.fromarray(frame) for frame in expected]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    pictures = images.read_frames([path])
    assert np.array_equal(np.stack([picture.pixels for picture in pictures]), expected)
    assert pictures[3].name == f"{path}, frame 3"
    burst = load(path, transfer="linear", white=4095.0)
    assert len(burst) == 5
    if kind == "pages":
        assert torch.allclose(burst.light(2)[0], torch.from_numpy(stack[2] / np.float32(4095)))


def test_pages_of_different_sizes_are_no_burst(tmp_path):
    frames = [Image.new("RGB", (30, 20)), Image.new("RGB", (30, 20)), Image.new("RGB", (31, 20))]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(BurstError, match="frame 2 is 31 x 20"):
        load(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(np.zeros((2, 3, 20, 30), np.uint8), imagej=True, metadata={"axes": "TZYX"}), "2 T x 3 Z"),
        (tiff(np.zeros((20, 30), np.int32)), "int32"),
        (tiff(np.zeros((20, 30, 4), np.uint8), photometric="separated"), "SEPARATED"),
        (tiff(np.full((20, 30), np.nan, np.float32)), "not finite"),
        (tiff(np.full((20, 30), np.inf, np.float32)), "not finite"),
        (tiff(np.full((20, 30), 1e300)), "not finite"),
    ],
)
def test_what_a_tiff_may_not_hold(tmp_path, content, message):
    with pytest.raises(BurstError, match=message):
        read(tmp_path, "a.tif", content)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_tiff(tmp_path, orientation):
    content = tiff(EIGHT, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    (picture,) = read(tmp_path, "a.tif", content)
    with Image.open(tmp_path / "a.tif") as reference:
        assert np.array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(reference)))


def notes():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x013B] = "Camera maker", 6, "Zoë"
    exif[0x011A], exif[0x011B], exif[0x0128] = IFDRational(300), IFDRational(300), 2
    exif.get_ifd(0x8769).update({0x829A: IFDRational(1, 50), 0x8827: 3200, 0x9003: "2020:01:02 03:04:05", 0xA002: 99})
    exif.get_ifd(0x8825).update({1: "N", 2: (IFDRational(50), IFDRational(3), IFDRational(1, 2))})
    return exif


@pytest.mark.parametrize(
    ("name", "bits"),
    [("a.png", 8), ("a.png", 16), ("a.jpg", 8), ("a.webp", 8), ("a.tif", 8), ("a.tif", 16), ("a.tif", 32)],
)
def test_camera_data_and_profile_are_carried_over(tmp_path, name, bits):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    details = Details(keep_exif(notes()), profile)
    images.write(tmp_path / name, torch.rand(3, 20, 30), bits, details)
    if bits == 8 or name == "a.png":
        with Image.open(tmp_path / name) as file:
            exif = file.getexif()
            assert file.info["icc_profile"] == profile
            assert exif[0x010F] == "Camera maker"
            assert exif.get_ifd(0x8769)[0x829A] == 0.02
            assert exif.get_ifd(0x8825)[2] == (50, 3, 0.5)
            # The picture is upright, and as large as it is.
            assert 0x0112 not in exif
            assert 0xA002 not in exif.get_ifd(0x8769)
    else:
        with tifffile.TiffFile(tmp_path / name) as file:
            tags = file.pages.first.tags
            assert tags[34665].value["ISOSpeedRatings"] == 3200
            assert tags[34853].value["GPSLatitudeRef"] == "N"
            assert tags[34675].value == profile
    (picture,) = images.read_frames([tmp_path / name])
    assert picture.details == details


def test_the_profile_goes_where_values_keep_their_meaning(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number in range(2):
        images.write(tmp_path / f"{number}.png", torch.rand(3, 20, 30), 8, Details(keep_exif(notes()), profile))
    result = denoise(tmp_path, model=Mean())
    (tmp_path / "out").mkdir()
    result.write(tmp_path / "out" / "a.jpg")
    result.write(tmp_path / "out" / "a.tif", 16, "linear")
    encoded_, linear = (images.read_frames([tmp_path / "out" / name])[0] for name in ("a.jpg", "a.tif"))
    assert (encoded_.details.profile, linear.details.profile) == (profile, b"")
    assert encoded_.details.exif == linear.details.exif != b""
    assert np.allclose(linear.pixels / 65535, result.image.clamp(0, 1).permute(1, 2, 0), atol=1e-5)


class TestRaw:
    """A made-up sensor whose colours are sRGB's, so that the light it saw is known."""

    @pytest.fixture(autouse=True)
    def rawpy(self):
        return pytest.importorskip("rawpy")

    def test_black_white_and_colours(self, tmp_path):
        y, x = np.mgrid[:48, :64]
        light = np.stack([0.2 + 0.5 * x / 64, 0.3 + 0.3 * y / 48, 0.5 + 0 * x], axis=-1)
        for black, white, neutral in ((64, 1023, (1, 1, 1)), (512, 16383, (0.5, 1, 0.75))):
            (picture,) = read(tmp_path, "a.dng", dng(light, black, white, neutral=neutral))
            assert picture.linear
            assert picture.pixels.dtype == np.uint16
            assert picture.details.noise == ((1e-4, 1e-6),)
            found = picture.pixels / 65535
            assert np.abs(found - light)[8:-8, 8:-8].max() < 0.01

    def test_brightness_is_not_fitted_to_the_picture(self, tmp_path):
        dark, light = (read(tmp_path, "a.dng", dng(np.full((48, 64, 3), level)))[0] for level in (0.1, 0.4))
        assert np.isclose(light.pixels.mean() / dark.pixels.mean(), 4, rtol=0.01)

    def test_orientation_and_camera(self, tmp_path):
        light = np.zeros((48, 64, 3)) + np.linspace(0.1, 0.9, 64)[:, None]
        (picture,) = read(tmp_path, "a.dng", dng(light, orientation=6))
        assert picture.pixels.shape == (64, 48, 3)
        assert np.all(np.diff(picture.pixels[8:-8, 24, 1].astype(int)) > 0)
        exif = Image.Exif()
        exif.load(picture.details.exif)
        assert exif[0x010F] == "Camera maker"
        assert 0x0112 not in exif

    def test_a_burst_has_the_white_balance_of_its_first_frame(self, tmp_path):
        light = np.full((48, 64, 3), 0.4)
        (tmp_path / "0.dng").write_bytes(dng(light, neutral=(1, 1, 1)))
        (tmp_path / "1.dng").write_bytes(dng(light, neutral=(0.5, 1, 1)))
        first, second = images.read_frames([tmp_path / "0.dng", tmp_path / "1.dng"])
        assert np.allclose(second.pixels.mean((0, 1)) / first.pixels.mean((0, 1)), (0.5, 1, 1), atol=0.02)

    def test_without_rawpy_the_extra_is_named(self, tmp_path, monkeypatch):
        from fastweights.burst.images import raw

        monkeypatch.setattr(raw, "find_spec", lambda name: None)
        with pytest.raises(BurstError, match=r"fastweights\[raw\]"):
            read(tmp_path, "a.dng", dng(np.zeros((48, 64, 3))))

    def test_raw_and_other_files_are_no_burst(self, tmp_path):
        (tmp_path / "0.dng").write_bytes(dng(np.full((48, 64, 3), 0.4)))
        images.write(tmp_path / "1.png", torch.rand(3, 48, 64), 16)
        with pytest.raises(BurstError, match=r"1\.png has colour values .*0\.dng has raw colour"):
            load(tmp_path)
