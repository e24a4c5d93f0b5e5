"""Frames, kernels and the third writing that the tests of `local_conv` are held to."""

import torch
import torch.nn.functional as F

from fastweights.ops import local_conv
from fastweights.ops.local_conv import local_conv_reference


def oracle(frames, kernels, *, upsample=1, per_frame=False, padding="zeros", rule="half_pixel"):
    """Gather both neighbours by index, interpolate, unfold, multiply, sum."""
    images = frames if frames.ndim == 5 else frames[:, :, None]
    B, T, C, H, W = images.shape
    k = kernels.shape[2]
    for dim, length in ((4, H), (5, W)):
        destination = torch.arange(length, dtype=torch.float64)
        source = (destination + 0.5) / upsample - 0.5 if rule == "half_pixel" else destination / upsample
        source = source.clamp(0, kernels.shape[dim] - 1)
        low = source.floor().long()
        high = (low + 1).clamp(max=kernels.shape[dim] - 1)
        share = (source - low).to(kernels.dtype).reshape([-1] + [1] * (5 - dim))
        kernels = kernels.index_select(dim, low) * (1 - share) + kernels.index_select(dim, high) * share
    mode = "constant" if padding == "zeros" else "replicate"
    columns = F.unfold(F.pad(images.reshape(B * T, C, H, W), [k // 2] * 4, mode=mode), k)
    products = (kernels.reshape(B, T, 1, k * k, H, W) * columns.reshape(B, T, C, k * k, H, W)).sum(3)
    return products if per_frame else products.sum(1)


def inputs(B=2, T=3, C=2, *, size=(9, 14), k=3, upsample=1, layout="planes", dtypes=(torch.float64, torch.float64)):
    """Leaves: frames, and kernels as they come, as a channels_last head leaves them, or every second column."""
    h, w = (-(-n // upsample) for n in size)
    frames = torch.randn(B, T, *([C] if C else []), *size, dtype=dtypes[0])
    head = torch.randn(B, T * k * k, h, 2 * w if layout == "strided" else w, dtype=dtypes[1])
    if layout == "taps last":
        head = head.contiguous(memory_format=torch.channels_last)
    kernels = head[..., : 2 * w : 2] if layout == "strided" else head
    kernels = kernels.unflatten(1, (T, k, k))
    return frames.requires_grad_(), kernels.detach().requires_grad_()


def assert_equal(frames, kernels, **options):
    """Values and both gradients of local_conv, the reference and the oracle, in float64."""
    results = [function(frames, kernels, **options) for function in (oracle, local_conv, local_conv_reference)]
    cotangent = torch.randn_like(results[0])
    wanted, *others = ((y, *torch.autograd.grad(y, (frames, kernels), cotangent)) for y in results)
    for other in others:
        for a, b in zip(wanted, other, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-11)


def side_by_side(B, T, C, size, upsample, dtypes=(torch.float64, torch.float64)):
    """Leaves with one tap, the T numbers of a pixel side by side, as channels_last maps and gates have them."""
    h, w = (-(-n // upsample) for n in size)
    frames = torch.randn(B, C, *size, T, dtype=dtypes[0]).movedim(-1, 1)
    kernels = torch.randn(B, h, w, T, dtype=dtypes[1]).movedim(-1, 1).unflatten(1, (T, 1, 1))
    return frames.requires_grad_(), kernels.detach().requires_grad_()


LAYOUTS = ["planes", "taps last", "strided"]
RULES = [(1, "half_pixel"), (2, "half_pixel"), (2, "legacy"), (3, "half_pixel"), (3, "legacy"), (4, "half_pixel")]
