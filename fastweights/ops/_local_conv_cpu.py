"""`local_conv` and its transposes on a CPU: hands rows to the compiled loops, on as many threads as torch uses."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fastweights.ops import _local_conv_compiled as loops
from fastweights.ops._local_conv_strips import accumulator, phases, unpad
from fastweights.threads import pool


def product(frames: Tensor, kernels: Tensor, upsample: int, per_frame: bool, padding: str, rule: str) -> Tensor:
    """(B, T, C, H, W) and (B, T, k, k, h, w) -> (B, 1 or T, C, H, W)."""
    batch, count, colours, height, width = frames.shape
    dtype = accumulator(frames.dtype, kernels.dtype)
    kept = count if per_frame else 1
    out = frames.new_empty((batch, kept, colours, height, width), dtype=dtype)
    sizes = (count, colours, height, width, kernels.shape[2], kept)
    rows, columns = _tile(kernels, 32)
    weights = phases(upsample, rule).to(dtype).numpy()
    if kept == kernels.shape[2] == 1 and frames.stride(1) == kernels.stride(1) == 1:
        maps = (_span(frames), _span(kernels), sizes, frames.stride(), kernels.stride(), weights)
        _in_blocks(loops.sum_of_maps, (batch, height, rows), _line(out), *maps)
        return out.to(frames.dtype)
    arrays = (_line(out), _line(frames, dtype), _span(kernels))
    options = (sizes, kernels.stride(), weights, padding == "replicate", columns)
    loop = loops.product_of_neighbours if _taps_side_by_side(kernels) else loops.product
    _in_blocks(loop, (batch, height, rows), *arrays, *options)
    return out.to(frames.dtype)


def to_frames(grad: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> Tensor:
    """The transpose of `product` in its frames: (B, 1 or T, C, H, W) -> (B, T, C, H, W)."""
    batch, kept, colours, height, width = grad.shape
    count, size = kernels.shape[1:3]
    dtype = accumulator(grad.dtype, kernels.dtype)
    # with its border, and as many columns as whole coarse pixels reach
    reach = upsample * (kernels.shape[5] + (upsample + size - 2) // upsample)
    full = grad.new_empty((batch, count, colours, height + size - 1, reach), dtype=dtype)
    sizes = (count, colours, height, width, size, kept)
    rows, columns = _tile(kernels, 32)
    weights = phases(upsample, rule).to(dtype).numpy()
    arrays = (_line(full), _line(grad, dtype), _span(kernels))
    options = (sizes, kernels.stride(), weights, columns)
    _in_blocks(loops.to_frames, (batch, height + size - 1, rows), *arrays, *options)
    return unpad(full[..., : width + size - 1], size // 2, padding).to(grad.dtype)


def to_kernels(out: Tensor, grad: Tensor, frames: Tensor, upsample: int, padding: str, rule: str) -> None:
    """The transpose of `product` in its kernels, written to out (B, T, k, k, h, w)."""
    batch, count, colours, height, width = frames.shape
    dtype = accumulator(frames.dtype, out.dtype)
    sizes = (count, colours, height, width, out.shape[2], grad.shape[1])
    rows, columns = _tile(out, 16)
    weights = phases(upsample, rule).to(dtype).numpy()
    arrays = (_span(out), _line(grad, dtype), _line(frames, dtype))
    options = (sizes, out.stride(), weights, padding == "replicate", columns)
    _in_blocks(loops.to_kernels, (batch, out.shape[-2], rows), *arrays, *options)


def _tile(kernels: Tensor, rows: int) -> tuple[int, int]:
    """Rows handed out at once, coarse columns worked on at once; strided columns have to stay in the cache."""
    width = kernels.shape[-1]
    return (rows, min(width, 2048)) if kernels.stride(-1) == 1 else (min(rows, 8), min(width, 64))


def _taps_side_by_side(kernels: Tensor) -> bool:
    size = kernels.shape[2]
    return kernels.stride()[1:4] == (size * size, size, 1) and kernels.stride(5) != 1


def _line(tensor: Tensor, dtype: torch.dtype | None = None) -> np.ndarray:
    return tensor.detach().to(dtype or tensor.dtype).contiguous().view(-1).numpy()


def _span(tensor: Tensor) -> np.ndarray:
    """Everything between the first and the last number of a tensor as it lies, bfloat16 as uint16."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    line = tensor.detach().as_strided((last + 1,), (1,))
    return (line.view(torch.uint16) if line.dtype == torch.bfloat16 else line).numpy()


def _in_blocks(loop: Callable[..., None], rows: tuple[int, int, int], *arguments: object) -> None:
    """Calls loop(*arguments, start, stop) for blocks of rows, given as (images, rows of an image, rows of a block)."""
    images, height, step = rows
    blocks = [
        (n * height + y, n * height + min(y + step, height)) for n in range(images) for y in range(0, height, step)
    ]
    queue = iter(blocks)

    def work() -> None:
        for start, stop in queue:
            loop(*arguments, start, stop)

    threads = pool("local_conv", os.cpu_count() or 1)
    others = [threads.submit(work) for _ in range(min(torch.get_num_threads(), len(blocks)) - 1)]
    work()
    for other in others:
        other.result()
