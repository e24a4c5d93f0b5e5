"""Equations of published layers on images, as written: loops and sums, independent of the library."""

import itertools

import torch
from oracles import border, kernel_prediction


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


def dynamic_alignment_units(first, second, bias, norm, x, stride):
    """Böhle et al., Eq. 1-3, for one image: w = g(A (B patch) + b) in every position, y = w^T patch."""
    rank, n_i, f, _ = first.shape
    padded = border(x, f // 2, "zeros")
    n_j = len(bias) // (n_i * f * f)
    h, w = ((n - 1) // stride + 1 for n in x.shape[1:])
    y = x.new_zeros(n_j, h, w)
    for row, column in itertools.product(range(h), range(w)):
        patch = padded[:, row * stride : row * stride + f, column * stride : column * stride + f].flatten()
        weights = (second @ (first.flatten(1) @ patch) + bias).view(n_j, -1)
        for j in range(n_j):
            size = (weights[j] ** 2).sum().sqrt()
            y[j, row, column] = weights[j] @ patch / (size if norm == "l2" else (1 + size**2) / size)
    return y


def bilateral_slice(grid, guide):
    """Gharbi et al., Eq. 4, 5, for one image: sums of tent functions over the grid (d, k, h, w), guide (H, W)."""
    d, k, h, w = grid.shape
    height, width = guide.shape
    y = grid.new_zeros(k, height, width)
    for row, column in itertools.product(range(height), range(width)):
        where = (guide[row, column] * d, (row + 0.5) * h / height, (column + 0.5) * w / width)
        below = [int(torch.as_tensor(p - 0.5).floor()) for p in where]
        for corner in itertools.product((0, 1), repeat=3):
            cell = [b + c for b, c in zip(below, corner, strict=True)]
            tent = [max(1 - abs(n + 0.5 - p), torch.zeros(())) for n, p in zip(cell, where, strict=True)]
            z, a, b = (min(max(n, 0), size - 1) for n, size in zip(cell, (d, h, w), strict=True))
            y[:, row, column] += tent[0] * tent[1] * tent[2] * grid[z, :, a, b]
    return y


def affine_colour(coefficients, x):
    """Eq. 24 with HDRNet's constant term: A [rgb ; 1] in every pixel, A (3, 4, H, W), x (3, H, W)."""
    y = torch.empty_like(x)
    for j, row, column in itertools.product(range(3), range(x.shape[1]), range(x.shape[2])):
        a = coefficients[j, :, row, column]
        y[j, row, column] = sum(a[i] * x[i, row, column] for i in range(3)) + a[3]
    return y
