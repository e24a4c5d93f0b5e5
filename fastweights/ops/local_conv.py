"""A kernel per pixel: `local_conv`, its reference first; what computes it is in `_local_conv_operator`."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastweights.ops._local_conv_operator import local_conv_operator

Padding = Literal["zeros", "replicate"]
Rule = Literal["half_pixel", "legacy"]


def local_conv_reference(
    frames: Float[Tensor, "b t *c h w"],
    kernels: Float[Tensor, "b t k k small_h small_w"],
    *,
    upsample: int = 1,
    per_frame: bool = False,
    padding: Padding = "zeros",
    rule: Rule = "half_pixel",
) -> Float[Tensor, "b *tc h w"]:
    """`local_conv` in plain differentiable PyTorch: interpolate the kernels, then multiply tap by tap."""
    images = frames if frames.ndim == 5 else frames.unsqueeze(2)
    dtype = torch.promote_types(torch.promote_types(frames.dtype, kernels.dtype), torch.float32)
    height, width = images.shape[-2:]
    size = kernels.shape[2]
    weights = _interpolate(kernels.to(dtype), upsample, rule)[..., :height, :width].unsqueeze(2)
    mode = "constant" if padding == "zeros" else "replicate"
    padded = F.pad(images.to(dtype).flatten(0, 1), [size // 2] * 4, mode=mode).unflatten(0, images.shape[:2])
    products = torch.zeros_like(images, dtype=dtype)
    for u in range(size):
        for v in range(size):
            products = products + weights[:, :, :, u, v] * padded[..., u : u + height, v : v + width]
    return (products if per_frame else products.sum(1)).to(frames.dtype)


def _interpolate(kernels: Tensor, upsample: int, rule: str) -> Tensor:
    planes = kernels.flatten(1, 3)
    if upsample == 1:
        return kernels
    if rule == "half_pixel":
        fine = F.interpolate(planes, scale_factor=upsample, mode="bilinear", align_corners=False)
    else:
        # aligned corners put sample m at upsample * m; the last sample has to be repeated first
        size = [upsample * n + 1 for n in planes.shape[-2:]]
        planes = F.pad(planes, [0, 1, 0, 1], mode="replicate")
        fine = F.interpolate(planes, size=size, mode="bilinear", align_corners=True)[..., :-1, :-1]
    return fine.unflatten(1, kernels.shape[1:4])


def local_conv(
    frames: Float[Tensor, "b t *c h w"],
    kernels: Float[Tensor, "b t k k small_h small_w"],
    *,
    upsample: int = 1,
    per_frame: bool = False,
    padding: Padding = "zeros",
    rule: Rule = "half_pixel",
) -> Float[Tensor, "b *tc h w"]:
    """Apply a predicted k x k kernel to the window around every pixel of every frame, and add up the frames.

    With r = (k - 1) / 2, for every image b, channel c and pixel (y, x):

        out[b, c, y, x] = sum over t, u, v of K[b, t, u, v, y, x] * frames[b, t, c, y + u - r, x + v - r]

    a correlation, like `F.conv2d`. `K` is `kernels`, interpolated bilinearly by the whole factor `upsample` and cropped
    to the size of the frames (never held at that size).

    - `frames`: (B, T, H, W), or (B, T, C, H, W) with the kernels shared by the C channels. Any unit.
    - `kernels`: (B, T, k, k, h, w), k odd, h = ceil(H / upsample), w = ceil(W / upsample). Any memory format is read as
      it lies, the channels_last view of a predicting convolution too.
    - returns (B, C, H, W), C = 1 for frames without channels; with `per_frame=True` the products before the sum over t,
      (B, T, C, H, W). The dtype is that of `frames`; sums are formed in float32 at least.
    - `padding`: what lies beyond the border, "zeros" or the nearest pixel ("replicate").
    - `rule`: "half_pixel" is `F.interpolate(kernels, scale_factor=upsample, mode="bilinear", align_corners=False)`;
      "legacy" is TensorFlow 1's, source = destination / upsample with the last sample repeated.

    Raises ValueError for shapes that do not fit together and for unknown options, TypeError for integer tensors.

    >>> frames, kernels = torch.rand(2, 8, 3, 64, 48), torch.rand(2, 8, 5, 5, 32, 24)
    >>> local_conv(frames, kernels, upsample=2).shape
    torch.Size([2, 3, 64, 48])

    The kernels of others, in one line each:

    - `F.unfold` order, (B, T k k, h, w), (t, u, v) with v fastest: `predicted.unflatten(1, (T, k, k))`
    - z-bingo's KernelConv (kernel-prediction-networks-PyTorch), the same order for grey frames:
      `core.unflatten(1, (T, k, k))`; its per-frame results are ours, its image is their mean, ours / T. With C colours
      it has kernels for each: `core.unflatten(1, (T, k, k, C)).movedim(4, 1).flatten(0, 1)`, which meet
      `frames.transpose(1, 2).flatten(0, 1)`
    - the TensorFlow KPN, (B, h, w, k k T), (ky, kx, frame) with the frame fastest:
      `predicted.unflatten(-1, (k, k, T)).permute(0, 5, 3, 4, 1, 2)`; its image is ours, its estimate of frame t is T
      times ours

    Works under autograd to any order, torch.compile, torch.export, ONNX export (as standard operators), torch.func.grad
    and torch.func.vmap. Results do not depend on the number of threads. CPU loops need numba; without it, on other
    devices, or with FASTWEIGHTS_NUMBA=0 in the environment, plain PyTorch works strip by strip.
    """
    _check(frames, kernels, upsample, padding, rule)
    transformed = torch._C._are_functorch_transforms_active()
    if torch.onnx.is_in_onnx_export() or (transformed and torch.compiler.is_compiling()):
        return local_conv_reference(frames, kernels, upsample=upsample, per_frame=per_frame, padding=padding, rule=rule)
    images = frames if frames.ndim == 5 else frames.unsqueeze(2)
    result = local_conv_operator(images, kernels, upsample, per_frame, padding, rule)
    return result if per_frame else result.squeeze(1)


def _check(frames: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> None:
    if not (frames.is_floating_point() and kernels.is_floating_point()):
        dtypes = f"{frames.dtype} frames and {kernels.dtype} kernels"
        raise TypeError(f"local_conv: expected floating-point tensors, got {dtypes}")
    if frames.device != kernels.device:
        devices = f"frames are on {frames.device}, kernels on {kernels.device}"
        raise ValueError(f"local_conv: {devices}; move one to the other")
    if padding not in ("zeros", "replicate"):
        raise ValueError(f"local_conv: padding is {padding!r}, expected 'zeros' or 'replicate'")
    if rule not in ("half_pixel", "legacy"):
        raise ValueError(f"local_conv: rule is {rule!r}, expected 'half_pixel' or 'legacy'")
    if not isinstance(upsample, int) or upsample < 1:
        raise ValueError(f"local_conv: upsample is {upsample!r}, expected a whole number from 1 on")
    if frames.ndim not in (4, 5) or kernels.ndim != 6:
        expected = "(B, T, H, W) or (B, T, C, H, W), and (B, T, k, k, h, w)"
        raise ValueError(f"local_conv: got {_shapes(frames, kernels)}, expected {expected}")
    if frames.shape[:2] != kernels.shape[:2]:
        raise ValueError(f"local_conv: {_shapes(frames, kernels)} differ in their first axes, images B and frames T")
    if kernels.shape[2] != kernels.shape[3] or kernels.shape[2] % 2 == 0:
        raise ValueError(f"local_conv: kernels {tuple(kernels.shape)} must be square and odd in axes 2 and 3")
    if 0 in frames.shape[1:]:
        raise ValueError(f"local_conv: frames {tuple(frames.shape)} are empty")
    height, width = (-(-n // upsample) for n in frames.shape[-2:])
    if kernels.shape[4] != height or kernels.shape[5] != width:
        raise ValueError(
            f"local_conv: {_shapes(frames, kernels)} with upsample={upsample} need kernels of {height} x {width} "
            f"pixels, the size of the frames divided by upsample and rounded up"
        )


# only for messages: while PyTorch traces, writing a size would fix it
def _shapes(frames: Tensor, kernels: Tensor) -> str:
    return f"frames {tuple(frames.shape)} and kernels {tuple(kernels.shape)}"
