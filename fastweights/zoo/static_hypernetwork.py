"""The static hypernetwork: convolution kernels made from small learned embeddings."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import at_least_one, fan_in_uniform


class StaticHyperConv2d(nn.Module):
    """A convolution whose kernel a small network makes from learned embeddings z.

    The kernel is tiled from units of the head's size, one embedding z a tile: `K = [head(z_11) head(z_12) ..; ..]`.
    Several layers may share one head. Part: `part`, Direct on Patches whose predictor ignores its context; as the
    kernel is the same for all images, the forward uses one convolution.

    Shapes: x (B, I, H, W) -> (B, J, h, w), as of `torch.nn.Conv2d` without bias.

    Args:
        in_channels, out_channels: I, J; multiples of the head's sizes.
        kernel_size: f of the default head.
        head: shared with other layers; default `HyperHead(16, 16, kernel_size)`.
        stride: of the convolution.
        padding: None is (f - 1) // 2.

    Raises:
        ValueError: channels that units of the head's size cannot tile, or x of another number of channels.

    Source: Ha et al. 2016, Sec. 3.1, Eq. 1 and 2.

    >>> head = HyperHead(16, 16, 3)
    >>> layers = nn.Sequential(StaticHyperConv2d(16, 32, head=head), nn.ReLU(), StaticHyperConv2d(32, 32, head=head))
    >>> layers(torch.randn(2, 16, 8, 9)).shape
    torch.Size([2, 32, 8, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        head: HyperHead | None = None,
        stride: int = 1,
        padding: int | None = None,
    ):
        super().__init__()
        head = HyperHead(16, 16, kernel_size) if head is None else head
        if in_channels % head.in_channels or out_channels % head.out_channels:
            raise ValueError(
                f"StaticHyperConv2d: {in_channels} to {out_channels} channels cannot be tiled by units of "
                f"{head.in_channels} to {head.out_channels}; give multiples, or another head"
            )
        f = head.kernel_size
        self.axes = Patches(f, stride=stride, padding=padding)
        predictor = TiledKernel(head, out_channels // head.out_channels, in_channels // head.in_channels)
        self.part = PredictedWeight(Direct(in_channels * f**2, out_channels), self.axes, predictor)

    @property
    def tiles(self) -> TiledKernel:
        """The part's predictor: the embeddings and their head."""
        return cast(TiledKernel, self.part.predictor)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b j h2 w2"]:
        self.axes.check_x(self.part.structure, x)
        return F.conv2d(x, self.tiles.kernel(), stride=self.axes.stride, padding=self.axes.border)


class HyperHead(nn.Module):
    """Embedding z to one unit of kernel: `a_i = W_i z + b_i` for each input channel i, `K_i = W_out a_i + b_out`.

    Shapes: z (*n, embedding) -> (*n, out_channels, in_channels, f, f).

    Args:
        in_channels, out_channels: of a unit; 16 and 16 for residual networks.
        kernel_size: f.
        embedding, hidden: lengths of z and a_i; 64 as published for residual networks, 4 for MNIST.

    Source: Ha et al. 2016, Eq. 2: 4,240 parameters for MNIST's 16 x 16 x 7 x 7 kernel of 12,544 numbers.

    >>> HyperHead(16, 16, 7, embedding=4, hidden=4)(torch.randn(4)).shape
    torch.Size([16, 16, 7, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, embedding: int = 64, hidden: int = 64):
        super().__init__()
        at_least_one("HyperHead", kernel_size=kernel_size, embedding=embedding)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.embedding = embedding
        self.weight = fan_in_uniform((in_channels, hidden, embedding), fan_in=embedding)
        self.bias = fan_in_uniform((in_channels, hidden), fan_in=embedding)
        self.out = nn.Linear(hidden, out_channels * kernel_size**2)
        # z is standard normal, so a_i has a variance of about 1/3: kernels start at a convolution's scale.
        nn.init.normal_(self.out.weight, std=(hidden * in_channels * kernel_size**2) ** -0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Float[Tensor, "*n e"]) -> Float[Tensor, "*n j i f f"]:
        a = torch.einsum("ide,...e->...id", self.weight, z) + self.bias
        return self.out(a).unflatten(-1, (self.out_channels, self.kernel_size, self.kernel_size)).transpose(-4, -3)


class TiledKernel(nn.Module):
    """Anything to a kernel tiled from units, one learned embedding each, as a code (B, k, 1, 1) of any batch B."""

    def __init__(self, head: HyperHead, rows: int, columns: int):
        super().__init__()
        self.head = head
        self.embeddings = nn.Parameter(torch.randn(rows, columns, head.embedding))

    def kernel(self) -> Float[Tensor, "j i f f"]:
        """The whole kernel; row blocks are output channels, column blocks input channels."""
        units = self.head(self.embeddings)  # (rows, columns, j, i, f, f)
        return units.transpose(1, 2).flatten(0, 1).flatten(1, 2)

    def forward(self, context: Tensor) -> Float[Tensor, "b k 1 1"]:
        return self.kernel().flatten().view(1, -1, 1, 1).expand(context.shape[0], -1, -1, -1)
