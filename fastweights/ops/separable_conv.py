"""A pair of one-dimensional kernels per pixel: `separable_conv` and its reference."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def separable_conv_reference(
    frames: Float[Tensor, "b *e t hp wp"],
    vertical: Float[Tensor, "b t k h w"],
    horizontal: Float[Tensor, "b t k h w"],
) -> Float[Tensor, "b *e t h w"]:
    """`separable_conv` by the windows of all pixels: `v^T X h` in each."""
    k = vertical.shape[2]
    windows = frames.flatten(1, -4) if frames.ndim > 4 else frames.unsqueeze(1)
    windows = windows.unfold(-2, k, 1).unfold(-2, k, 1)
    y = torch.einsum("bethwuv,btuhw,btvhw->bethw", windows, vertical, horizontal)
    return y.reshape(*frames.shape[:-2], *y.shape[-2:])


def separable_conv(
    frames: Float[Tensor, "b *e t hp wp"],
    vertical: Float[Tensor, "b t k h w"],
    horizontal: Float[Tensor, "b t k h w"],
) -> Float[Tensor, "b *e t h w"]:
    """Apply an outer product of two predicted kernels to the window around every pixel, without forming it.

    `out[b, .., t, y, x] = sum over u of v[b, t, u, y, x] sum over v of h[b, t, v, y, x] frames[b, .., t, y + u, x + v]`

    frames have their borders: hp = h + k - 1, wp = w + k - 1. One tap after another, each a pass over the image: k^2
    multiply-adds a pixel as with whole kernels, but 2 k numbers of memory in place of k^2.

    >>> separable_conv(torch.randn(1, 2, 12, 14), torch.randn(1, 2, 5, 8, 10), torch.randn(1, 2, 5, 8, 10)).shape
    torch.Size([1, 2, 8, 10])
    """
    k, height, width = vertical.shape[2:]
    extra = (1,) * (frames.ndim - 4)
    rows = vertical.reshape(vertical.shape[0], *extra, *vertical.shape[1:]).unbind(-3)
    columns = horizontal.reshape(horizontal.shape[0], *extra, *horizontal.shape[1:]).unbind(-3)
    y = frames.new_zeros(*frames.shape[:-2], height, width)
    for u in range(k):
        lines = frames[..., u : u + height, :]
        inner = torch.zeros_like(y)
        for v in range(k):
            inner = torch.addcmul(inner, columns[v], lines[..., v : v + width])
        y = torch.addcmul(y, rows[u], inner)
    return y
