"""A kernel per image: `shared_conv` and its reference."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def shared_conv_reference(
    x: Float[Tensor, "b *e c h w"], weight: Float[Tensor, "b j c f f"], *, stride: int = 1
) -> Float[Tensor, "b *e j h2 w2"]:
    """`shared_conv` by gathering patches: unfold, then one matrix product an image."""
    f = weight.shape[-1]
    h, w = ((n - f) // stride + 1 for n in x.shape[-2:])
    columns = F.unfold(x.reshape(-1, *x.shape[-3:]), f, stride=stride)
    columns = columns.reshape(x.shape[0], -1, *columns.shape[-2:])
    y = weight.flatten(2).unsqueeze(1) @ columns
    return y.reshape(*x.shape[:-3], weight.shape[1], h, w)


def shared_conv(
    x: Float[Tensor, "b *e c h w"], weight: Float[Tensor, "b j c f f"], *, stride: int = 1
) -> Float[Tensor, "b *e j h2 w2"]:
    """Correlate every image with a kernel of its own, as one grouped convolution with a group for each image.

    `out[b, .., j, y, x] = sum over c, u, v of weight[b, j, c, u, v] x[b, .., c, stride y + u, stride x + v]`

    No border is added. Axes e (colours) share the kernel of their image; they become the batch of the convolution.

    >>> import torch
    >>> shared_conv(torch.randn(2, 3, 8, 9), torch.randn(2, 4, 3, 5, 5)).shape
    torch.Size([2, 4, 4, 5])
    """
    b, j = weight.shape[:2]
    images = x.reshape(b, -1, *x.shape[-3:]).transpose(0, 1).flatten(1, 2)  # (e, b c, h, w)
    y = F.conv2d(images, weight.flatten(0, 1), stride=stride, groups=b)
    return y.unflatten(1, (b, j)).transpose(0, 1).reshape(*x.shape[:-3], j, *y.shape[-2:])
