"""The table of operations: which function computes a product without gathered patches and without the dense weight.

`find` looks a case up by structure, axes and kind of code; `plain` is the one line that works for every case (gather,
multiply, scatter) and the reference the rows are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastweights.axes import Axes, Patches, Sequence
from fastweights.codes import Code, Separable, Sliced, Upsampled, dense, pointwise
from fastweights.ops.local_conv import local_conv
from fastweights.ops.separable_conv import separable_conv
from fastweights.ops.shared_conv import shared_conv
from fastweights.structures import Direct, Gated, Mixture, Outer, Structure, softmax


@dataclass(frozen=True)
class Row:
    """One fast way: the case it serves, a predicate for the sizes it takes, and the function."""

    name: str
    structure: type[Structure]
    axes: type[Axes]
    codes: tuple[type, ...]
    applies: Callable[..., bool]  # (structure, axes, code, x)
    product: Callable[..., Tensor]  # (structure, axes, code, x, per_frame)


def find(structure: Structure, axes: Axes, code: Code, x: Tensor) -> Row | None:
    """The first row of the table that takes this case, or None."""
    for row in TABLE:
        # isinstance: torch's parametrizations give a structure a class of its own.
        fits = isinstance(structure, row.structure) and isinstance(axes, row.axes) and isinstance(code, row.codes)
        if fits and row.applies(structure, axes, code, x):
            return row
    return None


def plain(structure: Structure, axes: Axes, code: Code, x: Tensor, per_frame: bool = False) -> Tensor:
    """`merge(structure(align(code), split(x)))`, the definition of every product.

    With per_frame=True one product for each index t of x's axis -3, all others zero, stacked before the output axis;
    their sum is the product.
    """
    code = expand(code, x)
    aligned = tuple(axes.align(part, x) for part in code) if isinstance(code, tuple) else axes.align(code, x)
    columns = axes.split(x)
    if not per_frame:
        return axes.merge(structure(aligned, columns), x)
    if not isinstance(axes, Patches):
        raise ValueError(f"per_frame=True needs Patches axes, whose axis -3 holds the frames, got {axes}")
    frames = columns.unflatten(-1, (x.shape[-3], -1))
    alone = torch.eye(x.shape[-3], dtype=x.dtype, device=x.device).unsqueeze(-1)
    each = [axes.merge(structure(aligned, (frames * mask).flatten(-2)), x) for mask in alone]
    return torch.stack(each, dim=-4)


def expand(code: Code, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """A dense code; a low-precision one is widened first, so that interpolation does not round."""
    if isinstance(code, Upsampled | Sliced):
        code = code.map(lambda numbers: numbers.to(torch.promote_types(numbers.dtype, x.dtype)))
    return dense(code)


def _is_same_size_patch(axes: Patches) -> bool:
    odd = axes.kernel_size % 2 == 1
    once = axes.stride == axes.out_stride == axes.out_kernel_size == 1
    same = axes.border == (axes.kernel_size - 1) // 2
    return odd and once and same and axes.padding_mode in ("zeros", "replicate")


def _is_local(structure: Structure, axes: Patches, code: Tensor | Upsampled, x: Tensor) -> bool:
    size = code.size if isinstance(code, Upsampled) else code.shape[-2:]
    return _is_same_size_patch(axes) and x.ndim in (4, 5) and tuple(size) == tuple(x.shape[-2:])


def _local_product(structure: Direct, axes: Patches, code: Tensor | Upsampled, x: Tensor, per_frame: bool) -> Tensor:
    """A kernel per pixel and output channel, through `local_conv`."""
    frames = x if x.ndim == 4 else x.transpose(1, 2)
    small, factor, rule = (
        (code.code, code.factor, code.rule) if isinstance(code, Upsampled) else (code, 1, "half_pixel")
    )
    window = (x.shape[-3], axes.kernel_size, axes.kernel_size)
    outputs = []
    for kernels in small.unflatten(1, (structure.out_features, -1)).unbind(1):
        kernels = kernels.unflatten(1, window)
        padding: Any = axes.padding_mode
        y = local_conv(frames, kernels, upsample=factor, per_frame=per_frame, padding=padding, rule=rule)
        if x.ndim == 4:
            y = y.squeeze(-3)
        elif per_frame:
            y = y.transpose(1, 2)
        outputs.append(y)
    return torch.stack(outputs, dim=-3)


def _mixture_product(structure: Mixture, axes: Patches, code: Tensor | Upsampled, x: Tensor, per_frame: bool) -> Tensor:
    """The templates as a 1 x 1 head at the code's own resolution, then a kernel per pixel."""
    weight = structure.templates.flatten(1).T[..., None, None]
    bias = None if structure.base is None else structure.base.flatten()

    def head(features: Tensor) -> Tensor:
        # A low-precision code does not round the templates.
        dtype = torch.promote_types(features.dtype, weight.dtype)
        return F.conv2d(features.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))

    direct = Direct(structure.in_features, structure.out_features)
    kernels: Any = pointwise(head, code)
    return _local_product(direct, axes, kernels, x, per_frame)


def _gated_product(structure: Gated, axes: Patches, code: Tensor | Upsampled, x: Tensor, per_frame: bool) -> Tensor:
    """conv(V), multiply by the gates, transposed conv(U): the hidden maps are held, patches are not."""
    if per_frame:
        return _frame_by_frame(_gated_product, structure, axes, code, x)
    gates: Any = expand(code, x)
    extra = x.shape[1:-3]
    hidden = _hidden(structure, axes, x.reshape(-1, *x.shape[-3:]), side_by_side=gates.stride(1) == 1)
    hidden = hidden.unflatten(0, (x.shape[0], math.prod(extra))) * gates.unsqueeze(1)
    hidden = hidden.flatten(0, 1).to(x.dtype)
    if structure.u is None:
        y = hidden
    elif axes.out_kernel_size == axes.out_stride == 1 and axes.out_border == 0:
        y = F.conv2d(hidden, structure.u.to(x.dtype)[..., None, None])
    else:
        f = axes.out_kernel_size
        u = structure.u.to(x.dtype).mT.unflatten(1, (-1, f, f))
        y = F.conv_transpose2d(hidden, u, stride=axes.out_stride, padding=axes.out_border)
    return y.reshape(x.shape[0], *extra, *y.shape[1:])


def _gated_sum(structure: Gated, axes: Patches, code: Tensor | Upsampled, x: Tensor, per_frame: bool) -> Tensor:
    """One output channel: conv(V), then a sum over the hidden maps with gates interpolated on the way."""
    if per_frame:
        return _frame_by_frame(_gated_sum, structure, axes, code, x)
    u = cast(Tensor, structure.u)[0, :, None, None]
    small = code if isinstance(code, Upsampled) else Upsampled(code, 1, (x.shape[-2], x.shape[-1]))
    # A low-precision code does not round U.
    code = _side_by_side(small.code, torch.promote_types(small.code.dtype, u.dtype))
    gates = (code * u).unflatten(1, (-1, 1, 1))
    # Image by image: less is held, and maps that lie together are read faster.
    images = [x] if x.ndim == 4 else x.unbind(1)
    maps = [_hidden(structure, axes, one, side_by_side=True) for one in images]
    sums = [local_conv(one, gates, upsample=small.factor, rule=small.rule) for one in maps]
    return (sums[0] if x.ndim == 4 else torch.stack(sums, 1)).to(x.dtype)


def _hidden(
    structure: Gated, axes: Patches, images: Float[Tensor, "b c h w"], *, side_by_side: bool
) -> Float[Tensor, "b m y x"]:
    filters: Any = structure.v
    v = filters.unflatten(1, (images.shape[1], axes.kernel_size, axes.kernel_size)).to(images.dtype)
    padded, border = (images, axes.border) if axes.padding_mode == "zeros" else (axes.pad(images), 0)
    # As the gates lie, so that both are read in one order; the maps of a pixel side by side are also convolved faster.
    ordered = _side_by_side(padded, padded.dtype) if side_by_side else padded.contiguous()
    return F.conv2d(ordered, v, stride=axes.stride, padding=border)


def _side_by_side(x: Float[Tensor, "b c h w"], dtype: torch.dtype) -> Float[Tensor, "b c h w"]:
    """The numbers of a pixel side by side in memory; under vmap, where tensors have more axes, as they lie."""
    transformed = torch._C._are_functorch_transforms_active()
    return x.to(dtype) if transformed else x.to(dtype, memory_format=torch.channels_last)


def _frame_by_frame(product: Callable[..., Tensor], structure: Gated, axes: Patches, code: Code, x: Tensor) -> Tensor:
    """Each index of axis -3 alone, stacked on -4."""
    alone = torch.eye(x.shape[-3], dtype=x.dtype, device=x.device)[:, :, None, None]
    return torch.stack([product(structure, axes, code, x * mask, False) for mask in alone], dim=-4)


def _gates_fit(structure: Gated, axes: Patches, code: Tensor | Upsampled, x: Tensor) -> bool:
    # With u the identity and output patches, the hidden maps would be patches themselves: nothing is gained.
    return structure.v is not None and (structure.u is not None or axes.out_kernel_size == 1)


def _gates_add_up(structure: Gated, axes: Patches, code: Tensor | Upsampled, x: Tensor) -> bool:
    # Where every map has its own plane and nothing is interpolated, multiplying whole maps is faster.
    one = structure.v is not None and structure.u is not None and structure.out_features == 1
    together = isinstance(code, Upsampled) or (isinstance(code, Tensor) and code.stride(1) == 1)
    return one and together and _is_local(structure, axes, code, x)


def _one_weight_an_image(structure: Structure, axes: Patches, code: Code, x: Tensor) -> bool:
    parts = code if isinstance(code, tuple) else (code,)
    sizes = [part.vertical.shape if isinstance(part, Separable) else cast(Tensor, part).shape for part in parts]
    # ONNX has no number of groups that follows the batch, and no convolution has none.
    grouped = not torch.onnx.is_in_onnx_export() and x.shape[0] > 0
    # Of a pair (P, Q) only Q makes filters; P may be local.
    return grouped and axes.out_kernel_size == 1 and sizes[-1][-2:] == (1, 1)


def _is_basis(structure: Outer, axes: Patches, code: tuple[Tensor, Tensor], x: Tensor) -> bool:
    return structure.f is None and _one_weight_an_image(structure, axes, code, x)


def _shared_product(
    structure: Direct | Mixture, axes: Patches, code: Tensor | Separable, x: Tensor, per_frame: bool
) -> Tensor:
    """One kernel an image: formed once, then a grouped convolution."""
    weight = structure.materialize(cast(Tensor, dense(code))[..., 0, 0])
    return _filtered(weight, axes, x, per_frame)


def _basis_product(structure: Outer, axes: Patches, code: tuple[Tensor, Tensor], x: Tensor, per_frame: bool) -> Tensor:
    """The basis as filters of each image, then a sum over the basis with the coefficients of each pixel."""
    p, q = (part.unflatten(1, (-1, structure.rank)) for part in code)
    hidden = _filtered(q[..., 0, 0].mT, axes, x, per_frame)  # (B, *e, (t,) r, h, w)
    p = p.reshape(p.shape[0], *(1,) * (hidden.ndim - 4), *p.shape[1:])
    dtype = torch.promote_types(p.dtype, hidden.dtype)
    return torch.einsum("...jrhw,...rhw->...jhw", p.to(dtype), hidden.to(dtype)).to(x.dtype)


def _filtered(weight: Tensor, axes: Patches, x: Tensor, per_frame: bool) -> Tensor:
    """x, with its borders, filtered by (B, j, i); with per_frame=True each index of axis -3 alone, stacked on -4."""
    dtype = torch.promote_types(weight.dtype, x.dtype)
    kernels = weight.to(dtype).unflatten(-1, (x.shape[-3], axes.kernel_size, axes.kernel_size))
    padded = axes.pad(x.reshape(-1, *x.shape[-3:])).to(dtype)
    padded = padded.reshape(*x.shape[:-2], *padded.shape[-2:])
    if not per_frame:
        return shared_conv(padded, kernels, stride=axes.stride).to(x.dtype)
    pairs = zip(padded.split(1, -3), kernels.split(1, 2), strict=True)
    each = [shared_conv(frame, kernel, stride=axes.stride) for frame, kernel in pairs]
    return torch.stack(each, dim=-4).to(x.dtype)


def _is_separable(structure: Direct, axes: Patches, code: Separable, x: Tensor) -> bool:
    return (
        axes.stride == axes.out_kernel_size == 1
        and structure.out_features == 1
        and axes.positions(*x.shape[-2:]) == tuple(code.vertical.shape[-2:])
    )


def _separable_product(structure: Direct, axes: Patches, code: Separable, x: Tensor, per_frame: bool) -> Tensor:
    """Pairs of one-dimensional kernels, applied one tap after another."""
    dtype = torch.promote_types(code.vertical.dtype, x.dtype)
    padded = axes.pad(x.reshape(-1, *x.shape[-3:])).to(dtype)
    padded = padded.reshape(*x.shape[:-2], *padded.shape[-2:])
    kernels = (part.unflatten(1, (code.frames, -1)).to(dtype) for part in (code.vertical, code.horizontal))
    y = separable_conv(padded, *kernels)  # (B, *e, t, h, w)
    return (y.unsqueeze(-3) if per_frame else y.sum(-3, keepdim=True)).to(x.dtype)


def _is_softmax_attention(structure: Outer, axes: Sequence, code: tuple[Tensor, Tensor], x: Tensor) -> bool:
    # Codes that differ between the channels of x are no attention.
    return structure.f is softmax and all(part.ndim < x.ndim for part in code)


def _attention_product(
    structure: Outer, axes: Sequence, code: tuple[Tensor, Tensor], x: Tensor, per_frame: bool
) -> Tensor:
    """Attention without its matrix of scores, by torch's own operation."""
    if per_frame:
        return plain(structure, axes, code, x, per_frame)  # says why not
    dtype = torch.promote_types(torch.promote_types(code[0].dtype, code[1].dtype), x.dtype)
    # Aligned codes have an axis of length 1 for x's channels; here they stand last.
    p, q = (axes.align(part, x)[..., 0, :].unflatten(-1, (-1, structure.rank)).to(dtype) for part in code)
    # The operation that holds no scores takes four axes, and one width for codes and x; zeros add nothing.
    width = max(structure.rank, x.shape[-1])
    p, q, wide = (
        F.pad(part.expand(*x.shape[:-2], *part.shape[-2:]), (0, width - part.shape[-1])).reshape(
            -1, 1, part.shape[-2], width
        )
        for part in (p, q, x.to(dtype))
    )
    y = F.scaled_dot_product_attention(p, q, wide, scale=1.0)[..., : x.shape[-1]]
    # On the CPU it makes zeros of scores that are not a number.
    y = y + (0 * p).sum(-1, keepdim=True) + (0 * q).sum((-1, -2), keepdim=True)
    return y.reshape(*x.shape[:-2], *y.shape[-2:]).to(x.dtype)


TABLE = (
    Row("local_conv", Direct, Patches, (Tensor, Upsampled), _is_local, _local_product),
    Row("head, local_conv", Mixture, Patches, (Tensor, Upsampled), _is_local, _mixture_product),
    Row("conv, local_conv", Gated, Patches, (Tensor, Upsampled), _gates_add_up, _gated_sum),
    Row("conv, multiply, conv", Gated, Patches, (Tensor, Upsampled), _gates_fit, _gated_product),
    Row("shared_conv", Direct, Patches, (Tensor, Separable), _one_weight_an_image, _shared_product),
    Row("mixed kernel, shared_conv", Mixture, Patches, (Tensor,), _one_weight_an_image, _shared_product),
    Row("basis, shared_conv, sum", Outer, Patches, (tuple,), _is_basis, _basis_product),
    Row("separable_conv", Direct, Patches, (Separable,), _is_separable, _separable_product),
    Row("scaled dot-product attention", Outer, Sequence, (tuple,), _is_softmax_attention, _attention_product),
)
