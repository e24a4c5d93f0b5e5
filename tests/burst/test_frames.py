"""Frames stay as their files hold them: the same light, and no copies of all of them in floating point."""

import numpy as np
import pytest
import torch

from fastweights.burst import Burst, denoise, images, load, models
from fastweights.burst import precision as precisions
from fastweights.burst.demo import Mean
from fastweights.burst.errors import BurstError
from fastweights.burst.pipeline import mean_of
from fastweights.burst.transfer import srgb_decode, srgb_encode

PHOTO = images.read(images.SAMPLE)[:, 40:140, 150:270]


def noisy(number=4, channels=3):
    frames = PHOTO[:channels] + 0.05 * torch.randn(number, channels, *PHOTO.shape[1:], generator=torch.manual_seed(5))
    return frames.clamp(0, 1)


def camera(**settings):
    """A camera network whose picture is far from the mean."""
    torch.manual_seed(1)
    config = models.ModelConfig(
        "camera", "gated", width=4, post=6, maps=6, out_kernel_size=1, unit_sum=True, **settings
    )
    network = models.build(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("transfer", ["srgb", "linear"])
def test_light_is_that_of_the_curve(dtype, transfer):
    values = np.random.default_rng(0).random((2, 20, 30, 3)).astype(np.float32)
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    values = values if peak == 1 else (values * peak).round().astype(dtype)
    burst = load(values, transfer=transfer)
    expected = torch.from_numpy(values.astype(np.float64) / peak).permute(0, 3, 1, 2)
    encoded = expected if transfer == "srgb" else srgb_encode(expected)
    expected = srgb_decode(expected) if transfer == "srgb" else expected
    assert torch.allclose(burst.light(1).double(), expected[1], atol=1e-6)
    # Vectorised powers differ in the last bit by where they stand.
    assert torch.allclose(burst.light(1, slice(3, 9), slice(4, 30)), burst.light(1)[:, 3:9, 4:30], atol=2e-7)
    grey = encoded[0].mean(0) if transfer == "srgb" else srgb_encode(expected[0].mean(0))
    assert torch.allclose(burst.encoded(0).double(), grey, atol=1e-6)


def test_white_is_the_value_that_is_white():
    values = np.full((2, 20, 30, 3), 2000, np.uint16)
    assert torch.allclose(load(values, "linear", 4000.0).light(0), torch.tensor(0.5))
    for white in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BurstError, match="white"):
            load(values, "linear", white)


@pytest.mark.parametrize("tile", [48, 96])
def test_the_picture_does_not_depend_on_the_tile(tile):
    network, frames = camera(), np.roll(noisy(4).numpy(), 3, axis=-1)
    whole = denoise(frames, model=network, reference=0, tile=4096, precision="float32").image
    tiled = denoise(frames, model=network, reference=0, tile=tile, precision="float32").image
    assert (whole - srgb_decode(torch.from_numpy(frames)).mean(0)).abs().max() > 0.01
    assert (tiled - whole).abs().max() <= 1e-4


def test_a_crop_is_a_part_of_the_whole():
    network, frames = camera(), noisy(5).numpy()
    settings = {"model": network, "reference": 1, "precision": "float32"}
    whole = denoise(frames, **settings).image
    part = denoise(load(frames, crop=(21, 35, 90, 50)), **settings).image
    assert (part - whole[:, 35:85, 21:111]).abs().max() <= 1e-4
    for crop in ((-1, 0, 20, 20), (0, 0, 121, 20), (0, 0, 0, 20), (115, 0, 10, 20)):
        with pytest.raises(BurstError, match="not within the frames' 120 x 100 pixels"):
            load(frames, crop=crop)


def test_strength_lies_between_mean_and_network():
    network, frames = camera(), noisy()
    mean, half, full = (
        denoise(frames, model=network, reference=0, strength=s, precision="float32").image for s in (0.0, 0.5, 1.0)
    )
    assert torch.allclose(mean, srgb_decode(frames).mean(0), atol=1e-5)
    assert torch.allclose(half, (mean + full) / 2, atol=1e-6)
    assert (full - mean).abs().max() > 0.01
    result = denoise(frames, model=network, reference=0)
    assert torch.allclose(mean_of(result), mean, atol=1e-6)


def test_other_channels_are_planes_of_their_own():
    network = camera()
    # Whole numbers: their light is looked up, the same wherever they stand.
    pixels = [np.ascontiguousarray(frame) for frame in (255 * noisy()).byte().permute(0, 2, 3, 1).numpy()]
    five = [np.concatenate([frame, 255 - frame[..., :2]], axis=2) for frame in pixels]
    details = [images.Details()] * 4

    def picture(frames, colour):
        burst = Burst(frames, 255.0, False, colour, list("abcd"), details)
        return denoise(burst, model=network, reference=0, align=False, precision="float32").image

    colour = picture(pixels, True)
    planes = picture([frame[..., 3:] for frame in five], False)
    together = picture(five, True)
    assert together.shape[0] == 5
    # the random network's values go to 70: rounding counts by the largest
    rounding = 1e-6 * colour.abs().max().item()
    assert torch.allclose(together[:3], colour, atol=rounding)
    assert torch.allclose(together[3:], planes, atol=rounding)
    grey = [np.repeat(frame[..., 3:4], 3, axis=2) for frame in five]
    assert torch.allclose(picture(grey, True).mean(0), planes[0], atol=1e-5)


@pytest.mark.parametrize(("blank", "level"), [(0, 0.0), (255, 1.0)])
def test_black_and_white_bursts_stay_what_they_are(blank, level):
    result = denoise(np.full((3, 40, 50, 3), blank, np.uint8), model=camera(), precision="float32")
    assert torch.allclose(result.image, torch.tensor(level), atol=1e-3)
    assert result.shifts.abs().max() == 0
    assert result.noise.summary()


def test_no_copy_of_all_frames_is_made():
    # The sum of all windows that are held at one time, by what a window of one tile and its frames holds.
    held = []

    class Watch(Mean):
        def forward(self, frames, counts):
            held.append(frames.numel())
            return super().forward(frames, counts)

    for side in (200, 400):
        frames = np.zeros((9, side, side, 3), np.uint8) + np.arange(side, dtype=np.uint8)[:, None]
        burst = load(frames)
        assert all(np.shares_memory(kept, frames) for kept in burst.pixels)
        denoise(burst, model=Watch(), reference=0, align=False, tile=100)
    assert max(held) <= 8 * 3 * 104 * 104


def test_the_default_precision_is_native_and_faster(monkeypatch):
    precisions.fastest.cache_clear()
    for native, speed, expected in ((True, 1.8, "bfloat16"), (True, 1.1, "float32"), (False, 3.0, "float32")):
        monkeypatch.setattr(precisions, "native", lambda native=native: native)
        monkeypatch.setattr(precisions, "speed", lambda speed=speed: speed)
        assert precisions.fastest() == expected
        assert denoise(noisy(2), model=camera()).precision == expected
        assert denoise(noisy(2), model=Mean()).precision == "float32"
        precisions.fastest.cache_clear()


def test_a_network_of_other_slots_works():
    frames = noisy(6)
    assert denoise(frames, model=camera(frames=4), precision="float32").image.shape == PHOTO.shape
