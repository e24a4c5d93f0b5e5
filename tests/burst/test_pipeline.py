"""The whole way from frames to a picture, with stand-ins for the network."""

import numpy as np
import pytest
import torch
from torch import nn

from fastweights import burst
from fastweights.burst import images, models, weights
from fastweights.burst.demo import Mean, comparison, run, synthesise
from fastweights.burst.errors import BurstError
from fastweights.burst.transfer import srgb_decode, srgb_encode

PHOTO = images.read(images.SAMPLE)[:, 40:140, 150:290]


class First(nn.Module):
    """The reference alone."""

    reach = 0

    def forward(self, frames, counts):
        return frames[:, 0]


class Seen(Mean):
    """The mean, and a memory of what came in."""

    def forward(self, frames, counts):
        self.frames, self.counts = frames, counts
        return super().forward(frames, counts)


def noisy(number, photo=PHOTO, seed=0):
    return photo + 0.04 * torch.randn(number, *photo.shape, generator=torch.manual_seed(seed))


def mean_squared(a, b):
    return (a - b).square().mean().item()


@pytest.mark.parametrize("number", [2, 5, 8, 9, 16, 32])
def test_all_frames_count_alike(number):
    frames = noisy(number)
    network = Seen()
    result = burst.denoise(frames, model=network, align=False, reference=0)
    assert network.frames.shape == (1, 8, 3, 100, 140)
    assert network.counts.sum() == number
    assert torch.allclose(result.image, srgb_decode(frames).mean(0), atol=1e-6)
    assert result.shifts.shape == (number, 2)


def test_more_frames_are_cleaner():
    clean = srgb_decode(PHOTO)
    errors = [mean_squared(burst.denoise(noisy(n), model=Mean()).image, clean) for n in (2, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("reference", [0, 2, -1])
def test_the_reference_keeps_its_view(reference):
    frames, _ = synthesise(images.read(images.SAMPLE)[:, :200, 100:340])
    result = burst.denoise(frames, model=First(), reference=reference)
    assert result.reference == reference % 8
    assert torch.allclose(result.image, srgb_decode(frames[reference]), atol=1e-6)


def test_shifted_frames_are_aligned():
    frames, truth = synthesise(images.read(images.SAMPLE)[:, :200, 100:340])
    aligned = burst.denoise(frames, model=Mean(), reference=0)
    lying = burst.denoise(frames, model=Mean(), align=False, reference=0)
    assert lying.shifts.abs().max() == 0
    assert aligned.shifts.abs().max() > 3
    assert mean_squared(aligned.image, truth) < 0.5 * mean_squared(lying.image, truth)
    border = torch.ones(truth.shape[1:], dtype=torch.bool)
    border[6:-6, 6:-6] = False
    mean, one, clean = (picture[:, border] for picture in (aligned.image, srgb_decode(frames[0]), truth))
    assert mean_squared(mean, clean) < 0.6 * mean_squared(one, clean)


def test_every_form_of_a_burst_is_the_same(tmp_path):
    bytes_ = (noisy(3).clamp(0, 1) * 255).round().byte()
    for number, frame in enumerate(bytes_):
        images.write(tmp_path / f"frame_{number}.png", frame / 255)
    paths = sorted(tmp_path.iterdir())
    last = bytes_.permute(0, 2, 3, 1)
    forms = [
        tmp_path,
        str(tmp_path),
        paths,
        [str(path) for path in paths],
        bytes_,
        last,
        bytes_.numpy(),
        last.numpy(),
        list(last.numpy()),
        list(bytes_),
        bytes_ / 255,
        (bytes_ / 255).double().numpy(),
        last.numpy().astype(np.uint16) * 257,
    ]
    for form in forms:
        loaded = burst.load(form)
        light = torch.stack([loaded.light(index) for index in range(len(loaded))])
        assert torch.allclose(light, srgb_decode(bytes_ / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "got 0"),
        (torch.zeros(1, 3, 20, 20), "got 1"),
        (torch.zeros(33, 3, 20, 20), "got 33"),
        (torch.zeros(4, 3, 20, 15), "15 x 20 pixels"),
        (torch.zeros(4, 20, 20), "shape"),
        (torch.zeros(4, 4, 20, 20), "shape"),
        (torch.zeros(4, 3, 20, 20, dtype=torch.int64), "int64"),
        (torch.full((4, 3, 20, 20), 255.0), "above 1"),
        (torch.full((4, 3, 20, 20), torch.nan), "finite"),
        ([torch.zeros(3, 20, 20), torch.zeros(3, 20, 21)], "one size"),
    ],
)
def test_what_is_no_burst_is_refused(frames, message):
    with pytest.raises(BurstError, match=message):
        burst.denoise(frames, model=Mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference": 4}, "frames 0 to 3"),
        ({"reference": -5}, "frames 0 to 3"),
        ({"strength": 1.1}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"tile": 0}, "tile"),
        ({"model": "vgg"}, "vgg"),
        ({"model": "nowhere.safetensors"}, "nowhere"),
        ({"model": nn.Identity()}, "reach"),
    ],
)
def test_what_is_no_setting_is_refused(settings, message):
    with pytest.raises(BurstError, match=message):
        burst.denoise(noisy(4), **{"model": Mean(), **settings})


def test_a_network_of_the_paper_task_is_refused(tmp_path):
    config = models.ModelConfig(width=4, post=4)
    path = weights.save_weights(tmp_path / "grey.safetensors", models.build(config), config, {})
    with pytest.raises(BurstError, match="grey"):
        burst.denoise(noisy(4), model=path)


def test_weights_from_a_file(tmp_path):
    config = models.ModelConfig(task="camera", width=4, post=4, kernel_size=3, unit_sum=True)
    network = models.build(config)
    path = weights.save_weights(tmp_path / "small.safetensors", network, config, {})
    settings = {"tile": 64, "precision": "float32"}
    from_file, direct = (burst.denoise(noisy(8), model=model, **settings) for model in (path, network))
    assert torch.equal(from_file.image, direct.image)
    half = burst.denoise(noisy(8), model=path, precision="bfloat16").image
    assert half.dtype == torch.float32
    assert torch.allclose(half, direct.image, atol=0.02)


def test_the_result_is_encoded_and_written(tmp_path):
    result = burst.denoise(noisy(4), model=Mean())
    assert torch.equal(result.encoded(), srgb_encode(result.image).clamp(0, 1))
    assert "of 255" in result.noise.summary()
    result.write(tmp_path / "a.png", bits=16)
    assert (images.read(tmp_path / "a.png") - result.encoded()).abs().max() < 1e-5


def test_the_demo_is_the_same_at_every_run():
    photo = PHOTO[:, :64, :80]
    first, second = synthesise(photo), synthesise(photo)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_the_demo_compares_one_frame_mean_and_truth():
    entries = run([])
    assert [entry.name for entry in entries] == ["one frame", "mean of 8", "truth"]
    assert entries[0].psnr + 3 < entries[1].psnr < entries[2].psnr
    assert comparison(entries).shape[2] == 3 * 384


def test_real_handheld_burst(data):
    frames = burst.load(data / "bursts" / "mit_green_handheld")
    result = burst.denoise(frames, model=Mean(), reference=0)
    assert 15 < result.shifts.abs().max() < 19
    # Aligned frames agree with each other: the mean keeps the detail that unaligned ones smear.
    smeared = burst.denoise(frames, model=Mean(), align=False, reference=0)
    assert result.encoded().diff(dim=2).square().mean() > 1.05 * smeared.encoded().diff(dim=2).square().mean()
