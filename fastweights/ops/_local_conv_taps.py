"""The loop of `local_conv` on a CPU for kernels whose taps lie side by side, as channels_last convolutions leave them.

For each pixel the window of the frames is brought into the order of the taps, eight numbers at a time; a kernel then
meets it in one run through memory. What holds for `_local_conv_planes` about arrays, rows and phases holds here.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastweights.ops._local_conv_planes import compiled, neighbours, value, window

U = np.uint64
_LANES = 8


def _vector(context, builder, array_type, array, at):
    """A pointer to eight numbers of an array, their type, and the alignment that holds anywhere."""
    number = context.get_data_type(array_type.dtype)
    pointer = builder.gep(context.make_array(array_type)(context, builder, array).data, [at])
    vector = ir.VectorType(number, _LANES)
    return builder.bitcast(pointer, vector.as_pointer()), vector, array_type.dtype.bitwidth // 8


@intrinsic
def _move8(typing_context, to, o, source, a):
    """to[o : o + 8] = source[a : a + 8]"""

    def generate(context, builder, signature, arguments):
        target, _, size = _vector(context, builder, signature.args[0], *arguments[:2])
        origin, _, _ = _vector(context, builder, signature.args[2], *arguments[2:])
        builder.store(builder.load(origin, align=size), target, align=size)
        return context.get_dummy_value()

    return types.void(to, o, source, a), generate


@compiled
def _gather(patch, pad, f, plane, columns, T, K):
    """patch = the window that begins at f, in the order (t, u, v); it has room for eight numbers more."""
    o = U(0)
    step, line = U(plane), U(columns)
    for t in range(T):
        row = U(f) + U(t) * step
        for _u in range(K):
            for v in range(U(0), U(K), U(8)):
                _move8(patch, o + v, pad, row + v)
            o += U(K)
            row += line


@compiled
def _dot(kernel, a, patch, o, n):
    a, o = U(a), U(o)
    total = patch.dtype.type(0)
    for i in range(U(n)):
        total += value(kernel[a + i]) * patch[o + i]
    return total


@compiled
def _mix(to, o, source, a, weight_a, b, weight_b, n):
    o, a, b = U(o), U(a), U(b)
    for i in range(U(n)):
        to[o + i] = weight_a * value(source[a + i]) + weight_b * value(source[b + i])


@compiled
def _mixed_rows(mixed, flat, at, sy, sx, y, s, h, first, n, w, taps, phases):
    """The kernels of the fine row y, for the coarse columns first - 1 ... first + n, ends repeated."""
    a, b, weight_a, weight_b = neighbours(y, s, h, phases)
    for j in range(n + 2):
        column = at + min(max(first - 1 + j, 0), w - 1) * sx
        _mix(mixed, j * taps, flat, column + a * sy, weight_a, column + b * sy, weight_b, taps)


@compiled
def _between(kernel, mixed, x, s, taps, phases):
    """kernel = the one at the fine column x of a tile of mixed rows."""
    m, p = x // s, x % s
    before = 0 if phases[p, 0] != 0 else 1
    o = (m + before) * taps
    _mix(kernel, 0, mixed, o, phases[p, before], o + taps, phases[p, before + 1], taps)


@compiled
def product(out, frames, flat, sizes, strides, phases, replicate, tile, start, stop):
    """Rows of out (B, T or 1, C, H, W)."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, sy, sx = strides[0], strides[4], strides[5]
    r, taps = K // 2, T * K * K
    part = taps // kept
    b, top = start // H, start % H
    rows = stop - start + 2 * r
    patch = np.empty(taps + 8, out.dtype)
    kernel = np.empty(taps, out.dtype)
    mixed = np.empty((tile + 2) * taps if s > 1 else 0, out.dtype)
    for j in range(0, w, tile):
        n = min(tile, w - j)
        x0, x1 = j * s, min(W, (j + n) * s)
        columns = x1 - x0 + 2 * r + 8
        pad = window(frames, b * T * C, T * C, (H, W), top - r, rows, x0 - r, columns, 1, replicate)
        for y in range(top, top + stop - start):
            if s > 1:
                _mixed_rows(mixed, flat, b * sb, sy, sx, y, s, h, j, n, w, taps, phases)
            for x in range(x0, x1):
                if s > 1:
                    _between(kernel, mixed, x - x0, s, taps, phases)
                for c in range(C):
                    _gather(patch, pad, (c * rows + y - top) * columns + x - x0, C * rows * columns, columns, T, K)
                    for t in range(kept):
                        o = (((b * kept + t) * C + c) * H + y) * W + x
                        if s > 1:
                            out[o] = _dot(kernel, t * part, patch, t * part, part)
                        else:
                            out[o] = _dot(flat, b * sb + y * sy + x * sx + t * part, patch, t * part, part)
