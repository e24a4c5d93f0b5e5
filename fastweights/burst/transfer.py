"""Between linear light and encoded pixel values: the sRGB curve of photos, and the smoothed one of the KPN's loss."""

from jaxtyping import Float
from torch import Tensor, where

# IEC 61966-2-1: below the threshold a straight line, above it a power.
_THRESHOLD = 0.0031308
_THRESHOLD_ENCODED = 0.04045
_SLOPE = 12.92
_OFFSET = 0.055
_GAMMA = 2.4

# The KPN code solves for the offset and slope that make the curve's derivative continuous at the same threshold.
_KPN_OFFSET = 1 / (1 / (_THRESHOLD ** (1 / _GAMMA) * (1 - 1 / _GAMMA)) - 1)
_KPN_SLOPE = (1 + _KPN_OFFSET) / _GAMMA * _THRESHOLD ** (1 / _GAMMA - 1)


def srgb_encode(linear: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Linear light to sRGB pixel values, both 0..1.

    12.92 x up to 0.0031308, negatives too; 1.055 x^(1/2.4) - 0.055 above it, beyond 1 too. Nothing is clipped.
    Gradients are finite everywhere. Source: IEC 61966-2-1.

    Example
    -------
    >>> import torch
    >>> srgb_encode(torch.tensor([-0.001, 0.0, 0.2140, 1.0]))
    tensor([-0.0129,  0.0000,  0.5000,  1.0000])
    """
    # The power sees no value below the threshold: where() would multiply its infinite slope at 0 by zero.
    power = (1 + _OFFSET) * linear.clamp(min=_THRESHOLD) ** (1 / _GAMMA) - _OFFSET
    return where(linear <= _THRESHOLD, _SLOPE * linear, power)


def srgb_decode(encoded: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """sRGB pixel values to linear light, both 0..1: the inverse of `srgb_encode`.

    y / 12.92 up to 0.04045, negatives too; ((y + 0.055) / 1.055)^2.4 above it, beyond 1 too. Source: IEC 61966-2-1.

    Example
    -------
    >>> import torch
    >>> srgb_decode(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.2140, 1.0000])
    """
    power = ((encoded.clamp(min=_THRESHOLD_ENCODED) + _OFFSET) / (1 + _OFFSET)) ** _GAMMA
    return where(encoded <= _THRESHOLD_ENCODED, encoded / _SLOPE, power)


def kpn_encode(linear: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Linear light to the encoding in which the KPN's loss and PSNR are taken, both 0..1.

    An sRGB curve with a continuous derivative: 12.71171 x up to 0.0031308, negatives too; (1 + a) x^(1/2.4) - a up to
    1 with a = 0.0557169508; above 1 the straight line with slope (1 + a) / 2.4. Nothing is clipped.
    Source: github.com/google/burst-denoising (Mildenhall et al. 2018).

    Example
    -------
    >>> import torch
    >>> kpn_encode(torch.tensor([-0.001, 0.0, 1.0, 2.0]))
    tensor([-0.0127,  0.0000,  1.0000,  1.4399])
    """
    power = (1 + _KPN_OFFSET) * linear.clamp(_THRESHOLD, 1) ** (1 / _GAMMA) - _KPN_OFFSET
    above = 1 + (1 + _KPN_OFFSET) / _GAMMA * (linear - 1)
    return where(linear <= _THRESHOLD, _KPN_SLOPE * linear, where(linear > 1, above, power))
