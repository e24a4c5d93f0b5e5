"""`local_conv` and its transposes in plain PyTorch, on any device, strip of rows after strip of rows.

Only a strip's kernels are ever held at full resolution. Sums run over the taps in a fixed order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# numbers of a strip of kernels: about a cache on a CPU, enough work a launch on other devices
_STRIP = 2**20
_STRIP_ELSEWHERE = 2**24


def product(frames: Tensor, kernels: Tensor, upsample: int, per_frame: bool, padding: str, rule: str) -> Tensor:
    """(B, T, C, H, W) and (B, T, k, k, h, w) -> (B, 1 or T, C, H, W)."""
    batch, count, colours, height, width = frames.shape
    dtype = accumulator(frames.dtype, kernels.dtype)
    padded = _pad(frames.to(dtype), kernels.shape[2] // 2, padding)
    out = frames.new_zeros((batch, count if per_frame else 1, colours, height, width), dtype=dtype)
    for top, bottom in _strips(kernels, height, upsample):
        weights = _fine_rows(kernels, top, bottom, width, upsample, rule, dtype)
        for t, u, v in _taps(kernels):
            window = padded[:, t, :, top + u : bottom + u, v : v + width]
            out[:, t if per_frame else 0, :, top:bottom].addcmul_(weights[:, t, None, u, v], window)
    return out.to(frames.dtype)


def to_frames(grad: Tensor, kernels: Tensor, upsample: int, padding: str, rule: str) -> Tensor:
    """The transpose of `product` in its frames: (B, 1 or T, C, H, W) -> (B, T, C, H, W)."""
    batch, kept, colours, height, width = grad.shape
    border = kernels.shape[2] // 2
    dtype = accumulator(grad.dtype, kernels.dtype)
    grads = grad.to(dtype)
    full = grads.new_zeros((batch, kernels.shape[1], colours, height + 2 * border, width + 2 * border))
    for top, bottom in _strips(kernels, height, upsample):
        weights = _fine_rows(kernels, top, bottom, width, upsample, rule, dtype)
        for t, u, v in _taps(kernels):
            window = full[:, t, :, top + u : bottom + u, v : v + width]
            window.addcmul_(weights[:, t, None, u, v], grads[:, t if kept > 1 else 0, :, top:bottom])
    return unpad(full, border, padding).to(grad.dtype)


def to_kernels(out: Tensor, grad: Tensor, frames: Tensor, upsample: int, padding: str, rule: str) -> None:
    """The transpose of `product` in its kernels, written to out (B, T, k, k, h, w)."""
    height, width = frames.shape[-2:]
    small_height, small_width = out.shape[-2:]
    dtype = accumulator(frames.dtype, out.dtype)
    grads = grad.to(dtype)
    padded = _pad(frames.to(dtype), out.shape[2] // 2, padding)
    margin = 0 if upsample == 1 else 1
    for i0, i1 in _strips(out, small_height, 1):
        first, last = max(0, i0 - margin), min(small_height, i1 + margin)
        top, bottom = first * upsample, min(height, last * upsample)
        for t, u, v in _taps(out):
            window = padded[:, t, :, top + u : bottom + u, v : v + width]
            products = (grads[:, t if grad.shape[1] > 1 else 0, :, top:bottom] * window).sum(1)
            if upsample > 1:
                rest = [0, small_width * upsample - width, 0, (last - first) * upsample - (bottom - top)]
                weights = phases(upsample, rule).to(products)
                products = _narrow(_narrow(F.pad(products, rest), -1, weights), -2, weights)
                products = products[:, i0 - first : i1 - first]
            out[:, t, u, v, i0:i1] = products


def accumulator(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """The dtype of sums: the wider of both, float32 at least."""
    return torch.promote_types(torch.promote_types(a, b), torch.float32)


def phases(upsample: int, rule: str) -> Tensor:
    """Row p: the weights of the coarse pixels m - 1, m and m + 1 in the fine pixel upsample * m + p, (upsample, 3).

    >>> phases(2, "half_pixel").tolist()
    [[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]]
    """
    p = torch.arange(upsample, dtype=torch.float64)
    offset = (p + 0.5) / upsample - 0.5 if rule == "half_pixel" else p / upsample
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], 1)


def unpad(full: Tensor, border: int, padding: str) -> Tensor:
    """The transpose of padding: drops the border, or adds it to the pixels it repeats."""
    for axis in (-1, -2):
        lines = full.movedim(axis, -1)
        before, inner, after = lines.split([border, lines.shape[-1] - 2 * border, border], -1)
        if padding == "replicate":
            inner = inner.clone()
            inner[..., 0] += before.sum(-1)
            inner[..., -1] += after.sum(-1)
        full = inner.movedim(-1, axis)
    return full.contiguous()


def _pad(frames: Tensor, border: int, padding: str) -> Tensor:
    mode = "constant" if padding == "zeros" else "replicate"
    return F.pad(frames.flatten(0, 1), [border] * 4, mode=mode).unflatten(0, frames.shape[:2])


def _taps(kernels: Tensor) -> Iterator[tuple[int, int, int]]:
    frames, rows, columns = map(range, kernels.shape[1:4])
    return itertools.product(frames, rows, columns)


def _strips(kernels: Tensor, height: int, upsample: int) -> Iterator[tuple[int, int]]:
    """First and last row of each strip, whole coarse rows."""
    numbers = kernels[..., 0, :].numel() * upsample
    limit = _STRIP if kernels.device.type == "cpu" else _STRIP_ELSEWHERE
    rows = max(1, limit // max(1, numbers * upsample)) * upsample
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _fine_rows(
    kernels: Tensor, top: int, bottom: int, width: int, upsample: int, rule: str, dtype: torch.dtype
) -> Tensor:
    """The rows top..bottom of the interpolated kernels; top is a multiple of upsample."""
    if upsample == 1:
        return kernels[..., top:bottom, :].to(dtype)
    first = max(0, top // upsample - 1)
    coarse = kernels[..., first : -(-bottom // upsample) + 1, :].to(dtype)
    weights = phases(upsample, rule).to(coarse)
    rows = _widen(coarse, -2, weights)[..., top - first * upsample : bottom - first * upsample, :]
    return _widen(rows, -1, weights)[..., :width]


def _widen(coarse: Tensor, axis: int, weights: Tensor) -> Tensor:
    lines = coarse.movedim(axis, -1)
    lines = torch.cat([lines[..., :1], lines, lines[..., -1:]], -1)
    fine = [a * lines[..., :-2] + b * lines[..., 1:-1] + c * lines[..., 2:] for a, b, c in weights.unbind()]
    return torch.stack(fine, -1).flatten(-2).movedim(-1, axis)


def _narrow(fine: Tensor, axis: int, weights: Tensor) -> Tensor:
    """The transpose of `_widen`."""
    parts = fine.movedim(axis, -1).unflatten(-1, (-1, len(weights)))
    before, here, after = ((parts * weights[:, n]).sum(-1) for n in range(3))
    here[..., :-1] += before[..., 1:]
    here[..., 1:] += after[..., :-1]
    here[..., 0] += before[..., 0]
    here[..., -1] += after[..., -1]
    return here.movedim(-1, axis)
