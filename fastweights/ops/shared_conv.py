"""A kernel per image: `shared_conv` and its reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# A processor's grouped convolution is a fast one where both numbers of channels of a group are multiples of these.
LANES = 16
# Multiply-adds of an image from which calls of their own cost nothing beside them.
LARGE = 3_000_000


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

    Image by image where that is faster: on a processor, for large images whose channels fill no vectors.

    `out[b, .., j, y, x] = sum over c, u, v of weight[b, j, c, u, v] x[b, .., c, stride y + u, stride x + v]`

    No border is added. Axes e (colours) share the kernel of their image; they become the batch of the convolution.

    >>> import torch
    >>> shared_conv(torch.randn(2, 3, 8, 9), torch.randn(2, 4, 3, 5, 5)).shape
    torch.Size([2, 4, 4, 5])
    """
    b, j = weight.shape[:2]
    images = x.reshape(b, -1, *x.shape[-3:])
    if _faster_alone(x, weight, stride):
        y = torch.stack([F.conv2d(image, kernel, stride=stride) for image, kernel in zip(images, weight, strict=True)])
    else:
        y = F.conv2d(images.transpose(0, 1).flatten(1, 2), weight.flatten(0, 1), stride=stride, groups=b)
        y = y.unflatten(1, (b, j)).transpose(0, 1)
    return y.reshape(*x.shape[:-3], j, *y.shape[-2:])


def _faster_alone(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether each image is filtered by a call of its own."""
    b, j, c, f = weight.shape[:4]
    h, w = ((n - f) // stride + 1 for n in x.shape[-2:])
    uneven = b > 1 and c > 1 and (c % LANES or j % LANES)
    plain = x.device.type == "cpu" and not torch.compiler.is_compiling()  # else a program would keep the batch size
    return bool(plain and uneven and j * c * f * f * h * w > LARGE)
