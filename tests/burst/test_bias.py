import numpy as np
import torch

from fastweights.burst.synthesis.bias import with_bias
from fastweights.burst.synthesis.camera import Camera, shoot
from fastweights.burst.transfer import srgb_decode, srgb_encode


def linear(frames):
    return srgb_decode(torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255)


def distance(a, b):
    return (srgb_encode(a.double()) - srgb_encode(b.double())).square().mean()


def test_it_comes_closer_to_the_mean_of_many_frames_than_the_clean_picture():
    ramp = np.linspace(0, 0.1, 148, dtype=np.float32)
    scene = np.broadcast_to(np.stack([ramp, 0.8 * ramp, 0.5 * ramp], -1), (148, 148, 3))
    camera = Camera(shot=1e-3, read=6e-3, smooth_colour=0.8, contrast=0.6)
    frames, truth = shoot(np.repeat(scene[None], 64, 0), camera, np.random.default_rng(0))
    frames = linear(frames)
    # The scene is the same in every row: the rows' mean has hardly any noise of its own left.
    mean, clean, lifted = (x.mean(1) for x in (frames[4:].mean(0), truth, with_bias(truth, frames[:4])))
    assert distance(lifted, mean) < 0.1 * distance(clean, mean)


def test_without_a_difference_nothing_changes():
    truth = torch.rand(3, 31, 17)
    torch.testing.assert_close(with_bias(truth, truth.expand(2, -1, -1, -1)), truth)


def test_a_bias_that_depends_on_the_truth_alone_is_found_in_noise():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 160, 160, generator=generator)
    shifted = truth + 0.05 * (1 - srgb_encode(truth))
    frames = shifted + 0.02 * torch.randn(4, 3, 160, 160, generator=generator)
    found = with_bias(truth, frames)
    assert (found - shifted).abs().mean() < 0.001
    assert (truth - shifted).abs().mean() > 0.01
