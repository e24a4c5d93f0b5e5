"""The three operators behind `local_conv`, the product and its transposes in frames and kernels, and PyTorch's rules.

All three are linear in each input, so the gradient of each is made of the other two, to any order. They run loops
compiled by numba (`_local_conv_cpu`), or plain PyTorch in strips of rows (`_local_conv_strips`).
"""

import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastweights.ops import _local_conv_strips


def local_conv_operator(
    frames: Tensor, kernels: Tensor, upsample: int, per_frame: bool, padding: str, rule: str
) -> Tensor:
    """`fastweights::local_conv` with all its rules: (B, T, C, H, W) and (B, T, k, k, h, w) -> (B, 1 or T, C, H, W)."""
    return _call(_Product, _product, frames, kernels, upsample, per_frame, padding, rule)


@functools.cache
def compiled_loops() -> ModuleType | None:
    try:
        return importlib.import_module("fastweights.ops._local_conv_cpu")
    except ImportError:
        return None


def _way(*tensors: Tensor) -> Any:
    """The module that computes for these tensors: compiled loops, or strips in plain PyTorch."""
    known = (torch.float32, torch.float64, torch.bfloat16)
    if os.environ.get("FASTWEIGHTS_NUMBA", "1") != "0" and all(x.is_cpu and x.dtype in known for x in tensors):
        return compiled_loops() or _local_conv_strips
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
