"""Dynamic alignment units, and the network of them that is linear in its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import at_least_one

Norm = Literal["l2", "squash"]


class DynamicAlignmentUnits(PredictedWeight):
    """A convolution with a predicted weight of bounded norm in every position: `y = g(A (B x) + b)^T x` on patches x.

    Decomposition: Direct on Patches. The predictor is a convolution B to `rank` channels, a 1 x 1 convolution A, and
    the norm g of each output's weight w: "l2" is `w / |w|`, "squash" is `w |w| / (1 + |w|^2)`. As no output exceeds
    the norm of its patch, and only aligned weights reach it, training aligns weights with the patterns they detect.

    Shapes: x (B, I, H, W) -> (B, J, h, w), h and w as of a convolution; the predictor emits (B, J I f f, h, w).
    Published code sorts the numbers of its predictor by (i, u, v, j), here they are sorted (j, i, u, v). A weight of
    zeros stays zero, where the published formula divides by zero.

    Args:
        in_channels, out_channels: I, J.
        kernel_size: f, odd.
        rank: channels between the two convolutions.
        stride: of the positions.
        norm: "squash" or "l2".

    Source: Böhle et al. 2021, Eq. 1 to 3.

    >>> DynamicAlignmentUnits(6, 16, 3, rank=32)(torch.rand(2, 6, 8, 9)).shape
    torch.Size([2, 16, 8, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        rank: int = 32,
        *,
        stride: int = 1,
        norm: Norm = "squash",
    ):
        at_least_one("DynamicAlignmentUnits", kernel_size=kernel_size, rank=rank)
        if kernel_size % 2 == 0:
            raise ValueError(f"DynamicAlignmentUnits: kernel_size is {kernel_size}, expected an odd number of taps")
        structure = Direct(in_channels * kernel_size**2, out_channels)
        predictor = nn.Sequential(
            nn.Conv2d(in_channels, rank, kernel_size, stride, (kernel_size - 1) // 2, bias=False),
            nn.Conv2d(rank, structure.code_features, 1),
            BoundedNorm(structure.in_features, norm),
        )
        super().__init__(structure, Patches(kernel_size, stride=stride), predictor)


class BoundedNorm(nn.Module):
    """Weights (B, J i, h, w) with each row of i numbers scaled to norm 1 ("l2") or below 1 ("squash")."""

    def __init__(self, row: int, norm: Norm):
        super().__init__()
        if norm not in ("l2", "squash"):
            raise ValueError(f"BoundedNorm: norm is {norm!r}, expected 'l2' or 'squash'")
        self.row, self.norm = row, norm

    def forward(self, numbers: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        weights = numbers.unflatten(1, (-1, self.row))
        size = weights.norm(dim=2, keepdim=True)
        if self.norm == "l2":
            weights = weights / size.clamp_min(torch.finfo(size.dtype).tiny)
        else:
            weights = weights * (size / (1 + size.square()))
        return weights.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"row={self.row}, norm={self.norm!r}"


class CoDANetwork(nn.Module):
    """A classifier of dynamic alignment units alone: for every image a linear map, `logits = W(x) x + b_0`.

    Layers of `DynamicAlignmentUnits` one behind the other, without activations between; the sum over all positions
    divided by a temperature; a fixed bias b_0. Parts: `layers`. The defaults are the published 9-layer S-CoDA network
    for CIFAR-10 (7,782,816 parameters; 93 % in the paper); `linear_map` is W(x).

    Shapes: x (B, in_channels, H, W), an image beside its inverse (`with_inverse`); result (B, out_channels[-1]).

    Args:
        in_channels: 6, three colours and their inverse.
        out_channels, ranks, kernel_sizes, strides: one number a layer.
        norm: "squash" or "l2".
        temperature: T.
        bias: b_0, the same for all classes; log(.1 / .9), so that a class starts at a probability of 0.1.

    Source: Böhle et al. 2021, Sec. 3.2 and 4, with the published code's settings.

    >>> network = CoDANetwork(6, (4, 3), (2, 2), (3, 1), (2, 1), temperature=2.0)
    >>> x = with_inverse(torch.rand(5, 3, 8, 8))
    >>> logits, maps = network(x), network.linear_map(x)
    >>> maps.shape
    torch.Size([5, 3, 6, 8, 8])
    >>> torch.allclose(logits, torch.einsum("bjihw,bihw->bj", maps, x) + network.bias, atol=1e-5)
    True
    """

    def __init__(
        self,
        in_channels: int = 6,
        out_channels: Sequence[int] = (16, 16, 32, 32, 32, 64, 64, 64, 10),
        ranks: Sequence[int] = (32, 32, 64, 64, 64, 64, 64, 64, 64),
        kernel_sizes: Sequence[int] = (3, 3, 3, 3, 3, 3, 3, 3, 1),
        strides: Sequence[int] = (1, 1, 2, 1, 1, 2, 1, 1, 1),
        *,
        norm: Norm = "squash",
        temperature: float = 1000.0,
        bias: float = math.log(0.1 / 0.9),
    ):
        super().__init__()
        if len({len(out_channels), len(ranks), len(kernel_sizes), len(strides)}) != 1:
            raise ValueError(
                f"CoDANetwork: {len(out_channels)} out_channels, {len(ranks)} ranks, {len(kernel_sizes)} kernel_sizes "
                f"and {len(strides)} strides, expected one of each a layer"
            )
        sizes = zip((in_channels, *out_channels[:-1]), out_channels, kernel_sizes, ranks, strides, strict=True)
        self.layers = nn.ModuleList(
            [DynamicAlignmentUnits(i, j, f, r, stride=stride, norm=norm) for i, j, f, r, stride in sizes]
        )
        self.temperature, self.bias = temperature, bias

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b j"]:
        for layer in self.layers:
            x = layer(x)
        return self._pool(x) + self.bias

    def linear_map(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b j i h w"]:
        """W(x), exactly: the product of all layers' predicted weights, for every class and sample.

        Found by holding all codes and following the linear map back from each class, so it costs a backward pass a
        class and keeps no graph.
        """
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            activation = start
            for layer in self.layers:
                part = cast(PredictedWeight, layer)
                with torch.no_grad():
                    code = part.code(activation)
                activation = part.product(code, activation)
            outputs = self._pool(activation)
            rows = [
                torch.autograd.grad(outputs[:, j].sum(), start, retain_graph=True)[0] for j in range(outputs.shape[1])
            ]
        return torch.stack(rows, dim=1)

    def _pool(self, y: Tensor) -> Tensor:
        return y.sum((-1, -2)) / self.temperature


def with_inverse(image: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c2 h w"]:
    """An image in [0, 1] beside its inverse, [x ; 1 - x], so that dark and bright pixels weigh alike.

    >>> with_inverse(torch.rand(2, 3, 8, 9)).shape
    torch.Size([2, 6, 8, 9])
    """
    return torch.cat([image, 1 - image], dim=-3)
