import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastweights.burst import losses
from fastweights.burst.losses import annealing_weight, basic_loss, camera_loss, drawn_frame, paper_loss, psnr
from fastweights.burst.transfer import kpn_encode, srgb_encode


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basic_loss_by_loops(a: np.ndarray, b: np.ndarray) -> float:
    """The sentence of the KPN code, pixel by pixel."""
    squares = [(x - y) ** 2 for x, y in zip(a.flat, b.flat, strict=True)]
    slopes = []
    for one, other in zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True):
        for y in range(one.shape[0] - 1):
            for x in range(one.shape[1] - 1):
                for dy, dx in ((1, 0), (0, 1)):
                    slope = 0.5 * (one[y + dy, x + dx] - one[y, x])
                    slopes.append(abs(slope - 0.5 * (other[y + dy, x + dx] - other[y, x])))
    return float(np.mean(squares) + np.mean(slopes))


@given(st.integers(1, 3), st.integers(2, 7), st.integers(2, 9))
def test_basic_loss_is_the_loop(batch, height, width):
    a, b = random(batch, 2, height, width), random(batch, 2, height, width, seed=1)
    assert basic_loss(a, b).item() == pytest.approx(basic_loss_by_loops(a.numpy(), b.numpy()), rel=1e-12)


def test_paper_loss_is_the_sum_over_frames():
    output, truth, level = random(2, 1, 21, 30), random(2, 21, 30, seed=1), torch.tensor([0.3, 1.0]).double()
    estimates = 3 * random(2, 5, 1, 21, 30, seed=2) - 1

    def ready(picture):
        return kpn_encode(picture / level[:, None, None])[:, 8:-8, 8:-8]

    expected = basic_loss(ready(output[:, 0]), ready(truth))
    for t in range(5):
        expected += 100 * 0.9998 ** (40 * 500_000 / 9000) * basic_loss(ready(estimates[:, t, 0]), ready(truth))
    torch.testing.assert_close(paper_loss(output, estimates, truth, level, 40, 9000), expected)
    without = basic_loss(ready(output[:, 0]), ready(truth))
    torch.testing.assert_close(paper_loss(output, None, truth, level, 40, 9000), without)


def test_annealing_keeps_its_shape_over_any_budget():
    for step in (0, 20, 1000, 2000):
        assert annealing_weight(250 * step, 500_000) == pytest.approx(annealing_weight(step, 2000))
    assert annealing_weight(23_026, 500_000) == pytest.approx(1, rel=1e-3)


def test_one_drawn_frame_is_unbiased_and_a_function_of_the_step():
    truth, level = random(1, 20, 20), torch.ones(1).double()
    estimates = random(1, 3, 1, 20, 20, seed=3)
    output = estimates.mean(dim=1)
    plain = paper_loss(output, None, truth, level, 0, 10**9)
    numbers = [drawn_frame(5, step, 3) for step in range(300)]
    assert min(numbers.count(t) for t in range(3)) > 70
    assert drawn_frame(5, 7, 3) == numbers[7]
    alone = [paper_loss(output, estimates[:, t : t + 1], truth, level, 0, 10**12, 3) - plain for t in range(3)]
    # All equally often, each taken three times: on average the sum.
    every = paper_loss(output, estimates, truth, level, 0, 10**12) - plain
    torch.testing.assert_close(torch.stack(alone).mean(), every)


def test_camera_loss_weighs_bursts_by_their_single_frame():
    output, truth = random(3, 3, 9, 7), random(3, 3, 9, 7, seed=1)
    errors = torch.tensor([0.2, 0.02, 0.0]).double()
    expected = 0.0
    for one, other, error in zip(output, truth, errors, strict=True):
        difference = srgb_encode(one) - srgb_encode(other)
        down = difference[:, 1:, :-1] - difference[:, :-1, :-1]
        right = difference[:, :-1, 1:] - difference[:, :-1, :-1]
        slopes = 0.5 * (down.abs().mean() + right.abs().mean()) / 2
        expected += (difference.abs().mean() + slopes) / max(float(error), 1e-3) / 3
    torch.testing.assert_close(camera_loss(output, truth, errors), expected)


def test_gradients():
    a, b = random(1, 2, 5, 4).requires_grad_(), random(1, 2, 5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: basic_loss(x, b), a)
    colour = (2 * random(1, 3, 4, 5) - 0.5).requires_grad_()
    truth, error = random(1, 3, 4, 5, seed=1), torch.tensor([0.1]).double()
    assert torch.autograd.gradcheck(lambda x: camera_loss(x, truth, error), colour)


def test_gradients_are_finite_in_the_dark():
    dark = torch.tensor([-1.0, -1e-8, 0.0, 1e-8]).repeat(20, 5).repeat(1, 3, 1, 1).requires_grad_()
    truth = torch.zeros_like(dark)
    camera_loss(dark, truth, torch.tensor([0.1])).backward()
    assert dark.grad.isfinite().all()
    grey = dark.detach()[:, :1].requires_grad_()
    paper_loss(grey, None, truth[:, 0], torch.ones(1), 0, 10).backward()
    assert grey.grad.isfinite().all()


@pytest.mark.parametrize("clip", [False, True])
def test_psnr_is_the_mean_over_images(clip):
    a, b = 2 * random(3, 1, 20, 23) - 0.4, random(3, 1, 20, 23, seed=1)
    level = torch.tensor([0.5, 1.0, 0.1]).double()
    each = []
    for one, other, white in zip(a, b, level, strict=True):
        one, other = (kpn_encode(x / white)[0, 8:-8, 8:-8].numpy() for x in (one, other))
        if clip:
            one, other = one.clip(0, 1), other.clip(0, 1)
        each.append(-10 * np.log10(np.mean((one - other) ** 2)))
    assert psnr(a, b, clip=clip, white_level=level).item() == pytest.approx(np.mean(each), rel=1e-6)


def test_psnr_of_colour_by_another_curve():
    a, b = random(2, 3, 10, 9), random(2, 3, 10, 9, seed=1)
    errors = (srgb_encode(a) - srgb_encode(b)).square().mean(dim=(1, 2, 3))
    expected = (-10 * errors.log10()).mean()
    torch.testing.assert_close(psnr(a, b, clip=True, border=0, encode=srgb_encode), expected)


def test_errors_name_the_shapes():
    with pytest.raises(ValueError, match=r"one shape expected, got \(1, 4, 4\) and \(4, 4\)"):
        losses._same_shape(torch.zeros(1, 4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="17 x 30 pixels is too small for a border of 8"):
        psnr(torch.zeros(1, 17, 30), torch.zeros(1, 17, 30), clip=True)
