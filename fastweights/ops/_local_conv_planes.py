"""The loops of `local_conv` on a CPU for kernels in planes (or any strides), compiled by numba on first use.

Arrays come flat, with sizes and strides, so that any memory format is read where it lies; bfloat16 comes as uint16.
Offsets are unsigned, which spares the test for negative indices and lets every inner loop become vector instructions.
A loop works on rows start..stop of one image, releases the GIL, and no other call writes its rows, so that a result
does not depend on the number of threads.

`phases[p]` holds the weights of the coarse columns (or rows) m - 1, m and m + 1 for the fine pixel s * m + p. Rows of
frames and results are held phase by phase, (s, columns): a coarse kernel row then meets them without any shuffling.
"""

import inspect

import numpy as np
from numba import njit, types
from numba.extending import overload

U = np.uint64


def compiled(function):
    # pytest wraps every function to check shapes, which numba cannot compile
    plain = inspect.unwrap(function)
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    try:
        return njit(plain, cache=True, **options)
    except RuntimeError:  # numba found no folder it may write its cache to
        return njit(plain, **options)


def value(stored):
    """The number behind a stored one: bfloat16 is the upper half of a float32."""
    raise NotImplementedError


def rounded(number, array):
    """The number as the array stores it, bfloat16 rounded to the nearest, ties to even."""
    raise NotImplementedError


@overload(value, inline="always")
def _value(stored):
    if stored == types.uint16:
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@overload(rounded, inline="always")
def _rounded(number, array):
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
def window(frames, plane, planes, size, top, rows, left, columns, s, replicate):
    """A tile of `planes` images with its border: (planes, rows, s, columns), row 0 at y = top, column 0 at x = left."""
    high, wide = size
    tile = np.zeros(planes * rows * s * columns, frames.dtype)
    first = min(max(0, -left), s * columns)
    last = max(first, min(s * columns, wide - left))
    for n in range(planes):
        for row in range(rows):
            y = top + row
            if y < 0 or y >= high:
                if not replicate:
                    continue
                y = min(max(y, 0), high - 1)
            source = ((plane + n) * high + y) * wide
            target = (n * rows + row) * s * columns
            for p in range(s):
                j0 = (first - p + s - 1) // s
                j1 = (last - p + s - 1) // s
                _copy(tile, target + p * columns + j0, 1, frames, source + left + s * j0 + p, s, j1 - j0)
            if replicate:
                for q in range(first):
                    tile[target + q % s * columns + q // s] = frames[source]
                for q in range(last, s * columns):
                    tile[target + q % s * columns + q // s] = frames[source + wide - 1]
    return tile


@compiled
def _copy(to, o, to_step, source, a, step, n):
    o, a = U(o), U(a)
    if to_step == 1 and step == 1:
        for x in range(U(max(n, 0))):
            to[o + x] = source[a + x]
    else:
        p, q = U(to_step), U(step)
        for x in range(U(max(n, 0))):
            to[o + x * p] = source[a + x * q]


@compiled
def _load(coarse, flat, above, below, weight_above, weight_below, step, n):
    """coarse[x] = the kernel row between two stored rows."""
    a, b, step = U(above), U(below), U(step)
    if weight_below == 0:
        if step == U(1):
            for x in range(U(n)):
                coarse[x] = value(flat[a + x])
        else:
            for x in range(U(n)):
                coarse[x] = value(flat[a + x * step])
    elif step == U(1):
        for x in range(U(n)):
            coarse[x] = weight_above * value(flat[a + x]) + weight_below * value(flat[b + x])
    else:
        for x in range(U(n)):
            coarse[x] = weight_above * value(flat[a + x * step]) + weight_below * value(flat[b + x * step])


@compiled
def neighbours(y, s, h, phases):
    """The two coarse rows that the fine row y lies between, and their weights."""
    m = y // s
    p = y - m * s
    if phases[p, 0] != 0:
        return m, max(m - 1, 0), phases[p, 1], phases[p, 0]
    return m, min(m + 1, h - 1), phases[p, 1], phases[p, 2]


@compiled
def _coarse_row(coarse, flat, plane, sy, sx, y, s, h, w, first, n, phases):
    """coarse[0 : n + 2] = columns first - 1 ... first + n of the kernel plane at the fine row y, ends repeated."""
    a, b, weight_a, weight_b = neighbours(y, s, h, phases)
    a, b = plane + a * sy, plane + b * sy
    left, right = max(first - 1, 0), min(first + n, w - 1)
    _load(coarse, flat, a + left * sx, b + left * sx, weight_a, weight_b, sx, 1)
    _load(coarse[1:], flat, a + first * sx, b + first * sx, weight_a, weight_b, sx, n)
    _load(coarse[n + 1 :], flat, a + right * sx, b + right * sx, weight_a, weight_b, sx, 1)


@compiled
def _add1(out, o, flat, a, frame, f, n):
    o, a, f = U(o), U(a), U(f)
    for x in range(U(n)):
        out[o + x] += value(flat[a + x]) * frame[f + x]


@compiled
def _add5(out, o, flat, a, step, frame, f, n):
    """Five taps of a row at once: the sum is loaded and stored once for them."""
    o, f = U(o), U(f)
    a0, a1, a2, a3, a4 = U(a), U(a + step), U(a + 2 * step), U(a + 3 * step), U(a + 4 * step)
    for x in range(U(n)):
        left = value(flat[a0 + x]) * frame[f + x] + value(flat[a1 + x]) * frame[f + x + U(1)]
        right = value(flat[a3 + x]) * frame[f + x + U(3)] + value(flat[a4 + x]) * frame[f + x + U(4)]
        out[o + x] += left + right + value(flat[a2 + x]) * frame[f + x + U(2)]


@compiled
def _add_between(out, o, coarse, a, weight_a, weight_b, frame, f, n):
    """One phase of a row: the kernel between the columns a and a + 1 times the frame."""
    o, a, f = U(o), U(a), U(f)
    for x in range(U(n)):
        out[o + x] += (weight_a * coarse[a + x] + weight_b * coarse[a + x + U(1)]) * frame[f + x]


@compiled
def product(out, frames, flat, sizes, strides, phases, replicate, tile, start, stop):
    """Rows of out (B, T or 1, C, H, W)."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    r = K // 2
    b, top = start // H, start % H
    rows = stop - start
    coarse = np.empty(tile + 2, out.dtype)
    for j in range(0, w, tile):
        n = min(tile, w - j)
        columns = n + (s + K - 2) // s
        pad = window(frames, b * T * C, T * C, (H, W), top - r, rows + 2 * r, j * s - r, columns, s, replicate)
        total = np.zeros(C * rows * s * n, out.dtype)
        for t in range(T):
            for u in range(K):
                for v in range(0, K, 5):
                    plane = b * sb + t * st + u * su + v * sv
                    for row in range(rows):
                        y = top + row
                        if s == 1 and sx == 1 and v + 5 <= K:
                            for c in range(C):
                                f = ((t * C + c) * (rows + 2 * r) + row + u) * columns + v
                                _add5(total, (c * rows + row) * n, flat, plane + y * sy + j, sv, pad, f, n)
                            continue
                        for q in range(v, min(v + 5, K)):
                            at = plane + (q - v) * sv
                            if s == 1 and sx == 1:
                                for c in range(C):
                                    f = ((t * C + c) * (rows + 2 * r) + row + u) * columns + q
                                    _add1(total, (c * rows + row) * n, flat, at + y * sy + j, pad, f, n)
                                continue
                            _coarse_row(coarse, flat, at, sy, sx, y, s, h, w, j, n, phases)
                            for p in range(s):
                                before = 0 if phases[p, 0] != 0 else 1
                                wa, wb = phases[p, before], phases[p, before + 1]
                                for c in range(C):
                                    f = ((t * C + c) * (rows + 2 * r) + row + u) * s * columns
                                    f += (p + q) % s * columns + (p + q) // s
                                    _add_between(
                                        total, ((c * rows + row) * s + p) * n, coarse, before, wa, wb, pad, f, n
                                    )
            if kept > 1 or t == T - 1:
                for c in range(C):
                    for row in range(rows):
                        o = (((b * kept + (t if kept > 1 else 0)) * C + c) * H + top + row) * W + j * s
                        for p in range(s):
                            _copy(
                                out,
                                o + p,
                                s,
                                total,
                                ((c * rows + row) * s + p) * n,
                                1,
                                (min(W - j * s, n * s) - p + s - 1) // s,
                            )
                total[:] = 0


@compiled
def _scatter(out, o, coarse, a, weight_a, weight_b, grad, g, n):
    o, a, g = U(o), U(a), U(g)
    for x in range(U(n)):
        out[o + x] += (weight_a * coarse[a + x] + weight_b * coarse[a + x + U(1)]) * grad[g + x]


@compiled
def to_frames(out, grad, flat, sizes, strides, phases, tile, start, stop):
    """Rows of the gradient of the frames with their border: (B, T, C, H + 2r, s * columns), r columns on the left."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    r = K // 2
    full = H + 2 * r
    b, top = start // full, start % full
    rows = stop - start
    columns = w + (s + K - 2) // s
    coarse = np.empty(tile + 2, out.dtype)
    total = np.zeros(C * rows * s * columns, out.dtype)
    for t in range(T):
        if t == 0 or kept > 1:
            plane = (b * kept + (t if kept > 1 else 0)) * C
            rest = window(grad, plane, C, (H, W), top - 2 * r, rows + 2 * r, 0, w, s, False)
        for j in range(0, w, tile):
            n = min(tile, w - j)
            for u in range(K):
                for v in range(K):
                    plane = b * sb + t * st + u * su + v * sv
                    for row in range(rows):
                        y = top + row - u
                        if y < 0 or y >= H:
                            continue
                        _coarse_row(coarse, flat, plane, sy, sx, y, s, h, w, j, n, phases)
                        for p in range(s):
                            before = 0 if phases[p, 0] != 0 else 1
                            wa, wb = phases[p, before], phases[p, before + 1]
                            for c in range(C):
                                o = (c * rows + row) * s * columns + (p + v) % s * columns + (p + v) // s + j
                                g = ((c * (rows + 2 * r) + row + 2 * r - u) * s + p) * w + j
                                _scatter(total, o, coarse, before, wa, wb, rest, g, n)
        for c in range(C):
            for row in range(rows):
                o = (((b * T + t) * C + c) * full + top + row) * s * columns
                for p in range(s):
                    _copy(out, o + p, s, total, ((c * rows + row) * s + p) * columns, 1, columns)
        total[:] = 0


@compiled
def _products(out, o, grad, g, frame, f, n):
    o, g, f = U(o), U(g), U(f)
    for x in range(U(n)):
        out[o + x] += grad[g + x] * frame[f + x]


@compiled
def _products4(out, o, grad, g, step, frame, f0, f1, f2, f3, n):
    """Four rows of products at once: the sum is loaded and stored once for them."""
    o, f0, f1, f2, f3 = U(o), U(f0), U(f1), U(f2), U(f3)
    g0, g1, g2, g3 = U(g), U(g + step), U(g + 2 * step), U(g + 3 * step)
    for x in range(U(n)):
        left = grad[g0 + x] * frame[f0 + x] + grad[g1 + x] * frame[f1 + x]
        out[o + x] += left + grad[g2 + x] * frame[f2 + x] + grad[g3 + x] * frame[f3 + x]


@compiled
def _scaled(out, o, source, a, weight, n):
    o, a = U(o), U(a)
    for x in range(U(n)):
        out[o + x] = weight * source[a + x]


@compiled
def _sum_phases(row, products, phases, room, n):
    """The transpose of widening a row: products (s, room) begin one coarse column before the row."""
    for p in range(len(phases)):
        cp, c0, cm = phases[p, 2], phases[p, 1], phases[p, 0]
        a = U(p * room)
        for x in range(U(n)):
            number = cp * products[a + x] + c0 * products[a + x + U(1)] + cm * products[a + x + U(2)]
            row[x] = number if p == 0 else row[x] + number


@compiled
def _put_row(flat, a, step, row, n):
    a = U(a)
    if step == 1:
        for x in range(U(n)):
            flat[a + x] = rounded(row[x], flat)
    else:
        for x in range(U(n)):
            flat[a + x * U(step)] = rounded(row[x], flat)


@compiled
def _row_weight(i, y, s, h, phases):
    """How much of the coarse row i is in the fine row y."""
    m = y // s
    p = y - m * s
    weight = phases[p, 1 + i - m]
    if m == i and i == 0:
        weight += phases[p, 0]
    if m == i and i == h - 1:
        weight += phases[p, 2]
    return weight


@compiled
def to_kernels(flat, grad, frames, sizes, strides, phases, replicate, tile, start, stop):
    """Rows of the gradient of the kernels, each number written once."""
    T, C, H, W, K, kept = sizes
    s = len(phases)
    h, w = (H + s - 1) // s, (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    r = K // 2
    b, i0, i1 = start // h, start % h, start % h + stop - start
    # fine rows, and coarse columns, that the tile has a share in
    margin = 1 if s > 1 else 0
    top, bottom = max(0, (i0 - margin) * s), min(H, (i1 + margin) * s)
    rows = bottom - top + 2 * r
    row = np.empty(tile, frames.dtype)
    for j in range(0, w, tile):
        n = min(tile, w - j)
        room = n + 2 * margin
        columns = room + (s + K - 2) // s
        pad = window(frames, b * T * C, T * C, (H, W), top - r, rows, (j - margin) * s - r, columns, s, replicate)
        products = np.empty(s * room, frames.dtype)
        weighted = np.empty(3 * s * C * s * room, frames.dtype)
        starts = np.empty(3 * s * C, np.int64)
        for i in range(i0, i1):
            for t in range(T):
                if t == 0 or kept > 1:
                    plane = (b * kept + (t if kept > 1 else 0)) * C
                    m = 0
                    for y in range(max(0, (i - margin) * s), min(H, (i + 1 + margin) * s)):
                        weight = _row_weight(i, y, s, h, phases)
                        if weight != 0:
                            part = window(grad, plane, C, (H, W), y, 1, (j - margin) * s, room, s, False)
                            _scaled(weighted, m * s * room, part, 0, weight, C * s * room)
                            for c in range(C):
                                starts[m] = c * rows + y - top
                                m += 1
                for u in range(K):
                    for v in range(K):
                        products[:] = 0
                        for p in range(s):
                            f = ((t * C * rows + u) * s + (p + v) % s) * columns + (p + v) // s
                            line = s * columns
                            q = 0
                            while q + 4 <= m:
                                g = (q * s + p) * room
                                f0, f1 = f + starts[q] * line, f + starts[q + 1] * line
                                f2, f3 = f + starts[q + 2] * line, f + starts[q + 3] * line
                                _products4(products, p * room, weighted, g, s * room, pad, f0, f1, f2, f3, room)
                                q += 4
                            while q < m:
                                _products(
                                    products, p * room, weighted, (q * s + p) * room, pad, f + starts[q] * line, room
                                )
                                q += 1
                        at = b * sb + t * st + u * su + v * sv + i * sy + j * sx
                        if s == 1:
                            _put_row(flat, at, sx, products, n)
                            continue
                        _sum_phases(row, products, phases, room, n)
                        if j == 0:
                            for p in range(s):
                                row[0] += phases[p, 0] * products[p * room + 1]
                        if j + n == w:
                            for p in range(s):
                                row[n - 1] += phases[p, 2] * products[p * room + n]
                        _put_row(flat, at, sx, row, n)
