"""The loops of `local_conv` on a CPU: rows of pixels, one kernel plane after another, compiled by numba on first use.

Kernels come as one flat array with strides, so that any memory format is read where it lies. bfloat16 comes as uint16.
A loop is called for a block of rows and releases the GIL; rows are written by one call only, so results do not depend
on the number of threads. Kernels of the coarse grid are widened row by row: `phases[p]` holds the weights of the coarse
neighbours m - 1, m and m + 1 for the pixel s * m + p.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload


def _compiled(function):
    try:
        return njit(function, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
    except RuntimeError:  # numba found no folder it may write its cache to
        return njit(function, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})


def _value(stored):
    raise NotImplementedError


def _put(row, at, value):
    raise NotImplementedError


@overload(_value, inline="always")
def _value_typed(stored):
    if stored == types.uint16:
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@overload(_put, inline="always")
def _put_typed(row, at, value):
    if row.dtype == types.uint16:

        def put(row, at, value):
            bits = np.float32(value).view(np.uint32)
            odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
            row[at] = np.uint16(rounded) if value == value else np.uint16(0x7FC0)

        return put

    def put_as_is(row, at, value):
        row[at] = value

    return put_as_is


@_compiled
def _add_products(out, kernel, frame, start, shift, replicate):
    """out[x] += kernel[x] * frame[start + x + shift], x counted from start; the frame ends with its border."""
    count = len(out)
    width = len(frame)
    first = min(max(0, -(start + shift)), count)
    last = max(first, min(count, width - start - shift))
    inner = frame[start + shift + first : start + shift + last]
    o = out[first:last]
    k = kernel[first:last]
    for x in range(len(inner)):
        o[x] += _value(k[x]) * inner[x]
    if replicate:
        for x in range(first):
            out[x] += _value(kernel[x]) * frame[0]
        for x in range(last, count):
            out[x] += _value(kernel[x]) * frame[width - 1]


@_compiled
def _add_scattered(out, kernel, grad, start, shift, replicate):
    """The transpose of `_add_products` in its frame: out[start + x + shift] += kernel[x] * grad[x]."""
    count = len(grad)
    width = len(out)
    first = min(max(0, -(start + shift)), count)
    last = max(first, min(count, width - start - shift))
    inner = out[start + shift + first : start + shift + last]
    g = grad[first:last]
    k = kernel[first:last]
    for x in range(len(inner)):
        inner[x] += _value(k[x]) * g[x]
    if replicate:
        for x in range(first):
            out[0] += _value(kernel[x]) * grad[x]
        for x in range(last, count):
            out[width - 1] += _value(kernel[x]) * grad[x]


@_compiled
def _coarse_rows(y, s, h, phases):
    """The two coarse rows that the fine row y lies between, with their weights."""
    m = y // s
    p = y - m * s
    if phases[p, 0] != 0:
        return max(m - 1, 0), m, phases[p, 0], phases[p, 1]
    return m, min(m + 1, h - 1), phases[p, 1], phases[p, 2]


@_compiled
def _widen(fine, coarse, flat, above, below, weight_above, weight_below, sx, first, w, phases):
    """fine[x] = the interpolated kernel row from coarse column `first` on; coarse is room for a row and its two ends."""
    s = len(phases)
    n = (len(fine) + s - 1) // s
    inner = coarse[1 : n + 1]
    if sx == 1:
        a = flat[above + first : above + first + n]
        b = flat[below + first : below + first + n]
        for j in range(len(inner)):
            inner[j] = weight_above * _value(a[j]) + weight_below * _value(b[j])
    else:
        for j in range(n):
            at = (first + j) * sx
            inner[j] = weight_above * _value(flat[above + at]) + weight_below * _value(flat[below + at])
    left = max(first - 1, 0) * sx
    right = min(first + n, w - 1) * sx
    coarse[0] = weight_above * _value(flat[above + left]) + weight_below * _value(flat[below + left])
    coarse[n + 1] = weight_above * _value(flat[above + right]) + weight_below * _value(flat[below + right])
    if s == 2 and len(fine) % 2 == 0:
        c = phases[0, 0]
        d = phases[1, 2]
        c0 = phases[0, 1]
        d0 = phases[1, 1]
        before = coarse[0:n]
        after = coarse[2 : n + 2]
        for j in range(n):
            fine[2 * j] = c * before[j] + c0 * inner[j]
            fine[2 * j + 1] = d0 * inner[j] + d * after[j]
        return
    for p in range(s):
        cm, c0, cp = phases[p, 0], phases[p, 1], phases[p, 2]
        for j in range((len(fine) - p + s - 1) // s):
            fine[s * j + p] = cm * coarse[j] + c0 * coarse[j + 1] + cp * coarse[j + 2]


@_compiled
def forward(out, frames, flat, strides, K, phases, replicate, block, start, stop):
    """Rows start..stop of (b, y) of out (B, T or 1, C, H, W); x in pieces of `block`, a multiple of the factor."""
    B, T, C, H, W = frames.shape
    s = len(phases)
    h = (H + s - 1) // s
    w = (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    r = K // 2
    fine = np.empty(block, out.dtype)
    coarse = np.empty(block // s + 2, out.dtype)
    b = start // H
    for x0 in range(0, W, block):
        x1 = min(W, x0 + block)
        for t in range(T):
            to = t if out.shape[1] > 1 else 0
            for u in range(K):
                for v in range(K):
                    plane = b * sb + t * st + u * su + v * sv
                    for y in range(start - b * H, stop - b * H):
                        yf = y + u - r
                        if yf < 0 or yf >= H:
                            if not replicate:
                                continue
                            yf = min(max(yf, 0), H - 1)
                        if s == 1 and sx == 1:
                            row = flat[plane + y * sy + x0 : plane + y * sy + x1]
                            for c in range(C):
                                _add_products(out[b, to, c, y, x0:x1], row, frames[b, t, c, yf], x0, v - r, replicate)
                        else:
                            kernel = fine[: x1 - x0]
                            if s == 1:
                                for x in range(x1 - x0):
                                    kernel[x] = _value(flat[plane + y * sy + (x0 + x) * sx])
                            else:
                                ya, yb, wa, wb = _coarse_rows(y, s, h, phases)
                                _widen(kernel, coarse, flat, plane + ya * sy, plane + yb * sy, wa, wb, sx, x0 // s, w, phases)
                            for c in range(C):
                                _add_products(out[b, to, c, y, x0:x1], kernel, frames[b, t, c, yf], x0, v - r, replicate)


@_compiled
def grad_frames(out, grad, flat, strides, K, phases, replicate, block, start, stop):
    """Rows start..stop of (b, y) of the frames' gradient (B, T, C, H, W), which comes filled with zeros."""
    B, T, C, H, W = out.shape
    s = len(phases)
    h = (H + s - 1) // s
    w = (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    r = K // 2
    fine = np.empty(block, out.dtype)
    coarse = np.empty(block // s + 2, out.dtype)
    b = start // H
    for x0 in range(0, W, block):
        x1 = min(W, x0 + block)
        for t in range(T):
            tg = t if grad.shape[1] > 1 else 0
            for u in range(K):
                for v in range(K):
                    plane = b * sb + t * st + u * su + v * sv
                    for yf in range(start - b * H, stop - b * H):
                        # a border row also takes what was read beyond it
                        ya = yf + r - u if yf > 0 or not replicate else 0
                        yz = yf + r - u if yf < H - 1 or not replicate else H - 1
                        for y in range(max(ya, 0), min(yz, H - 1) + 1):
                            if replicate:
                                if min(max(y + u - r, 0), H - 1) != yf:
                                    continue
                            kernel = fine[: x1 - x0]
                            if s == 1:
                                for x in range(x1 - x0):
                                    kernel[x] = _value(flat[plane + y * sy + (x0 + x) * sx])
                            else:
                                ra, rb, wa, wb = _coarse_rows(y, s, h, phases)
                                _widen(kernel, coarse, flat, plane + ra * sy, plane + rb * sy, wa, wb, sx, x0 // s, w, phases)
                            for c in range(C):
                                _add_scattered(out[b, t, c, yf], kernel, grad[b, tg, c, y, x0:x1], x0, v - r, replicate)


@_compiled
def grad_kernels(flat, strides, grad, frames, K, phases, replicate, block, start, stop):
    """Rows start..stop of (b, i), i of the coarse grid, of the kernels' gradient; every number is written once."""
    B, T, C, H, W = frames.shape
    s = len(phases)
    h = (H + s - 1) // s
    w = (W + s - 1) // s
    sb, st, su, sv, sy, sx = strides
    r = K // 2
    # room for the products of a piece and of one coarse column on each side
    products = np.zeros(block + 2 * s, frames.dtype)
    row = np.empty(block // s, frames.dtype)
    b = start // h
    for x0 in range(0, W, block):
        j0 = x0 // s
        n = min(w, j0 + block // s) - j0
        xa = max(0, x0 - s) if s > 1 else x0
        xb = min(W, x0 + (n + 1) * s) if s > 1 else min(W, x0 + n)
        products[:] = 0
        piece = products[xa - x0 + s : xb - x0 + s]
        for t in range(T):
            tg = t if grad.shape[1] > 1 else 0
            for u in range(K):
                for v in range(K):
                    plane = b * sb + t * st + u * su + v * sv
                    for i in range(start - b * h, stop - b * h):
                        piece[:] = 0
                        for y in range(max(0, s * (i - 1)), min(H, s * (i + 2))):
                            m = y // s
                            p = y - m * s
                            weight = phases[p, 1 + i - m]
                            if m == i and i == 0:
                                weight += phases[p, 0]
                            if m == i and i == h - 1:
                                weight += phases[p, 2]
                            yf = y + u - r
                            if yf < 0 or yf >= H:
                                if not replicate:
                                    continue
                                yf = min(max(yf, 0), H - 1)
                            if weight != 0:
                                for c in range(C):
                                    _add_weighted(piece, weight, grad[b, tg, c, y, xa:xb], frames[b, t, c, yf], xa, v - r, replicate)
                        if s == 1:
                            for j in range(n):
                                row[j] = products[s + j]
                        else:
                            _narrow(row[:n], products, phases)
                            if j0 == 0:
                                for p in range(s):
                                    row[0] += phases[p, 0] * products[s + p]
                            if j0 + n == w:
                                for p in range(s):
                                    row[n - 1] += phases[p, 2] * products[n * s + p]
                        at = plane + i * sy + j0 * sx
                        if sx == 1:
                            target = flat[at : at + n]
                            for j in range(len(target)):
                                _put(target, j, row[j])
                        else:
                            for j in range(n):
                                _put(flat, at + j * sx, row[j])


@_compiled
def _add_weighted(out, weight, grad, frame, start, shift, replicate):
    """out[x] += weight * grad[x] * frame[start + x + shift]"""
    count = len(out)
    width = len(frame)
    first = min(max(0, -(start + shift)), count)
    last = max(first, min(count, width - start - shift))
    inner = frame[start + shift + first : start + shift + last]
    o = out[first:last]
    g = grad[first:last]
    for x in range(len(inner)):
        o[x] += weight * g[x] * inner[x]
    if replicate:
        for x in range(first):
            out[x] += weight * grad[x] * frame[0]
        for x in range(last, count):
            out[x] += weight * grad[x] * frame[width - 1]


@_compiled
def _narrow(row, products, phases):
    """The transpose of `_widen` along x; products begin one coarse column before the row."""
    s = len(phases)
    for j in range(len(row)):
        row[j] = 0
    for p in range(s):
        cm, c0, cp = phases[p, 0], phases[p, 1], phases[p, 2]
        before = products[p : p + s * len(row)]
        here = products[s + p : s + p + s * len(row)]
        after = products[2 * s + p :]
        for j in range(len(row)):
            row[j] += cp * before[s * j] + c0 * here[s * j] + cm * after[s * j]
