"""The U-Net of the kernel prediction network, and heads on its half-resolution features."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.burst.precision import lowered
from fastweights.codes import Rule, Upsampled

REACH = 32  # pixels: 3 at full, 3 and 2 at half, 3 at quarter resolution, a 3 x 3 head, pooling and interpolation


class UNet(nn.Module):
    """The released network of Mildenhall 2018 up to its last convolution: images in, half-resolution features out.

    3 convolutions of `width` channels; average pooling, 3 of 2 width; average pooling, 3 of 4 width; bilinear x2,
    concatenation with the 2 width maps, 2 convolutions of `post`. All 3 x 3 with ReLU and zero padding. With width 64,
    post 200 and a 3 x 3 head to 200 kernels values it has the 3,335,256 parameters of the released code.

    The features come as an `Upsampled` code of the image's size: a head works on the small features, and whatever
    uses the code interpolates. Any image size: odd ones are padded by repeating the border, and cropped.

    >>> import torch
    >>> UNet(9, width=4, post=6)(torch.zeros(1, 9, 13, 22)).dense().shape
    torch.Size([1, 6, 13, 22])
    """

    def __init__(self, in_channels: int, width: int = 64, post: int = 200, rule: Rule = "half_pixel"):
        super().__init__()
        self.rule = rule
        self.fine = _convolutions(in_channels, width, width, width)
        self.middle = _convolutions(width, 2 * width, 2 * width, 2 * width)
        self.coarse = _convolutions(2 * width, 4 * width, 4 * width, 4 * width)
        self.merge = _convolutions(6 * width, post, post)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Upsampled:
        size = images.shape[-2], images.shape[-1]
        if size[0] % 4 or size[1] % 4:
            images = F.pad(images, (0, -size[1] % 4, 0, -size[0] % 4), mode="replicate")
        images = lowered(images).contiguous(memory_format=torch.channels_last)
        half = self.middle(F.avg_pool2d(self.fine(images), 2))
        quarter = self.coarse(F.avg_pool2d(half, 2))
        raised = Upsampled(quarter, 2, (half.shape[-2], half.shape[-1]), self.rule).dense()
        features = self.merge(torch.cat([raised, half], dim=1))
        return Upsampled(features[..., : -(-size[0] // 2), : -(-size[1] // 2)], 2, size, self.rule)


class Head(nn.Sequential):
    """Layers applied to the small features behind an `Upsampled` code; the result is `Upsampled` too."""

    def forward(self, features: Upsampled) -> Upsampled:
        return features.map(super().forward)


class ZeroSum(nn.Module):
    """Projection on kernels that sum to zero: `scale (k - mean(k))` over an axis, in float32.

    Linear and pointwise, so it commutes with interpolation. Added to the kernel of a mean, the sum is one: the picture
    keeps its brightness whatever the network says. A kernel's numbers are small; without the scale one step of Adam in
    all weights of a head moves them by more than their size, and nothing is learned.
    """

    def __init__(self, dim: int = 1, scale: float = 1.0):
        super().__init__()
        self.dim, self.scale = dim, scale

    def forward(self, k: Tensor) -> Tensor:
        k = k.to(torch.promote_types(k.dtype, torch.float32))
        return self.scale * (k - k.mean(self.dim, keepdim=True))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, scale={self.scale}"


def initialise(module: nn.Module, scheme: str) -> None:
    """Set all convolutions: "glorot" as the released code, or "he" (normal), which keeps the scale through ReLUs."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            if scheme == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _convolutions(*channels: int) -> nn.Sequential:
    layers = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
