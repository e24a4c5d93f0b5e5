"""A kernel per pixel: `local_conv`, its gradients, and the registrations that make it one operation for PyTorch."""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Padding = Literal["zeros", "replicate"]
Rule = Literal["half_pixel", "legacy"]


def local_conv_reference(
    frames: Tensor, kernels: Tensor, *, upsample: int = 1, per_frame: bool = False, padding: Padding = "zeros", rule: Rule = "half_pixel"
) -> Tensor:
    """`local_conv` in plain PyTorch, differentiable, one tap after another; holds the kernels at full resolution."""
    images = frames if frames.ndim == 5 else frames[:, :, None]
    high, wide = images.shape[-2:]
    size = kernels.shape[2]
    dtype = torch.promote_types(torch.promote_types(images.dtype, kernels.dtype), torch.float32)
    kernels = upsample_kernels(kernels.to(dtype), upsample, rule)[..., :high, :wide]
    border = [size // 2] * 4
    flat = images.to(dtype).flatten(0, 1)
    flat = F.pad(flat, border, mode="replicate") if padding == "replicate" else F.pad(flat, border)
    padded = flat.unflatten(0, images.shape[:2])
    result = torch.zeros_like(images, dtype=dtype)
    for u, v in itertools.product(range(size), repeat=2):
        result = result + kernels[:, :, None, u, v] * padded[..., u : u + high, v : v + wide]
    return (result if per_frame else result.sum(1)).to(frames.dtype)


def upsample_kernels(kernels: Tensor, upsample: int, rule: Rule) -> Tensor:
    """The last two axes times `upsample`, by the weights of `_phases`: interpolation with the ends repeated."""
    if upsample == 1:
        return kernels
    phases = _phases(upsample, rule).to(kernels)
    for axis in (-1, -2):
        lines = kernels.movedim(axis, -1)
        around = torch.cat([lines[..., :1], lines, lines[..., -1:]], -1).unfold(-1, 3, 1)
        kernels = (around @ phases.T).flatten(-2).movedim(-1, axis)
    return kernels


def _phases(upsample: int, rule: Rule) -> Tensor:
    """Row p: the weights of the coarse pixels m - 1, m and m + 1 for the fine pixel upsample * m + p."""
    p = torch.arange(upsample, dtype=torch.float64)
    offset = (p + 0.5) / upsample - 0.5 if rule == "half_pixel" else p / upsample
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], 1)


def local_conv(
    frames: Tensor, kernels: Tensor, *, upsample: int = 1, per_frame: bool = False, padding: Padding = "zeros", rule: Rule = "half_pixel"
) -> Tensor:
    """Apply a predicted kernel to the window around every pixel."""
    images = frames if frames.ndim == 5 else frames[:, :, None]
    result = _local_conv(images, kernels, upsample, per_frame, padding, rule)
    return result if per_frame else result[:, 0]


def _numba_runs(*tensors: Tensor) -> bool:
    known = (torch.float32, torch.float64, torch.bfloat16)
    return (
        os.environ.get("FASTWEIGHTS_NUMBA", "1") != "0"
        and find_spec("numba") is not None
        and all(x.device.type == "cpu" and x.dtype in known for x in tensors)
    )


def _accumulator(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a, b), torch.float32)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


os.register_at_fork(after_in_child=_pool.cache_clear)


def _in_blocks(loop, batch: int, rows: int, step: int, *arguments) -> None:
    """Calls loop(*arguments, start, stop) for blocks of rows, on as many threads as torch uses."""
    blocks = [
        (b * rows + first, b * rows + min(first + step, rows)) for b in range(batch) for first in range(0, rows, step)
    ]
    queue = iter(blocks)
    turns = iter(blocks)

    def work() -> None:
        for start, stop in turns:
            loop(*arguments, start, stop)

    del queue
    loop(*arguments, 0, 0)
    threads = min(torch.get_num_threads(), len(blocks))
    others = [_pool().submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


def _flat(kernels: Tensor):
    """Kernels as one numpy array of everything between the first and the last number, and the strides."""
    span = 1 + sum((n - 1) * step for n, step in zip(kernels.shape, kernels.stride(), strict=True))
    line = kernels.detach().as_strided((span,), (1,))
    line = line.view(torch.uint16) if line.dtype == torch.bfloat16 else line
    return line.numpy(), kernels.stride()


def _block(width: int, upsample: int, contiguous: bool) -> int:
    """Pixels of a row worked on at once: all of them, or so few that strided kernels stay in the cache."""
    wanted = width if contiguous else 64
    return -(-min(wanted, width) // upsample) * upsample


@torch.library.custom_op("fastweights::local_conv", mutates_args=())
def _local_conv(frames: Tensor, kernels: Tensor, upsample: int, per_frame: bool, padding: str, rule: str) -> Tensor:
    if not _numba_runs(frames, kernels):
        result = local_conv_reference(frames, kernels, upsample=upsample, per_frame=per_frame, padding=padding, rule=rule)
        return result if per_frame else result[:, None]
    from fastweights.ops import _local_conv_numba as loops

    dtype = _accumulator(frames.dtype, kernels.dtype)
    batch, count, colours, high, wide = frames.shape
    out = torch.zeros((batch, count if per_frame else 1, colours, high, wide), dtype=dtype)
    images = frames.detach().to(dtype).contiguous().numpy()
    flat, strides = _flat(kernels)
    phases = _phases(upsample, rule).to(dtype).numpy()
    block = _block(wide, upsample, strides[-1] == 1)
    _in_blocks(
        loops.forward, batch, high, 8, out.numpy(), images, flat, strides, kernels.shape[2], phases, padding == "replicate", block
    )
    return out.to(frames.dtype)


@_local_conv.register_fake
def _(frames, kernels, upsample, per_frame, padding, rule):
    batch, count, colours, high, wide = frames.shape
    return frames.new_empty((batch, count if per_frame else 1, colours, high, wide))


@torch.library.custom_op("fastweights::local_conv_grad_frames", mutates_args=())
def _grad_frames(grad: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> Tensor:
    batch, _, colours, high, wide = grad.shape
    count = kernels.shape[1]
    dtype = _accumulator(grad.dtype, kernels.dtype)
    if not _numba_runs(grad, kernels):
        return _by_autograd(grad, torch.zeros((batch, count, colours, high, wide), dtype=grad.dtype, device=grad.device), kernels, upsample, padding, rule)[0]
    from fastweights.ops import _local_conv_numba as loops

    out = torch.zeros((batch, count, colours, high, wide), dtype=dtype)
    flat, strides = _flat(kernels)
    phases = _phases(upsample, rule).to(dtype).numpy()
    block = _block(wide, upsample, strides[-1] == 1)
    _in_blocks(
        loops.grad_frames, batch, high, 8, out.numpy(), grad.detach().to(dtype).contiguous().numpy(), flat, strides, kernels.shape[2], phases, padding == "replicate", block
    )
    return out.to(grad.dtype)


@_grad_frames.register_fake
def _(grad, kernels, upsample, padding, rule):
    batch, _, colours, high, wide = grad.shape
    return grad.new_empty((batch, kernels.shape[1], colours, high, wide))


def _empty_kernels(frames: Tensor, size: int, dtype: torch.dtype, taps_last: bool, upsample: int) -> Tensor:
    batch, count, _, high, wide = frames.shape
    h, w = (high + upsample - 1) // upsample, (wide + upsample - 1) // upsample
    if taps_last:
        return frames.new_empty((batch, h, w, count, size, size), dtype=dtype).permute(0, 3, 4, 5, 1, 2)
    return frames.new_empty((batch, count, size, size, h, w), dtype=dtype)


@torch.library.custom_op("fastweights::local_conv_grad_kernels", mutates_args=())
def _grad_kernels(
    grad: Tensor, frames: Tensor, size: int, dtype: torch.dtype, taps_last: bool, upsample: int, padding: str, rule: str
) -> Tensor:
    out = _empty_kernels(frames, size, dtype, taps_last, upsample)
    if not _numba_runs(grad, frames, out):
        return out.copy_(_by_autograd(grad, frames, torch.zeros_like(out), upsample, padding, rule)[1])
    from fastweights.ops import _local_conv_numba as loops

    work = _accumulator(frames.dtype, dtype)
    batch, _, _, high, wide = frames.shape
    flat, strides = _flat(out)
    phases = _phases(upsample, rule).to(work).numpy()
    block = _block(-(-wide // upsample) * upsample, upsample, strides[-1] == 1)
    _in_blocks(
        loops.grad_kernels, batch, -(-high // upsample), 4, flat, strides, grad.detach().to(work).contiguous().numpy(), frames.detach().to(work).contiguous().numpy(), size, phases, padding == "replicate", block
    )
    return out


@_grad_kernels.register_fake
def _(grad, frames, size, dtype, taps_last, upsample, padding, rule):
    return _empty_kernels(frames, size, dtype, taps_last, upsample)


def _by_autograd(grad: Tensor, frames: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = (frames.detach().requires_grad_(), kernels.detach().requires_grad_())
        result = local_conv_reference(*leaves, upsample=upsample, per_frame=True, padding=padding, rule=rule)
        return torch.autograd.grad(result, leaves, grad.detach().expand_as(result))


def _taps_last(kernels: Tensor) -> bool:
    return kernels.stride(3) < kernels.stride(5)


def _remember(ctx, inputs, output) -> None:
    frames, kernels, ctx.upsample, _, ctx.padding, ctx.rule = inputs
    ctx.kind = (kernels.shape[2], kernels.dtype, _taps_last(kernels))
    need_frames, need_kernels = ctx.needs_input_grad[:2]
    ctx.save_for_backward(frames if need_kernels else None, kernels if need_frames else None)


def _backward(ctx, grad):
    frames, kernels = ctx.saved_tensors
    rule = (ctx.upsample, ctx.padding, ctx.rule)
    to_frames = _grad_frames(grad, kernels, *rule) if ctx.needs_input_grad[0] else None
    to_kernels = _grad_kernels(grad, frames, *ctx.kind, *rule) if ctx.needs_input_grad[1] else None
    return to_frames, to_kernels, None, None, None, None


_local_conv.register_autograd(_backward, setup_context=_remember)
