"""The head of a basis prediction network: coefficients a pixel and a basis of kernels an image."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.codes import Upsampled

HIDDEN = 128  # channels of the basis decoder, as published in its last layers


class BasisHead(nn.Module):
    """Features to (coefficients, basis), what `zoo.BasisPrediction` takes.

    The coefficients are a softmax over the basis, predicted at half resolution and interpolated. The basis is decoded
    from the mean of the features: 4 x 4, convolved, 8 x 8, convolved, K x K, convolved; each kernel is a softmax over
    its taps in all frames. So a pixel's kernel is a mean of means: positive numbers that sum to one.

    Published are both softmaxes, the pooling, the bilinear doublings with 3 x 3 convolutions and the 3 x 3 convolution
    that emits the T B numbers of a tap. Ours differs in what it reads: the features of the smaller U-Net of a kernel
    prediction network, so that networks compare; no pooled skip connections, one convolution a size, not three.

    Source: Xia et al. 2020 and likesum/bpn, `net.py`.

    >>> import torch
    >>> features = Upsampled(torch.rand(1, 6, 5, 8), 2, (10, 16))
    >>> coefficients, basis = BasisHead(6, frames=8, kernel_size=15, basis=90)(features)
    >>> coefficients.shape, basis.shape
    (torch.Size([1, 90, 10, 16]), torch.Size([1, 162000, 1, 1]))
    """

    def __init__(self, features: int, frames: int, kernel_size: int, basis: int):
        super().__init__()
        self.basis, self.kernel_size = basis, kernel_size
        self.coefficients = nn.Conv2d(features, basis, 3, padding=1)
        self.first = nn.ConvTranspose2d(features, HIDDEN, 4)
        self.second = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.last = nn.Conv2d(HIDDEN, basis * frames, 3, padding=1)

    def forward(self, features: Upsampled) -> tuple[Float[Tensor, "b r h w"], Float[Tensor, "b ir 1 1"]]:
        coefficients = features.map(lambda small: self.coefficients(small).softmax(1)).dense()
        x = F.relu(self.first(features.code.mean((-1, -2), keepdim=True)))
        x = F.relu(self.second(F.interpolate(x, scale_factor=2.0, mode="bilinear")))
        x = self.last(F.interpolate(x, size=self.kernel_size, mode="bilinear"))
        kernels = x.unflatten(1, (self.basis, -1)).flatten(2).softmax(2)  # (b, r, (t, u, v))
        return coefficients, kernels.mT.flatten(1)[..., None, None]
