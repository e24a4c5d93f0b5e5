"""The sharpest frame is found, whatever the noise."""

import cv2
import pytest
import torch

from fastweights.burst import denoise, images
from fastweights.burst.demo import Mean
from fastweights.burst.sharpness import sharpest
from fastweights.burst.transfer import srgb_decode, srgb_encode

PHOTO = images.read(images.SAMPLE)


def blurred(photo, sigma):
    """Blurred in linear light, as out of focus."""
    light = srgb_decode(photo).permute(1, 2, 0).numpy()
    return srgb_encode(torch.from_numpy(cv2.GaussianBlur(light, (0, 0), sigma)).permute(2, 0, 1))


def shot(photo, noise, seed):
    """With noise of light, stronger in the light, in sRGB values."""
    light = srgb_decode(photo)
    generator = torch.manual_seed(seed)
    return srgb_encode((light + noise * light.sqrt() * torch.randn(light.shape, generator=generator)).clamp(0, 1))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_a_blurred_frame_is_not_taken_and_a_sharp_one_is_found(noise, sigma):
    sharp, soft = PHOTO[:, :256, 100:356], blurred(PHOTO, sigma)[:, :256, 100:356]
    for odd in (0, 3):
        one_soft = [shot(soft if number == odd else sharp, noise, number).mean(0) for number in range(5)]
        one_sharp = [shot(sharp if number == odd else soft, noise, 10 + number).mean(0) for number in range(5)]
        assert sharpest(one_soft) != odd
        assert sharpest(one_sharp) == odd


def test_exposure_and_noise_are_not_sharpness():
    sharp, soft = PHOTO[:, :256, 100:356], blurred(PHOTO, 2.0)[:, :256, 100:356]
    frames = [shot(0.7 * sharp, 0.1, 0), shot(soft, 0.1, 1), shot(soft, 0.2, 2)]
    assert sharpest([frame.mean(0) for frame in frames]) == 0


def test_flat_frames_have_a_first_one():
    assert sharpest(torch.zeros(4, 20, 20)) == 0
    assert sharpest(torch.full((4, 5, 5), 0.5)) == 0


def test_it_is_the_default_reference():
    frames = torch.stack([blurred(PHOTO, 2.0), PHOTO, blurred(PHOTO, 2.0)])[..., 100:200, 150:260]
    assert denoise(frames, model=Mean()).reference == 1
    assert denoise(frames, model=Mean(), reference=0).reference == 0
