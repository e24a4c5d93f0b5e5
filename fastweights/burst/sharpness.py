"""Which frame of a burst is the sharpest."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Pixels that are averaged before anything is measured: noise falls by this factor, and the blur of shaken or unfocused
# frames is wider.
_POOL = 4
_SMALLEST = 12


def sharpest(frames: Float[Tensor, "t h w"] | Sequence[Float[Tensor, "h w"]]) -> int:
    """Number of the sharpest frame, the first of several alike.

    Sharpness is Tenengrad, the mean squared gradient by Sobel's filters, of 4 x 4 pixels' means, over their squared
    mean: a frame exposed longer is no sharper. Frames are asked for one at a time.
    Source: Krotkov, "Focusing", International Journal of Computer Vision 1, 1988.

    Example
    -------
    >>> edge = torch.zeros(1, 40, 60).index_fill(2, torch.arange(30, 60), 1.0)
    >>> blurred = torch.linspace(0, 1, 60).expand(1, 40, 60)
    >>> sharpest(torch.cat([blurred, edge, blurred]))
    1
    """
    measured = torch.stack([_tenengrad(frames[index]) for index in range(len(frames))])
    return int(measured.argmax())


def _tenengrad(frame: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    pool = _POOL if min(frame.shape) >= _SMALLEST else 1
    pooled = F.avg_pool2d(frame[None, None], pool)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(frame)
    gradients = F.conv2d(pooled, torch.stack([sobel, sobel.T])[:, None])
    return gradients.square().mean() / pooled.mean().square().clamp(min=1e-12)
