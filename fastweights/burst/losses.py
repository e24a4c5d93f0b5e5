"""What a burst network is trained to make small, and the PSNR it is judged by."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.transfer import kpn_encode, srgb_encode

ALPHA = 0.9998  # decay of the per-frame loss a step, for the paper's 500,000 steps
BETA = 100.0  # its weight at step 0
PAPER_STEPS = 500_000
BORDER = 8  # pixels left out on every side by the paper's loss and metric
SMALLEST_ERROR = 1e-3  # a burst whose single frame is better than this counts as if it were not


def gradient(image: Float[Tensor, "*b h w"]) -> Float[Tensor, "2 *b h-1 w-1"]:
    """Half the forward differences down and to the right, on the pixels that have both neighbours.

    Source: google/burst-denoising (Mildenhall et al. 2018).

    Example
    -------
    >>> gradient(torch.tensor([[0.0, 2.0], [4.0, 0.0]])).flatten()
    tensor([2., 1.])
    """
    corner = image[..., :-1, :-1]
    return 0.5 * torch.stack([image[..., 1:, :-1] - corner, image[..., :-1, 1:] - corner])


def basic_loss(a: Float[Tensor, "*b h w"], b: Float[Tensor, "*b h w"]) -> Float[Tensor, ""]:
    """L(a, b) = mean (a - b)^2 + mean |grad a - grad b|, both directions of the gradient averaged together.

    a, b: encoded pictures of one shape (at least 2 x 2 pixels; another shape: ValueError).
    Source: google/burst-denoising (Mildenhall et al. 2018).

    Example
    -------
    >>> basic_loss(torch.ones(1, 4, 6), torch.zeros(1, 4, 6))
    tensor(1.)
    """
    _same_shape(a, b)
    difference = a - b
    return difference.square().mean() + gradient(difference).abs().mean()


def annealing_weight(step: int, total_steps: int) -> float:
    """Weight of the per-frame loss at a step: beta alpha'^step, alpha' = alpha^(500000 / total_steps).

    beta = 100, alpha = 0.9998: over any budget the weight falls as the paper's does over its 500,000 steps.

    Example
    -------
    >>> round(annealing_weight(0, 1000)), round(annealing_weight(46, 1000), 2), round(annealing_weight(92, 1000), 2)
    (100, 1.0, 0.01)
    """
    return BETA * ALPHA ** (step * PAPER_STEPS / total_steps)


def paper_loss(
    output: Float[Tensor, "b 1 h w"],
    estimates: Float[Tensor, "b t 1 h w"] | None,
    truth: Float[Tensor, "b h w"],
    white_level: Float[Tensor, " b"],
    step: int,
    total_steps: int,
    frames: int | None = None,
) -> Float[Tensor, ""]:
    """The annealed loss of the kernel prediction paper: L(output, truth) + sum_t beta alpha'^step L(estimate_t, truth).

    All pictures are divided by their burst's white level, encoded by `kpn_encode` and cropped by 8 pixels; none is
    clipped. estimates=None leaves the second term out. frames: T, where the estimates are those of some frames drawn
    from them (`drawn_frame`); T times their mean is the sum on average. Source: Mildenhall et al. 2018, eq. 5-7.

    Example
    -------
    >>> truth = torch.rand(2, 20, 22)
    >>> perfect = truth[:, None, None].expand(2, 8, 1, 20, 22)
    >>> paper_loss(perfect[:, 0], perfect, truth, torch.ones(2), 0, 100)
    tensor(0.)
    """

    def ready(picture: Tensor) -> Tensor:
        level = white_level.reshape(-1, *[1] * (picture.ndim - 1))
        return _crop(kpn_encode(picture / level), BORDER)

    target = ready(truth[:, None])
    loss = basic_loss(ready(output), target)
    if estimates is None:
        return loss
    estimates = ready(estimates)
    # The mean over the frames, times their number, is the sum of the frames' own losses.
    per_frame = (frames or estimates.shape[1]) * basic_loss(estimates, target[:, None].expand_as(estimates))
    return loss + annealing_weight(step, total_steps) * per_frame


def drawn_frame(seed: int, step: int, frames: int) -> int:
    """Number of the frame whose estimate stands for all in a step, a pure function of (seed, step).

    Example
    -------
    >>> [drawn_frame(0, step, 8) for step in range(4)]
    [6, 4, 7, 4]
    """
    return int(np.random.default_rng((seed, step)).integers(frames))


def camera_loss(
    output: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"], single_error: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Mean over the bursts of (mean |e| + mean |grad e|) / single_error, e = srgb(output) - srgb(truth).

    output, truth: linear light. single_error: what one frame of the burst is off by (sRGB, 0..1), so that clean and
    noisy bursts weigh alike; below 0.001 it counts as 0.001.

    Example
    -------
    >>> loss = camera_loss(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.tensor([0.5, 0.25]))
    >>> round(loss.item(), 4)
    3.0
    """
    _same_shape(output, truth)
    error = srgb_encode(output) - srgb_encode(truth)
    each = error.abs().mean(dim=(1, 2, 3)) + gradient(error).abs().mean(dim=(0, 2, 3, 4))
    return (each / single_error.clamp(min=SMALLEST_ERROR)).mean()


def psnr(
    a: Float[Tensor, "b *c h w"],
    b: Float[Tensor, "b *c h w"],
    *,
    clip: bool,
    white_level: Float[Tensor, " b"] | None = None,
    border: int = BORDER,
    encode: Callable[[Tensor], Tensor] = kpn_encode,
) -> Float[Tensor, ""]:
    """Peak signal to noise ratio in dB of linear pictures: -10 log10(mean squared error) for each, then their mean.

    Both are divided by the white level, encoded and cropped by `border` pixels; clip=True limits them to 0..1 first.
    The papers' two PSNRs are clip=False (Müller 2024) and clip=True (per-gain tables); encode=srgb_encode for photos.

    Example
    -------
    >>> psnr(torch.full((1, 20, 20), 0.5), torch.full((1, 20, 20), 0.4), clip=True, encode=lambda linear: linear)
    tensor(20.)
    """
    _same_shape(a, b)

    def ready(picture: Tensor) -> Tensor:
        if white_level is not None:
            picture = picture / white_level.reshape(-1, *[1] * (picture.ndim - 1))
        picture = _crop(encode(picture), border)
        return (picture.clamp(0, 1) if clip else picture).flatten(1)

    # Here, because it imports for a second, and most commands need no PSNR.
    from torchmetrics.functional.image import peak_signal_noise_ratio

    # torchmetrics takes the range from the data unless it is told.
    return peak_signal_noise_ratio(ready(a), ready(b), data_range=1.0, reduction="elementwise_mean", dim=1)


def _crop(picture: Tensor, border: int) -> Tensor:
    height, width = picture.shape[-2:]
    if min(height, width) <= 2 * border + 1:
        raise ValueError(f"a picture of {height} x {width} pixels is too small for a border of {border} on every side")
    return picture[..., border : height - border, border : width - border]


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"two pictures of one shape expected, got {tuple(a.shape)} and {tuple(b.shape)}")
