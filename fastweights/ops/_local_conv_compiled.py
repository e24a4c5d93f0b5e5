"""The loops of `local_conv` on a CPU, compiled by numba on first use.

Arrays come flat, with sizes and strides, so that any memory format is read where it lies; bfloat16 comes as uint16.
Offsets are unsigned, which spares the test for negative indices and lets every inner loop become vector instructions.
A loop works on rows start..stop of one image, releases the GIL, and no other call writes its rows, so that a result
does not depend on the number of threads.

`phases[p]` holds the weights of the coarse columns (or rows) m - 1, m and m + 1 for the fine pixel s * m + p. Rows of
frames and results are held phase by phase, (s, columns): a coarse kernel row then meets them without any shuffling.

All in one file: numba's cache notices a change in the file of the loop that is called, not in others it uses.
"""

import inspect

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

U = np.uint64
_PIECE = 256  # bytes
# between rows of kernels that are used together: more than a tile, and no multiple of a page
_ROOM = 2112


def compiled(function):
    """The function as machine code, kept on disk where that is possible."""
    # pytest wraps every function to check shapes, which numba cannot compile
    plain = inspect.unwrap(function)
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    try:
        return njit(plain, cache=True, **options)
    except RuntimeError:  # no folder that it may write to
        return njit(plain, **options)


def _value(stored):
    """The number behind a stored one: bfloat16 is the upper half of a float32."""
    raise NotImplementedError


def _rounded(number, array):
    """The number as the array stores it, bfloat16 rounded to the nearest, ties to even."""
    raise NotImplementedError


@overload(_value)
def _typed_value(stored):
    if stored == types.uint16:
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@overload(_rounded)
def _typed_rounded(number, array):
    if array.dtype == types.uint16:
        return lambda number, array: _upper_half(number)
    return lambda number, array: number


@compiled
def _upper_half(number):
    bits = np.float32(number).view(np.uint32)
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    upper = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
    return upper if number == number else np.uint16(0x7FC0)


@compiled
def _copy(to, o, to_step, source, a, step, n):
    """to[o + to_step x] = source[a + step x], as the array stores it"""
    o, a, p, q = U(o), U(a), U(to_step), U(step)
    if p == U(1) and q == U(1):
        for x in range(U(max(n, 0))):
            to[o + x] = _rounded(source[a + x], to)
    else:
        for x in range(U(max(n, 0))):
            to[o + x * p] = _rounded(source[a + x * q], to)


@compiled
def _add(to, o, a_array, a, b_array, b, n):
    """to[o + x] += a_array[a + x] * b_array[b + x]"""
    o, a, b = U(o), U(a), U(b)
    for x in range(U(n)):
        to[o + x] += _value(a_array[a + x]) * b_array[b + x]


@compiled
def _scale(to, o, source, a, factor, n):
    o, a = U(o), U(a)
    for x in range(U(n)):
        to[o + x] = factor * source[a + x]


@compiled
def _mix(to, o, source, a, b, step, weights, n):
    """to[o + x] = the weighted sum of source[a + step x] and source[b + step x]"""
    o, a, b, step = U(o), U(a), U(b), U(step)
    weight_a, weight_b = weights
    if weight_b == 0:
        for x in range(U(n)):
            to[o + x] = weight_a * _value(source[a + x * step])
    elif step == U(1):
        for x in range(U(n)):
            to[o + x] = weight_a * _value(source[a + x]) + weight_b * _value(source[b + x])
    else:
        for x in range(U(n)):
            to[o + x] = weight_a * _value(source[a + x * step]) + weight_b * _value(source[b + x * step])


@compiled
def _window(frames, plane, planes, size, corner, rows, columns, s, replicate):
    """A tile of `planes` images and its border, from the corner (y, x) on: (planes, rows, s, columns)."""
    high, wide = size
    top, left = corner
    tile = np.empty(planes * rows * s * columns, frames.dtype)
    first = min(max(0, -left), s * columns)
    last = max(first, min(s * columns, wide - left))
    for n in range(planes):
        for row in range(rows):
            y = min(max(top + row, 0), high - 1)
            source = ((plane + n) * high + y) * wide
            target = (n * rows + row) * s * columns
            if y != top + row and not replicate:
                tile[target : target + s * columns] = 0
                continue
            for p in range(s):
                j0, j1 = (first - p + s - 1) // s, (last - p + s - 1) // s
                _copy(tile, target + p * columns + j0, 1, frames, source + left + s * j0 + p, s, j1 - j0)
            for q in range(first):
                tile[target + q % s * columns + q // s] = frames[source] if replicate else 0
            for q in range(last, s * columns):
                tile[target + q % s * columns + q // s] = frames[source + wide - 1] if replicate else 0
    return tile


@compiled
def _neighbours(y, s, h, phases):
    """The two coarse rows that the fine row y lies between, and their weights."""
    m, p = y // s, y % s
    if phases[p, 0] != 0:
        return m, max(m - 1, 0), (phases[p, 1], phases[p, 0])
    return m, min(m + 1, h - 1), (phases[p, 1], phases[p, 2])


@compiled
def _coarse_row(coarse, o, flat, plane, steps, y, size, first, n, phases):
    """coarse[o : o + n + 2] = columns first - 1 ... first + n of a kernel plane at the fine row y, ends repeated."""
    sy, sx = steps
    h, w = size
    a, b, weights = _neighbours(y, len(phases), h, phases)
    a, b = plane + a * sy, plane + b * sy
    _mix(coarse, o + 1, flat, a + first * sx, b + first * sx, sx, weights, n)
    for end, column in ((o, max(first - 1, 0)), (o + n + 1, min(first + n, w - 1))):
        c = U(column * sx)
        coarse[end] = weights[0] * _value(flat[U(a) + c]) + weights[1] * _value(flat[U(b) + c])


@compiled
def _columns_of(p, phases):
    """Where the two columns begin that a phase lies between, in a row of `_coarse_row`, and their weights."""
    if phases[p, 0] != 0:
        return 0, (phases[p, 0], phases[p, 1])
    return 1, (phases[p, 1], phases[p, 2])


@intrinsic
def _prefetch(typing_context, array, at):
    """Asks for the cache line of array[at], which may lie beyond its end."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(call, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, at), generate


@compiled
def _add5(to, o, flat, a, step, frame, f, n):
    """Five taps of a row at once: the sum is loaded and stored once for them."""
    # short pieces, and the memory of the rows to come asked for ahead: five streams at once outrun the hardware's guess
    line = U(64 // flat.itemsize)
    ahead = U(1024 // flat.itemsize)
    most = _PIECE // flat.itemsize
    for piece in range(0, n, most):
        length = min(most, n - piece)
        start = U(a + piece)
        for x in range(U(0), U(length), line):
            for v in range(5):
                _prefetch(flat, start + U(v * step) + ahead + x)
        _add5_piece(to, o + piece, flat, a + piece, step, frame, f + piece, length)


@compiled
def _add5_piece(to, o, flat, a, step, frame, f, n):
    o, f = U(o), U(f)
    a0, a1, a2, a3, a4 = U(a), U(a + step), U(a + 2 * step), U(a + 3 * step), U(a + 4 * step)
    for x in range(U(n)):
        left = _value(flat[a0 + x]) * frame[f + x] + _value(flat[a1 + x]) * frame[f + x + U(1)]
        right = _value(flat[a3 + x]) * frame[f + x + U(3)] + _value(flat[a4 + x]) * frame[f + x + U(4)]
        to[o + x] += left + right + _value(flat[a2 + x]) * frame[f + x + U(2)]


@compiled
def _add5_rows(to, o, kernels, a, frame, f, n):
    """Five taps of a row at once, from rows of kernels that lie a known distance apart."""
    o, a, f0, f1, f2, f3, f4 = U(o), U(a), U(f[0]), U(f[1]), U(f[2]), U(f[3]), U(f[4])
    for x in range(U(n)):
        left = kernels[a + x] * frame[f0 + x] + kernels[a + x + U(_ROOM)] * frame[f1 + x]
        right = kernels[a + x + U(3 * _ROOM)] * frame[f3 + x] + kernels[a + x + U(4 * _ROOM)] * frame[f4 + x]
        to[o + x] += left + right + kernels[a + x + U(2 * _ROOM)] * frame[f2 + x]


@compiled
def _shift(q, s, columns):
    """Where the column q of a row begins that is held phase by phase."""
    return q % s * columns + q // s


@compiled
def product(out, frames, flat, sizes, strides, phases, replicate, tile, start, stop):
    """Rows of out (B, T or 1, C, H, W)."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    b, top, rows = start // H, start % H, stop - start
    high = rows + K - 1
    coarse = np.empty(tile + 2, out.dtype)
    fine = np.empty(s * 5 * _ROOM, out.dtype)
    for j in range(0, w, tile):
        n = min(tile, w - j)
        columns = n + (s + K - 2) // s
        corner = (top - K // 2, j * s - K // 2)
        pad = _window(frames, b * T * C, T * C, (H, W), corner, high, columns, s, replicate)
        total = np.zeros(C * rows * s * n, out.dtype)
        for t in range(T):
            for u in range(K):
                plane = b * sb + t * st + u * su
                v = 0
                while v < K:
                    together = 5 if v + 5 <= K else 1
                    for row in range(rows):
                        at = plane + v * sv + (top + row) * sy + j
                        if s > 1 or sx != 1:
                            for q in range(together):
                                tap = plane + (v + q) * sv
                                _coarse_row(coarse, 0, flat, tap, (sy, sx), top + row, (h, w), j, n, phases)
                                for p in range(s):
                                    a, weights = _columns_of(p, phases)
                                    _mix(fine, (p * 5 + q) * _ROOM, coarse, a, a + 1, 1, weights, n)
                        for c in range(C):
                            o = (c * rows + row) * s * n
                            f = ((t * C + c) * high + row + u) * s * columns
                            if s == 1 and sx == 1 and together == 5:
                                _add5(total, o, flat, at, sv, pad, f + v, n)
                            elif s == 1 and sx == 1:
                                _add(total, o, flat, at, pad, f + v, n)
                            else:
                                for p in range(s):
                                    f0 = f + _shift(p + v, s, columns)
                                    if together == 1:
                                        _add(total, o + p * n, fine, p * 5 * _ROOM, pad, f0, n)
                                        continue
                                    f1, f2 = f + _shift(p + v + 1, s, columns), f + _shift(p + v + 2, s, columns)
                                    f3, f4 = f + _shift(p + v + 3, s, columns), f + _shift(p + v + 4, s, columns)
                                    places = (f0, f1, f2, f3, f4)
                                    _add5_rows(total, o + p * n, fine, p * 5 * _ROOM, pad, places, n)
                    v += together
            if kept > 1 or t == T - 1:
                for c in range(C):
                    for row in range(rows):
                        o = (((b * kept + t % kept) * C + c) * H + top + row) * W + j * s
                        for p in range(s):
                            length = (min(W - j * s, n * s) - p + s - 1) // s
                            _copy(out, o + p, s, total, ((c * rows + row) * s + p) * n, 1, length)
                total[:] = 0


@compiled
def to_frames(out, grad, flat, sizes, strides, phases, tile, start, stop):
    """Rows of the gradient of the frames with their border: (B, T, C, H + K - 1, s * columns)."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    full = H + K - 1
    b, top, rows = start // full, start % full, stop - start
    high = rows + K - 1
    columns = w + (s + K - 2) // s
    coarse, fine = np.empty(tile + 2, out.dtype), np.empty(tile, out.dtype)
    total = np.zeros(C * rows * s * columns, out.dtype)
    for t in range(T):
        pad = _window(grad, (b * kept + t % kept) * C, C, (H, W), (top - K + 1, 0), high, w, s, False)
        for j in range(0, w, tile):
            n = min(tile, w - j)
            for u in range(K):
                for v in range(K):
                    plane = b * sb + t * st + u * su + v * sv
                    for row in range(max(0, u - top), min(rows, H + u - top)):
                        y = top + row - u
                        _coarse_row(coarse, 0, flat, plane, (sy, sx), y, (h, w), j, n, phases)
                        for p in range(s):
                            a, weights = _columns_of(p, phases)
                            _mix(fine, 0, coarse, a, a + 1, 1, weights, n)
                            for c in range(C):
                                o = (c * rows + row) * s * columns + _shift(p + v, s, columns) + j
                                g = ((c * high + row + K - 1 - u) * s + p) * w + j
                                _add(total, o, fine, 0, pad, g, n)
        for c in range(C):
            for row in range(rows):
                o = (((b * T + t) * C + c) * full + top + row) * s * columns
                for p in range(s):
                    _copy(out, o + p, s, total, ((c * rows + row) * s + p) * columns, 1, columns)
        total[:] = 0


@compiled
def _add4(to, o, grad, g, step, frame, f, n):
    """Four rows of products at once."""
    o, f0, f1, f2, f3 = U(o), U(f[0]), U(f[1]), U(f[2]), U(f[3])
    g0, g1, g2, g3 = U(g), U(g + step), U(g + 2 * step), U(g + 3 * step)
    for x in range(U(n)):
        left = grad[g0 + x] * frame[f0 + x] + grad[g1 + x] * frame[f1 + x]
        to[o + x] += left + grad[g2 + x] * frame[f2 + x] + grad[g3 + x] * frame[f3 + x]


@compiled
def _row_weight(i, y, s, h, phases):
    """How much of the coarse row i is in the fine row y."""
    m, p = y // s, y % s
    weight = phases[p, 1 + i - m]
    if m == i and i == 0:
        weight += phases[p, 0]
    if m == i and i == h - 1:
        weight += phases[p, 2]
    return weight


@compiled
def _narrow(row, products, phases, room, n, first, last):
    """The transpose of widening a row, which may begin or end a line; products (s, room) begin one column before."""
    row[:n] = 0
    for p in range(len(phases)):
        before, here, after = phases[p, 2], phases[p, 1], phases[p, 0]
        a = U(p * room)
        for x in range(U(n)):
            row[x] += before * products[a + x] + here * products[a + x + U(1)] + after * products[a + x + U(2)]
        if first:
            row[0] += after * products[p * room + 1]
        if last:
            row[n - 1] += before * products[p * room + n]


@compiled
def to_kernels(flat, grad, frames, sizes, strides, phases, replicate, tile, start, stop):
    """Rows of the gradient of the kernels, each number written once."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    b, i0, i1 = start // h, start % h, start % h + stop - start
    # fine rows, and coarse columns, that the tile has a share in
    margin = 1 if s > 1 else 0
    top = max(0, (i0 - margin) * s)
    high = min(H, (i1 + margin) * s) - top + K - 1
    row = np.empty(tile, frames.dtype)
    starts = np.empty(3 * s * C + 3, np.int64)
    for j in range(0, w, tile):
        n = min(tile, w - j)
        room = n + 2 * margin
        left = (j - margin) * s
        columns = room + (s + K - 2) // s
        line = s * columns
        pad = _window(frames, b * T * C, T * C, (H, W), (top - K // 2, left - K // 2), high, columns, s, replicate)
        products = np.empty(s * room, frames.dtype)
        weighted = np.empty(3 * s * C * s * room, frames.dtype)
        for i in range(i0, i1):
            for t in range(T):
                if t == 0 or kept > 1:
                    m = 0
                    for y in range(max(0, (i - margin) * s), min(H, (i + 1 + margin) * s)):
                        weight = _row_weight(i, y, s, h, phases)
                        if weight != 0:
                            plane = (b * kept + t % kept) * C
                            part = _window(grad, plane, C, (H, W), (y, left), 1, room, s, False)
                            _scale(weighted, m * s * room, part, 0, weight, C * s * room)
                            for c in range(C):
                                starts[m + c] = (c * high + y - top) * line
                            m += C
                for u in range(K):
                    for v in range(K):
                        products[:] = 0
                        for p in range(s):
                            f = (t * C * high + u) * line + (p + v) % s * columns + (p + v) // s
                            q = 0
                            while q < m:
                                g = (q * s + p) * room
                                if q + 4 <= m:
                                    f4 = (f + starts[q], f + starts[q + 1], f + starts[q + 2], f + starts[q + 3])
                                    _add4(products, p * room, weighted, g, s * room, pad, f4, room)
                                    q += 4
                                else:
                                    _add(products, p * room, weighted, g, pad, f + starts[q], room)
                                    q += 1
                        at = b * sb + t * st + u * su + v * sv + i * sy + j * sx
                        if s == 1:
                            _copy(flat, at, sx, products, 0, 1, n)
                        else:
                            _narrow(row, products, phases, room, n, j == 0, j + n == w)
                            _copy(flat, at, sx, row, 0, 1, n)


@intrinsic
def _move8(typing_context, to, o, source, a):
    """to[o : o + 8] = source[a : a + 8], of one dtype"""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), 8).as_pointer()
        places = []
        for n in (0, 2):
            array = context.make_array(signature.args[n])(context, builder, arguments[n])
            places.append(builder.bitcast(builder.gep(array.data, [arguments[n + 1]]), vector))
        size = signature.args[0].dtype.bitwidth // 8
        builder.store(builder.load(places[1], align=size), places[0], align=size)
        return context.get_dummy_value()

    return types.void(to, o, source, a), generate


@compiled
def _gather(patch, pad, f, plane, columns, T, K):
    """patch = the window that begins at f, in the order (t, u, v); it has room for eight numbers more."""
    o = U(0)
    for t in range(T):
        row = U(f) + U(t) * U(plane)
        for _ in range(K):
            for v in range(U(0), U(K), U(8)):
                _move8(patch, o + v, pad, row + v)
            o += U(K)
            row += U(columns)


@compiled
def _dot(kernel, a, patch, o, n):
    a, o = U(a), U(o)
    total = patch.dtype.type(0)
    for i in range(U(n)):
        total += _value(kernel[a + i]) * patch[o + i]
    return total


@compiled
def product_of_neighbours(out, frames, flat, sizes, strides, phases, replicate, tile, start, stop):
    """`product` for kernels whose taps lie side by side, as channels_last convolutions leave them.

    The window around a pixel is brought into the order of its taps, which then come in one run through memory.
    """
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, sy, sx = strides[0], strides[4], strides[5]
    taps = T * K * K
    part = taps // kept
    b, top, rows = start // H, start % H, stop - start
    high = rows + K - 1
    patch = np.empty(taps + 8, out.dtype)
    kernel = np.empty(taps, out.dtype)
    mixed = np.empty((tile + 2) * taps, out.dtype)
    for j in range(0, w, tile):
        n = min(tile, w - j)
        x0, x1 = j * s, min(W, (j + n) * s)
        columns = x1 - x0 + K - 1 + 8
        corner = (top - K // 2, x0 - K // 2)
        pad = _window(frames, b * T * C, T * C, (H, W), corner, high, columns, 1, replicate)
        for y in range(top, top + rows):
            if s > 1:
                a, z, weights = _neighbours(y, s, h, phases)
                for i in range(n + 2):
                    at = b * sb + min(max(j - 1 + i, 0), w - 1) * sx
                    _mix(mixed, i * taps, flat, at + a * sy, at + z * sy, 1, weights, taps)
            for x in range(x0, x1):
                if s > 1:
                    a, weights = _columns_of(x % s, phases)
                    a = (x // s - j + a) * taps
                    _mix(kernel, 0, mixed, a, a + taps, 1, weights, taps)
                for c in range(C):
                    _gather(patch, pad, (c * high + y - top) * columns + x - x0, C * high * columns, columns, T, K)
                    for t in range(kept):
                        o = (((b * kept + t) * C + c) * H + y) * W + x
                        if s > 1:
                            out[o] = _dot(kernel, t * part, patch, t * part, part)
                        else:
                            out[o] = _dot(flat, b * sb + y * sy + x * sx + t * part, patch, t * part, part)


@compiled
def _dot_between(frames, f, mixed, a, weights, n):
    """The dot product with the weighted sum of two neighbours in a row of mixed codes."""
    f, a, z = U(f), U(a), U(a + n)
    weight_a, weight_z = weights
    total = mixed.dtype.type(0)
    for t in range(U(n)):
        total += _value(frames[f + t]) * (weight_a * mixed[a + t] + weight_z * mixed[z + t])
    return total


@compiled
def sum_of_maps(out, frames, flat, sizes, steps, strides, phases, start, stop):
    """`product` with one tap and one sum, for frames and kernels whose T numbers of a pixel lie side by side."""
    T, C, H, W = sizes[:4]
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    step_b, step_c, step_y, step_x = steps[0], steps[2], steps[3], steps[4]
    sb, sy, sx = strides[0], strides[4], strides[5]
    b, top = start // H, start % H
    mixed = np.empty((w + 2) * T, out.dtype)
    for y in range(top, top + stop - start):
        a, z, weights = _neighbours(y, s, h, phases)
        for i in range(w + 2):
            at = b * sb + min(max(i - 1, 0), w - 1) * sx
            _mix(mixed, i * T, flat, at + a * sy, at + z * sy, 1, weights, T)
        for c in range(C):
            o = ((b * C + c) * H + y) * W
            f = b * step_b + c * step_c + y * step_y
            for x in range(W):
                first, weights = _columns_of(x % s, phases)
                out[o + x] = _dot_between(frames, f + x * step_x, mixed, (x // s + first) * T, weights, T)
