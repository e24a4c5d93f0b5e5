"""Equations of published layers on vectors and sequences, as written, independent of the library."""

import torch
from oracles import attention


def spatial_gating_unit(weight, bias, norm, x):
    """Liu et al., Eq. 3 for one sequence x (S, 2 C): y_s = u_s (sum_t W_st norm(v)_t + b_s)."""
    s, c = x.shape[0], x.shape[1] // 2
    v = [(row[c:] - row[c:].mean()) / (row[c:].var(correction=0) + norm.eps).sqrt() for row in x]
    v = [row * norm.weight + norm.bias for row in v]
    return torch.stack([x[a, :c] * (sum(weight[a, t] * v[t] for t in range(s)) + bias[a]) for a in range(s)])


def modulated_siren(sines, modulators, last, omega, x, z):
    """Mehta et al., Eq. 4, 5 for one coordinate x and latent z; each layer a pair (weight, bias)."""
    alpha = z.new_zeros(0)
    for (w, b), (w_mod, b_mod) in zip(sines, modulators, strict=True):
        alpha = (w_mod @ torch.cat([alpha, z]) + b_mod).clamp(min=0)
        x = alpha * torch.sin(omega * (w @ x + b))
    return last[0] @ x + last[1]


def decomposable_attention(layers, a, b):
    """Parikh et al., Eq. 1, 2: beta_t = sum_s exp(e_ts) b_s / sum_s exp(e_ts), e_ts = F(a_t) . F(b_s); b is x."""

    def network(row):
        for layer in layers:
            row = (layer.weight @ row + layer.bias).clamp(min=0)
        return row

    return attention([network(row) for row in a], [network(row) for row in b], b, softmax=True)


def multi_head_attention(projections, heads, x, queries):
    """Eq. 20 on linear maps, for one sequence: channel i + h d of the result is channel i of head h.

    projections: (weight, bias) of queries, keys, values, output.
    """
    q, k, v = (row @ w.T + b for row, (w, b) in zip((queries, x, x), projections[:3], strict=True))
    d = q.shape[1] // heads
    y = torch.empty_like(q)
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        y[:, part] = attention(q[:, part] / d**0.5, k[:, part], v[:, part], softmax=True)
    return y @ projections[3][0].T + projections[3][1]


def additive_attention(w, b, u, v, x, queries):
    """Bahdanau et al.: e_ts = v . tanh(W q_t + b + U x_s), a softmax over s, y_t = sum_s a_ts x_s."""
    y = []
    for query in queries:
        scores = torch.stack([v @ torch.tanh(w @ query + b + u @ row) for row in x])
        weights = scores.exp() / scores.exp().sum()
        y.append(sum(weight * row for weight, row in zip(weights, x, strict=True)))
    return torch.stack(y)


def linear_attention(p, q, x, normalize):
    """Katharopoulos et al., Eq. 4 for one sequence, with phi(p), phi(q) given: similarity-weighted means."""
    y = []
    for row in p:
        weights = [row @ other for other in q]
        total = sum(weights) if normalize else 1
        y.append(sum(weight * value for weight, value in zip(weights, x, strict=True)) / total)
    return torch.stack(y)


def fast_weight_memory(queries, keys, x, decay, rate):
    """Step by step: write an outer product into the weight, then read with it. One sequence."""
    weight, y = x.new_zeros(x.shape[1], keys.shape[1]), []
    for query, key, value in zip(queries, keys, x, strict=True):
        weight = decay * weight + rate * torch.outer(value, key)
        y.append(weight @ query)
    return torch.stack(y)


def fast_weights_rnn(cell, x, h, past):
    """Ba et al., Eq. 2 for one step of one sample; the fast weight is a sum over the past of outer products.

    past: h of all steps before, oldest first, the last of them h itself.
    """
    ages = reversed(range(len(past)))
    fast = sum(cell.rate * cell.decay**age * torch.outer(old, old) for age, old in zip(ages, past, strict=True))
    slow = cell.recurrent.weight @ h + cell.inputs.weight @ x + cell.inputs.bias
    new = slow.clamp(min=0)
    for _ in range(cell.steps):
        y = slow + fast @ new
        y = (y - y.mean()) / (y.var(correction=0) + cell.norm.eps).sqrt() * cell.norm.weight + cell.norm.bias
        new = y.clamp(min=0)
    return new


def fast_weights_step(cell, x, h, fast):
    """The same from the matrix of the past: h and the matrix after one step of one sample."""
    fast = cell.decay * fast + cell.rate * torch.outer(h, h)
    slow = cell.recurrent.weight @ h + cell.inputs.weight @ x + cell.inputs.bias
    new = slow.clamp(min=0)
    for _ in range(cell.steps):
        y = slow + fast @ new
        y = (y - y.mean()) / (y.var(correction=0) + cell.norm.eps).sqrt() * cell.norm.weight + cell.norm.bias
        new = y.clamp(min=0)
    return new, fast


def static_kernel(head, z):
    """Ha et al., Eq. 2 for one embedding: a_i = W_i z + b_i, K_i = W_out a_i + b_out; (J, I, f, f)."""
    parts = []
    for weight, bias in zip(head.weight, head.bias, strict=True):
        a = weight @ z + bias
        parts.append((head.out.weight @ a + head.out.bias).view(head.out_channels, head.kernel_size, head.kernel_size))
    return torch.stack(parts, 1)


def _lstm(numbers, c, update):
    """The published cell from its pre-activations on, in the order i, j, f, o; one sample."""

    def norm(y, layer):
        return layer.weight * (y - y.mean()) / ((y - y.mean()).square().mean() + 1e-3).sqrt() + layer.bias

    i, j, f, o = (norm(part, layer) for part, layer in zip(numbers.view(4, -1), update.norms, strict=True))
    c = c * torch.sigmoid(f + update.forget_bias) + torch.sigmoid(i) * torch.tanh(j)
    return torch.tanh(norm(c, update.norm_c)) * torch.sigmoid(o), c


def hyper_lstm(cell, x, h, c, hyper_h, hyper_c):
    """Ha et al., App. A.2.2 for one sample: every row of W_x and W_h scaled by its alpha, then an ordinary LSTM."""
    small = cell.hyper
    numbers = small.from_x.weight @ torch.cat([x, h]) + small.from_h.weight @ hyper_h
    hyper_h, hyper_c = _lstm(numbers, hyper_c, small.update)

    def rows(embedding, weight):
        z = embedding.weight @ hyper_h + (0 if embedding.bias is None else embedding.bias)
        return torch.cat([weight[g] @ z.view(4, -1)[g] for g in range(4)])

    sx, sh = cell.from_x.predictor, cell.from_h.predictor
    w_x = rows(sx.scale_embedding, sx.scale)[:, None] * cell.from_x.structure.v
    w_h = rows(sh.scale_embedding, sh.scale)[:, None] * cell.from_h.structure.v
    numbers = w_x @ x + w_h @ h + rows(sh.shift_embedding, sh.shift) + cell.bias
    return *_lstm(numbers, c, cell.update), hyper_h, hyper_c
