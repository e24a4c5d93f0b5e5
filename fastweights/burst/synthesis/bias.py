"""What the mean of very many frames shows: brighter shadows than a picture without noise, for pixels clip at black."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.transfer import srgb_encode

_KNOTS = 33


def with_bias(truth: Float[Tensor, "3 h w"], frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "3 h w"]:
    """truth + b(truth): the clean picture, moved to where noisy frames of the same scene lie on average; linear light.

    E[frame] differs from the picture without noise wherever the camera is not linear: noise is clipped at black and
    white, and the toe of the tone curve bends. b is estimated for each channel as a function of the truth, linear
    between 33 knots equally spaced in sRGB, from a few static frames whose own noise it averages out (some hundred
    pixels to a knot). References of real bursts are such means; a network to be measured on them needs this truth.

    Example
    -------
    >>> truth = torch.full((3, 40, 40), 0.01)
    >>> frames = (truth + 0.02 * torch.randn(4, 3, 40, 40)).clamp(min=0)
    >>> bool(with_bias(truth, frames).mean() > 0.012)
    True
    """
    position = srgb_encode(truth).clamp(0, 1) * (_KNOTS - 1)
    knot = position.floor().clamp(max=_KNOTS - 2)
    weight = (position - knot).double().numpy()
    index = knot.long().numpy()
    difference = (frames.double().mean(0) - truth).numpy()
    bias = np.empty_like(difference)
    for b, i, w, d in zip(bias, index, weight, difference, strict=True):
        total, count = (
            np.bincount(i.ravel(), ((1 - w) * x).ravel(), _KNOTS) + np.bincount(i.ravel() + 1, (w * x).ravel(), _KNOTS)
            for x in (d, np.ones_like(d))
        )
        knots = total / np.maximum(count, 1)
        b[:] = (1 - w) * knots[i] + w * knots[i + 1]
    return (truth + torch.from_numpy(bias)).clamp(0, 1).to(truth.dtype)
