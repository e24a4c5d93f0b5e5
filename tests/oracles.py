"""The papers' equations as written, by loops, independent of the library: the third spelling every layer is held to."""

import itertools

import torch


def hyper_layer(weight, x):
    """Eq. 1: x_j = sum_i W_ij x_i, for one sample. weight is indexed [i][j] as in the paper."""
    n_i, n_j = weight.shape
    return torch.stack([sum(weight[i, j] * x[i] for i in range(n_i)) for j in range(n_j)])


def gated_double_layer(u, v, gates, x):
    """Eq. 5 for one sample: sum_k u_kj a_k sum_i v_ik x_i. u is [k][j], v is [i][k] as in the paper."""
    n_i, n_k = v.shape
    hidden = [gates[k] * sum(v[i, k] * x[i] for i in range(n_i)) for k in range(n_k)]
    return torch.stack([sum(u[k, j] * hidden[k] for k in range(n_k)) for j in range(u.shape[1])])


def index_matrices(n_i, n_j, n_k):
    """Eq. 11, 12: u [k][j] and v [i][k] of Theorem 3.1; the terms above n_i n_j are zero."""
    v = [[float(k % n_i == i and k < n_i * n_j) for k in range(n_k)] for i in range(n_i)]
    u = [[float(k // n_i == j and k < n_i * n_j) for j in range(n_j)] for k in range(n_k)]
    return torch.tensor(u), torch.tensor(v)


def border(x, r, mode):
    """x (T, H, W) with r pixels of zeros or repeated border, pixel by pixel."""
    t, h, w = x.shape
    padded = x.new_zeros(t, h + 2 * r, w + 2 * r)
    for y, z in itertools.product(range(h + 2 * r), range(w + 2 * r)):
        inside = 0 <= y - r < h and 0 <= z - r < w
        if inside or mode == "replicate":
            padded[:, y, z] = x[:, min(max(y - r, 0), h - 1), min(max(z - r, 0), w - 1)]
        elif mode == "reflect":
            padded[:, y, z] = x[:, _mirror(y - r, h), _mirror(z - r, w)]
    return padded


def _mirror(position, size):
    return -position if position < 0 else position if position < size else 2 * (size - 1) - position


def kernel_prediction(kernels, x, mode="zeros"):
    """Eq. 6, 9 for one image: kernels (J, T, f, f, H, W), x (T, H, W) -> (J, H, W)."""
    n_j, n_t, f, _, h, w = kernels.shape
    padded = border(x, f // 2, mode)
    y = x.new_zeros(n_j, h, w)
    for row, column in itertools.product(range(h), range(w)):
        window = padded[:, row : row + f, column : column + f]
        y[:, row, column] = (kernels[..., row, column] * window).sum((1, 2, 3))
    return y


def gated_kernel_prediction(first, second, gates, x, mode="zeros"):
    """Eq. 7, 10 for one image, with filters on both sides, as convolution, product, convolution written out.

    first (M, T, f, f), second (J, M, g, g), gates (M, H, W), x (T, H, W) -> (J, H, W).
    """
    m, _, f, _ = first.shape
    _, h, w = x.shape
    padded = border(x, f // 2, mode)
    hidden = x.new_zeros(m, h, w)
    for row, column in itertools.product(range(h), range(w)):
        window = padded[:, row : row + f, column : column + f]
        hidden[:, row, column] = gates[:, row, column] * (first * window).sum((1, 2, 3))
    return kernel_prediction(second[..., None, None].expand(*second.shape, h, w), hidden)


def mixture(templates, base, code, x):
    """W = base + sum_k code_k T_k, applied to one x, entry by entry."""
    n_k, n_j, n_i = templates.shape
    y = x.new_zeros(n_j)
    for j, i in itertools.product(range(n_j), range(n_i)):
        y[j] += (base[j, i] + sum(code[k] * templates[k, j, i] for k in range(n_k))) * x[i]
    return y


def attention(p, q, x, softmax):
    """Eq. 18 for one sequence: y_t = sum_s f(p_t . q_s) x_s; p (S_out, r), q (S_in, r), x (S_in, C)."""
    y = []
    for t in range(len(p)):
        scores = torch.stack([(p[t] * q[s]).sum() for s in range(len(q))])
        scores = scores.exp() / scores.exp().sum() if softmax else scores
        y.append(sum(scores[s] * x[s] for s in range(len(q))))
    return torch.stack(y)


def factorization_machine(bias, weight, v, x):
    """Eq. 2 for one sample: every unordered pair once. bias [j], weight [j][i], v [j][i][l] as in the paper."""
    n_j, n_i, n_l = v.shape
    y = []
    for j in range(n_j):
        pairs = [(i, k) for i in range(n_i) for k in range(i + 1, n_i)]
        inner = sum(sum(v[j, i, l] * v[j, k, l] for l in range(n_l)) * x[i] * x[k] for i, k in pairs)
        y.append(bias[j] + sum(weight[j, i] * x[i] for i in range(n_i)) + inner)
    return torch.stack(y)


def linear_hypernetwork(bias, weight, u, context, x):
    """Eq. 8 for one sample: u [j][i][k], the context stands for the x that k counts."""
    n_j, n_i, n_k = u.shape
    effective = [
        [weight[j, i] + sum(u[j, i, k] * context[k] for k in range(n_k)) for i in range(n_i)] for j in range(n_j)
    ]
    return torch.stack([bias[j] + sum(effective[j][i] * x[i] for i in range(n_i)) for j in range(n_j)])


def multiplicative_interaction(w, u, v, b, z, x):
    """Jayakumar 2020: z^T W x + z^T U + V x + b for one sample; w [k][j][i], u [k][j], v [j][i], b [j]."""
    n_k, n_j, n_i = w.shape
    return torch.stack(
        [
            sum(z[k] * w[k, j, i] * x[i] for k in range(n_k) for i in range(n_i))
            + sum(z[k] * u[k, j] for k in range(n_k))
            + sum(v[j, i] * x[i] for i in range(n_i))
            + b[j]
            for j in range(n_j)
        ]
    )
