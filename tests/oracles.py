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


def gating(gates, x):
    """Eq. 3, 4 for one sample: y_i = x_i g_i, g = s(a) given; x (C,) or (C, H, W), gates the same or (C,)."""
    y = torch.empty_like(x)
    for c in range(len(x)):
        for position in itertools.product(*map(range, x.shape[1:])):
            gate = gates[c] if gates.ndim == 1 else gates[(c, *position)]
            y[(c, *position)] = x[(c, *position)] * gate
    return y


def squeeze_excitation(first, second, x):
    """Hu et al., Eq. 2-4 for one image: s = sigmoid(W2 relu(W1 z)), z the means of x (C, H, W), y_c = s_c x_c."""
    c, h, w = x.shape
    z = sum(x[:, row, column] for row, column in itertools.product(range(h), range(w))) / (h * w)
    hidden = [max(sum(first[k, c] * z[c] for c in range(c)), x.new_zeros(())) for k in range(len(first))]
    scale = [1 / (1 + torch.exp(-sum(row[k] * hidden[k] for k in range(len(hidden))))) for row in second]
    return torch.stack([scale[channel] * x[channel] for channel in range(c)])


def film(gamma, beta, x):
    """Perez et al., Eq. 2 for one image: gamma_c x_c + beta_c; x (C, H, W)."""
    return torch.stack([gamma[c] * x[c] + beta[c] for c in range(len(x))])


def convolution(kernel, x, stride=1, padding=0):
    """A correlation of one image (I, H, W) with a kernel (J, I, f, f), zeros outside."""
    n_j, _, f, _ = kernel.shape
    padded = border(x, padding, "zeros")
    h, w = ((n - f) // stride + 1 for n in padded.shape[1:])
    y = x.new_zeros(n_j, h, w)
    for row, column in itertools.product(range(h), range(w)):
        window = padded[:, row * stride : row * stride + f, column * stride : column * stride + f]
        y[:, row, column] = (kernel * window).sum((1, 2, 3))
    return y


def cond_conv(experts, biases, routing, x, stride=1, padding=0):
    """Yang et al., Eq. 1: the experts' outputs, each a convolution of its own, summed with weights; one image."""
    outputs = [convolution(kernel, x, stride, padding) for kernel in experts]
    if biases is not None:
        outputs = [y + bias[:, None, None] for y, bias in zip(outputs, biases, strict=True)]
    return sum(weight * y for weight, y in zip(routing, outputs, strict=True))


def basis_prediction(coefficients, basis, x, mode):
    """Xia et al.: per-pixel kernels from a basis; coefficients (J, r, H, W), basis (r, T, f, f), x (T, H, W)."""
    kernels = torch.stack(
        [sum(c[r][None, None, None] * basis[r][..., None, None] for r in range(len(basis))) for c in coefficients]
    )
    return kernel_prediction(kernels, x, mode)


def simplified_channel_attention(weight, bias, x):
    """Chen et al., Eq. 6 for one image (C, H, W): x_c times (W mean(x) + b)_c."""
    c, h, w = x.shape
    z = sum(x[:, row, column] for row, column in itertools.product(range(h), range(w))) / (h * w)
    return torch.stack([x[j] * (sum(weight[j, i] * z[i] for i in range(c)) + bias[j]) for j in range(c)])


def _channel_norm(x, norm):
    mean = x.mean(0)
    return (x - mean) / ((x - mean).square().mean(0) + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[
        :, None, None
    ]


def _conv(layer, x, groups=1):
    """A convolution layer of odd size on one image, group by group, with its bias."""
    parts = zip(layer.weight.chunk(groups), x.chunk(groups), strict=True)
    y = torch.cat([convolution(weight, part, padding=weight.shape[-1] // 2) for weight, part in parts])
    return y + layer.bias[:, None, None]


def naf_block(block, x):
    """Chen et al., Fig. 3c for one image: the parameters of `block`, nothing else of it."""
    y = _conv(block.conv1, _channel_norm(x, block.norm1))
    y = _conv(block.conv2, y, groups=len(y))
    half = len(y) // 2
    linear = block.attention.predictor[-1]
    y = simplified_channel_attention(linear.weight, linear.bias, y[:half] * y[half:])
    x = x + block.beta * _conv(block.conv3, y)
    y = _conv(block.conv4, _channel_norm(x, block.norm2))
    return x + block.gamma * _conv(block.conv5, y[:half] * y[half:])


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


def dynamic_convolution(kernel, x):
    """Eq. 21 for one image: one kernel (J, I, f, f) at every position of x (I, H, W), zeros outside."""
    return convolution(kernel, x, padding=kernel.shape[-1] // 2)


def convolved_in_turn(vertical, horizontal, x):
    """Klein et al.: x (1, H, W) filtered by a column, then by a row."""
    h, w = x.shape[1:]
    r = len(vertical) // 2
    padded = border(x, r, "zeros")[0]
    columns = torch.stack([sum(vertical[u] * padded[row + u] for u in range(2 * r + 1)) for row in range(h)])
    return torch.stack([sum(horizontal[v] * columns[:, k + v] for v in range(2 * r + 1)) for k in range(w)], -1)[None]


def separable_convolution(vertical, horizontal, x, mode):
    """Niklaus et al., for one image: sum over frames of v^T X h in every pixel; v, h (T, f, H, W), x (T, H, W)."""
    t, f, h, w = vertical.shape
    padded = border(x, f // 2, mode)
    y = x.new_zeros(1, h, w)
    for row, column in itertools.product(range(h), range(w)):
        window = padded[:, row : row + f, column : column + f]
        y[0, row, column] = sum(
            vertical[k, :, row, column] @ window[k] @ horizontal[k, :, row, column] for k in range(t)
        )
    return y


def dynamic_filter(taps, x):
    """Jia et al., Eq. 2, for one image: taps (f f, H, W) before the softmax, x (H, W)."""
    f = round(len(taps) ** 0.5)
    taps = taps.exp() / taps.exp().sum(0)
    return kernel_prediction(taps.unflatten(0, (1, 1, f, f)), x[None])[0]


def dynamic_filter_network(network, frame, state):
    """The published generator, layer by layer, for one frame (1, H, W) and state (128, H / 2, W / 2)."""

    def leaky(layers, y, strides):
        for layer, stride in zip(layers, strides, strict=True):
            y = convolution(layer.weight, y, stride, layer.weight.shape[-1] // 2) + layer.bias[:, None, None]
            y = torch.where(y > 0, y, y / 100)
        return y

    convolutions = {
        name: [m for m in getattr(network, name) if hasattr(m, "weight")]
        for name in ("encoder", "recurrent", "decoder")
    }
    state = leaky(convolutions["encoder"], frame, (1, 2, 1, 1, 1)) + leaky(convolutions["recurrent"], state, (1, 1))
    y = leaky(convolutions["decoder"][:2], state, (1, 1))
    y = y.repeat_interleave(2, 1).repeat_interleave(2, 2)
    y = leaky(convolutions["decoder"][2:], y, (1, 1, 1))
    head = network.filter.predictor[0]
    taps = torch.einsum("kc,chw->khw", head.weight[:, :, 0, 0], y) + head.bias[:, None, None]
    return dynamic_filter(taps, frame[0])[None], state
