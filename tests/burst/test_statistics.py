"""What the camera denoiser sees of a burst, against its formula written out."""

import pytest
import torch
import torch.nn.functional as F

from fastweights.burst.statistics import _box, burst_statistics


def pooled(x, size):
    return F.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False)


def written_out(frames, counts):
    shares = (counts / counts.sum(1, keepdim=True))[:, :, None, None, None]
    mean = (shares * frames).sum(1)
    variance = (counts[:, :, None, None, None] * (frames - mean[:, None]) ** 2).sum(1) / (
        (counts > 0).sum(1) - 1
    ).reshape(-1, 1, 1, 1)
    sd = (pooled(variance, 7) + 1e-8).sqrt()
    deviation = (frames - mean[:, None]) / sd[:, None] * counts.sqrt()[:, :, None, None, None]
    unit = sd / counts.sum(1).sqrt().reshape(-1, 1, 1, 1)
    fine, coarse = ((mean - pooled(mean, size)) / unit for size in (3, 9))
    planes = [x.sign() * (1 + x.abs()).log() for x in (deviation.flatten(1, 2), fine, coarse)]
    energy = (pooled(coarse**2, 7) + 0.1).log() / 2
    return mean, sd, torch.cat([*planes, energy, sd.log() / 2 + 2.5, (mean.clamp(min=0) + 0.003).log() / 2 + 1], 1)


COUNTS = torch.tensor([[1.0, 1, 1, 1], [3, 2, 2, 0]], dtype=torch.float64)


@pytest.mark.parametrize("size", [(17, 11), (5, 8)])
def test_statistics_are_their_formula_with_and_without_gradients(size):
    torch.manual_seed(0)
    frames = torch.rand(2, 4, 3, *size, dtype=torch.float64)
    mean, sd, inputs = written_out(frames, COUNTS)
    for given in (frames, frames.clone().requires_grad_()):
        statistics = burst_statistics(given, COUNTS)
        torch.testing.assert_close(statistics.mean, mean)
        torch.testing.assert_close(statistics.sd, sd)
        torch.testing.assert_close(statistics.inputs(), inputs)


def test_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    frames = torch.rand(2, 4, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    wanted, found = written_out(frames, COUNTS)[2], burst_statistics(frames, COUNTS).inputs()
    cotangent = torch.randn_like(found)
    torch.testing.assert_close(*(torch.autograd.grad(y, frames, cotangent)[0] for y in (found, wanted)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boxes_end_at_the_border(dtype):
    x = torch.rand(2, 3, 4, 13, generator=torch.manual_seed(0)).to(dtype)
    for size in (3, 9):
        torch.testing.assert_close(_box(x, size), pooled(x, size))
