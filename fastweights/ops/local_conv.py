"""A kernel per pixel: `local_conv`, its reference, and the registrations that make it one operation for PyTorch.

The reference comes first. Behind `local_conv` are three operators, `fastweights::local_conv` and its two transposes.
All of them are linear in each input, so the gradient of each is made of the other two, to any order. They run loops
compiled by numba (`_local_conv_cpu`) or plain PyTorch in strips of rows (`_local_conv_strips`).
"""

import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastweights.ops import _local_conv_strips

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
    """`local_conv` in plain differentiable PyTorch: interpolate the kernels, then one tap after another."""
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
    - z-bingo's KernelConv (kernel-prediction-networks-PyTorch), grey: the same, `core.unflatten(1, (T, k, k))`;
      its per-frame results are ours, its image is their mean, ours / T. With C colours it has kernels for each:
      `core.unflatten(1, (T, k, k, C)).movedim(4, 1).flatten(0, 1)` for `frames.transpose(1, 2).flatten(0, 1)`
    - the TensorFlow KPN, (B, h, w, k k T), (ky, kx, frame) with the frame fastest:
      `predicted.unflatten(-1, (k, k, T)).permute(0, 5, 3, 4, 1, 2)`; its image is ours, its estimate of frame t ours
      times T

    Works under autograd to any order, torch.compile, torch.export, ONNX export (as standard operators), torch.func.grad
    and torch.func.vmap. Results do not depend on the number of threads. CPU loops need numba; without it, on other
    devices, or with FASTWEIGHTS_NUMBA=0 in the environment, plain PyTorch works strip by strip.
    """
    _check(frames, kernels, upsample, padding, rule)
    options: dict[str, Any] = {"upsample": upsample, "per_frame": per_frame, "padding": padding, "rule": rule}
    transformed = torch._C._are_functorch_transforms_active()
    if torch.onnx.is_in_onnx_export() or (transformed and torch.compiler.is_compiling()):
        return local_conv_reference(frames, kernels, **options)
    images = frames if frames.ndim == 5 else frames.unsqueeze(2)
    result = _call(_Product, _product, images, kernels, *options.values())
    return result if per_frame else result.squeeze(1)


def _check(frames: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> None:
    if not (frames.is_floating_point() and kernels.is_floating_point()):
        raise TypeError(
            f"local_conv: expected floating-point tensors, got {frames.dtype} frames and {kernels.dtype} kernels"
        )
    if frames.device != kernels.device:
        raise ValueError(
            f"local_conv: frames are on {frames.device}, kernels on {kernels.device}; move one to the other"
        )
    if padding not in ("zeros", "replicate"):
        raise ValueError(f"local_conv: padding is {padding!r}, expected 'zeros' or 'replicate'")
    if rule not in ("half_pixel", "legacy"):
        raise ValueError(f"local_conv: rule is {rule!r}, expected 'half_pixel' or 'legacy'")
    if not isinstance(upsample, int) or upsample < 1:
        raise ValueError(f"local_conv: upsample is {upsample!r}, expected a whole number from 1 on")
    if frames.ndim not in (4, 5) or kernels.ndim != 6:
        raise ValueError(
            f"local_conv: got {_shapes(frames, kernels)}, expected frames (B, T, H, W) or (B, T, C, H, W) and kernels "
            "(B, T, k, k, h, w)"
        )
    if frames.shape[:2] != kernels.shape[:2]:
        raise ValueError(
            f"local_conv: {_shapes(frames, kernels)} differ in their first two axes, images B and frames T"
        )
    if kernels.shape[2] != kernels.shape[3] or kernels.shape[2] % 2 == 0:
        raise ValueError(f"local_conv: kernels {tuple(kernels.shape)} must be square and odd in axes 2 and 3")
    if 0 in frames.shape[1:]:
        raise ValueError(f"local_conv: frames {tuple(frames.shape)} are empty")
    height, width = frames.shape[-2:]
    expected = (-(-height // upsample), -(-width // upsample))
    if kernels.shape[4] != expected[0] or kernels.shape[5] != expected[1]:
        raise ValueError(
            f"local_conv: {_shapes(frames, kernels)} with upsample={upsample} need kernels of "
            f"{expected[0]} x {expected[1]} pixels, the size of the frames divided by upsample and rounded up"
        )


def _shapes(frames: Tensor, kernels: Tensor) -> str:
    return f"frames {tuple(frames.shape)} and kernels {tuple(kernels.shape)}"


@functools.cache
def _compiled_loops() -> ModuleType | None:
    try:
        return importlib.import_module("fastweights.ops._local_conv_cpu")
    except ImportError:
        return None


def _way(*tensors: Tensor) -> Any:
    """The module that computes for these tensors: compiled loops, or strips in plain PyTorch."""
    known = (torch.float32, torch.float64, torch.bfloat16)
    if os.environ.get("FASTWEIGHTS_NUMBA", "1") != "0" and all(x.is_cpu and x.dtype in known for x in tensors):
        return _compiled_loops() or _local_conv_strips
    return _local_conv_strips


@torch.library.custom_op("fastweights::local_conv", mutates_args=())
def _product(frames: Tensor, kernels: Tensor, upsample: int, per_frame: bool, padding: str, rule: str) -> Tensor:
    """(B, T, C, H, W) and (B, T, k, k, h, w) -> (B, 1 or T, C, H, W)."""
    return _way(frames, kernels).product(frames, kernels, upsample, per_frame, padding, rule)


@torch.library.custom_op("fastweights::local_conv_to_frames", mutates_args=())
def _to_frames(grad: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> Tensor:
    """The transpose of the product in its frames: (B, 1 or T, C, H, W) -> (B, T, C, H, W)."""
    return _way(grad, kernels).to_frames(grad, kernels, upsample, padding, rule)


@torch.library.custom_op("fastweights::local_conv_to_kernels", mutates_args=())
def _to_kernels(
    grad: Tensor, frames: Tensor, size: int, dtype: torch.dtype, taps_last: bool, upsample: int, padding: str, rule: str
) -> Tensor:
    """The transpose of the product in its kernels, each number written once, in the memory format of the kernels."""
    out = _new_kernels(frames, size, dtype, taps_last, upsample)
    _way(grad, frames, out).to_kernels(out, grad, frames, upsample, padding, rule)
    return out


def _new_kernels(frames: Tensor, size: Any, dtype: torch.dtype, taps_last: Any, upsample: int) -> Tensor:
    batch, count, _, height, width = frames.shape
    small = ((height + upsample - 1) // upsample, (width + upsample - 1) // upsample)
    if taps_last:
        return frames.new_empty((batch, *small, count, size, size), dtype=dtype).permute(0, 3, 4, 5, 1, 2)
    return frames.new_empty((batch, count, size, size, *small), dtype=dtype)


# shapes alone, for tracing; numbers may be symbols there
@_product.register_fake
def _(frames, kernels, upsample, per_frame, padding, rule):
    return frames.new_empty((frames.shape[0], frames.shape[1] if per_frame else 1, *frames.shape[2:]))


@_to_frames.register_fake
def _(grad, kernels, upsample, padding, rule):
    return grad.new_empty((grad.shape[0], kernels.shape[1], *grad.shape[2:]))


@_to_kernels.register_fake
def _(grad, frames, size, dtype, taps_last, upsample, padding, rule):
    return _new_kernels(frames, size, dtype, taps_last, upsample)


def _taps_last(kernels: Tensor) -> Any:  # a bool, or its symbol while PyTorch traces
    return kernels.stride(3) < kernels.stride(5)


class _Product(torch.autograd.Function):
    """The rules of `_product`, for autograd and, as a Function, for the transforms of torch.func."""

    generate_vmap_rule = True
    forward = staticmethod(_product)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        frames, kernels, *ctx.options = inputs
        ctx.kind = (kernels.shape[2], kernels.dtype, _taps_last(kernels))
        need_frames, need_kernels = ctx.needs_input_grad[:2]
        # frames alone are kept where they are data: the kernels need not outlive the forward pass
        ctx.save_for_backward(frames if need_kernels else None, kernels if need_frames else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        frames, kernels = ctx.saved_tensors
        need_frames, need_kernels = ctx.needs_input_grad[:2]
        upsample, _, *rest = ctx.options
        to_frames = to_kernels = None
        if need_frames:
            to_frames = _call(_ToFrames, _to_frames, grad, kernels, upsample, *rest)
        if need_kernels:
            to_kernels = _call(_ToKernels, _to_kernels, grad, frames, *ctx.kind, upsample, *rest)
        return to_frames, to_kernels, None, None, None, None


class _ToFrames(torch.autograd.Function):
    generate_vmap_rule = True
    forward = staticmethod(_to_frames)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad, kernels, *ctx.options = inputs
        ctx.per_frame = grad.shape[1] > 1
        ctx.kind = (kernels.shape[2], kernels.dtype, _taps_last(kernels))
        ctx.save_for_backward(grad, kernels)

    @staticmethod
    def backward(ctx: Any, frames: Tensor) -> tuple:
        grad, kernels = ctx.saved_tensors
        upsample, *rest = ctx.options
        to_grad = _call(_Product, _product, frames, kernels, upsample, ctx.per_frame, *rest)
        return to_grad, _call(_ToKernels, _to_kernels, grad, frames, *ctx.kind, *ctx.options), None, None, None


class _ToKernels(torch.autograd.Function):
    generate_vmap_rule = True
    forward = staticmethod(_to_kernels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad, frames, _, _, _, *ctx.options = inputs
        ctx.per_frame = grad.shape[1] > 1
        ctx.save_for_backward(grad, frames)

    @staticmethod
    def backward(ctx: Any, kernels: Tensor) -> tuple:
        grad, frames = ctx.saved_tensors
        upsample, *rest = ctx.options
        to_grad = _call(_Product, _product, frames, kernels, upsample, ctx.per_frame, *rest)
        return to_grad, _call(_ToFrames, _to_frames, grad, kernels, *ctx.options), *[None] * 6


def _call(function: type[torch.autograd.Function], operator: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The operator; under torch.func, which refuses an operator's autograd rules, the same rules as a Function."""
    if torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    return operator(*arguments)


for _operator, _rules in ((_product, _Product), (_to_frames, _ToFrames), (_to_kernels, _ToKernels)):
    _operator.register_autograd(_rules.backward, setup_context=_rules.setup_context)


def _fold(x: Tensor, axis: int | None, size: int, into: int) -> Tensor:
    """A batch axis of vmap made part of axis `into`; a tensor without one is repeated."""
    moved = x.unsqueeze(into).expand(*x.shape[:into], size, *x.shape[into:]) if axis is None else x.movedim(axis, into)
    return moved.flatten(into, into + 1)


def _vmap_linear(
    operator: Callable[..., Tensor], info: Any, axes: tuple, x: Tensor, kernels: Tensor, *options: Any
) -> tuple:
    # images that meet the same kernels become channels: the kernels are read once for all of them
    into = 2 if axes[1] is None else 0
    kernels = kernels if axes[1] is None else _fold(kernels, axes[1], info.batch_size, 0)
    out = operator(_fold(x, axes[0], info.batch_size, into), kernels, *options)
    return out.unflatten(into, (info.batch_size, -1)), into


def _vmap_to_kernels(info: Any, axes: tuple, grad: Tensor, frames: Tensor, *options: Any) -> tuple:
    folded = (_fold(x, axis, info.batch_size, 0) for x, axis in zip((grad, frames), axes, strict=False))
    return _to_kernels(*folded, *options).unflatten(0, (info.batch_size, -1)), 0


_product.register_vmap(functools.partial(_vmap_linear, _product))
_to_frames.register_vmap(functools.partial(_vmap_linear, _to_frames))
_to_kernels.register_vmap(_vmap_to_kernels)
