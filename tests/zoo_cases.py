"""The cases of published layers; `cases` holds those of the core. A layer's oracle reads its parameters by name."""

import image_oracles
import sequence_oracles
import torch
from case import Case
from torch import nn

from fastweights import zoo


def each(function, *batches):
    """An oracle for one sample, over the batch."""
    return torch.stack([function(*samples) for samples in zip(*batches, strict=True)])


def gating(layer, x, context):
    gates = layer.predictor(context)
    if layer.axes.dim == -1:  # x (B, N, C), gates (B, C)
        return torch.stack(
            [each(lambda row, g=g: image_oracles.gating(g, row), rows) for g, rows in zip(gates, x, strict=True)]
        )
    return each(image_oracles.gating, gates, x)


def squeeze_excitation(layer, x, context):
    first, second = (module for module in layer.predictor if isinstance(module, nn.Linear))
    return each(lambda image: image_oracles.squeeze_excitation(first.weight, second.weight, image), x)


def simplified_channel_attention(layer, x, context):
    linear = layer.predictor[-1]
    return each(lambda image: image_oracles.simplified_channel_attention(linear.weight, linear.bias, image), x)


def film(layer, x, context):
    head = layer.predictor
    gamma, beta = (context @ head.weight.T + head.bias).chunk(2, -1)
    return each(image_oracles.film, gamma, beta, x)


def cond_conv(layer, x, context):
    routing = layer.predictor.predictor(context)
    f, axes = layer.axes.kernel_size, layer.axes
    experts = layer.structure.templates.unflatten(-1, (-1, f, f))
    biases = layer.predictor.biases
    return each(
        lambda r, image: image_oracles.cond_conv(experts, biases, r, image, axes.stride, axes.border), routing, x
    )


def basis_prediction(layer, x, context):
    coefficients, basis = layer.code(context)
    r, f = layer.structure.rank, layer.axes.kernel_size
    coefficients = coefficients.unflatten(1, (-1, r))
    basis = basis.flatten(1).unflatten(1, (x.shape[-3], f, f, r)).movedim(-1, 1)

    def one(c, v, images):  # colours share the kernels
        return torch.stack([image_oracles.basis_prediction(c, v, image, layer.axes.padding_mode) for image in images])

    y = each(one, coefficients, basis, x if x.ndim == 5 else x.unsqueeze(1))
    return y if x.ndim == 5 else y.squeeze(1)


def dynamic_convolution(layer, x, context):
    f, j = layer.axes.kernel_size, layer.structure.out_features
    kernels = layer.code(context).unflatten(1, (j, -1, f, f))[..., 0, 0]
    return each(image_oracles.dynamic_convolution, kernels, x)


def convolved_in_turn(layer, x, context):
    numbers = layer.predictor[0](context)[..., 0, 0].exp()
    vertical, horizontal = (part / part.sum(1, keepdim=True) for part in numbers.chunk(2, 1))
    return each(image_oracles.convolved_in_turn, vertical, horizontal, x)


def separable_convolution(layer, x, context):
    code = layer.code(context)
    v, h = (part.unflatten(1, (code.frames, -1)) for part in (code.vertical, code.horizontal))
    if x.ndim == 4:
        return each(lambda *one: image_oracles.separable_convolution(*one, layer.axes.padding_mode), v, h, x)
    return torch.stack(
        [
            each(lambda *one: image_oracles.separable_convolution(*one, layer.axes.padding_mode), v, h, colour)
            for colour in x.unbind(1)
        ],
        1,
    )


def dynamic_filter(layer, x, context):
    taps = layer.predictor[0](context).expand(-1, -1, *x.shape[-2:])
    images = x if x.ndim == 5 else x.unsqueeze(1)
    y = torch.stack([each(image_oracles.dynamic_filter, taps, channel[:, 0]) for channel in images.unbind(1)], 1)
    return y.unsqueeze(2) if x.ndim == 5 else y


def dynamic_alignment(layer, x, context):
    first, second, norm = layer.predictor
    one = (first.weight, second.weight[..., 0, 0], second.bias, norm.norm)
    return each(lambda image: image_oracles.dynamic_alignment_units(*one, image, layer.axes.stride), x)


def hdrnet(layer, x, context):
    code = layer.code(context)
    numbers = each(image_oracles.bilateral_slice, code.grid, code.guide)
    matrices = torch.cat([numbers[:, :9].unflatten(1, (3, 3)), numbers[:, 9:].unsqueeze(2)], 2)
    return each(image_oracles.affine_colour, matrices, x)


def decomposable_attention(layer, x, context):
    layers = [m for m in layer.predictor.network if isinstance(m, nn.Linear)]
    return each(lambda rows: sequence_oracles.decomposable_attention(layers, rows, rows), x)


def linear_attention(layer, x, context):
    maps = layer.predictor
    p, q = (torch.nn.functional.elu(m(context)) + 1 for m in (maps.queries, maps.keys))
    return each(lambda *one: sequence_oracles.linear_attention(*one, maps.normalize), p, q, x)


def fast_weight_memory(layer, x, context):
    f, maps = layer.structure.f, layer.predictor
    return each(
        lambda *one: sequence_oracles.fast_weight_memory(*one, f.decay, f.rate),
        maps.read(context),
        maps.write(context),
        x,
    )


ZOO_CASES = [
    Case("Gating", lambda: zoo.Gating(4, context_features=2), (3, 3, 4), (3, 2), gating),
    Case(
        "Gating maps", lambda: zoo.Gating(3, nn.Tanh(), dim=-3, context_features=2), (2, 3, 4, 5), (2, 2, 4, 5), gating
    ),
    Case("SqueezeExcitation", lambda: zoo.SqueezeExcitation(6, 3), (6, 6, 3, 4), None, squeeze_excitation),
    Case(
        "SimplifiedChannelAttention",
        lambda: zoo.SimplifiedChannelAttention(3),
        (3, 3, 4, 5),
        None,
        simplified_channel_attention,
    ),
    Case("FiLM", lambda: zoo.FiLM(4, 3), (4, 4, 5, 4), (4, 3), film),
    Case("CondConv", lambda: zoo.CondConv(2, 3, 3, 4), (2, 2, 5, 4), None, cond_conv),
    Case(
        "CondConv stride and biases",
        lambda: zoo.CondConv(2, 3, 3, 2, stride=2, padding=0, bias=True),
        (3, 2, 7, 6),
        None,
        cond_conv,
    ),
    Case("BasisPrediction", lambda: zoo.BasisPrediction(2, 3, 4), (2, 2, 5, 6), None, basis_prediction),
    Case(
        "BasisPrediction colour",
        lambda: zoo.BasisPrediction(2, 3, 3, 2, context_channels=3, padding_mode="zeros"),
        (2, 3, 2, 4, 5),
        (2, 3, 4, 5),
        basis_prediction,
    ),
    Case(
        "DynamicConvolution2015",
        lambda: zoo.DynamicConvolution2015(2, 3, 3, context_channels=4),
        (3, 2, 5, 4),
        (3, 4, 5, 4),
        dynamic_convolution,
    ),
    Case(
        "DynamicConvolution2015 separable",
        lambda: zoo.DynamicConvolution2015(1, 1, 5, separable=True, context_channels=2),
        (2, 1, 7, 6),
        (2, 2, 7, 6),
        convolved_in_turn,
    ),
    Case("SeparableConvolution", lambda: zoo.SeparableConvolution(2, 5), (2, 2, 6, 7), None, separable_convolution),
    Case(
        "SeparableConvolution colour",
        lambda: zoo.SeparableConvolution(2, 3, context_channels=1, padding_mode="zeros"),
        (2, 3, 2, 4, 5),
        (2, 1, 4, 5),
        separable_convolution,
    ),
    Case("DynamicFilter", lambda: zoo.DynamicFilter(3), (2, 1, 5, 6), None, dynamic_filter),
    Case(
        "DynamicFilter of an image, channels",
        lambda: zoo.DynamicFilter(3, local=False, context_channels=2),
        (2, 3, 1, 5, 4),
        (2, 2, 5, 4),
        dynamic_filter,
    ),
    Case("DynamicAlignmentUnits", lambda: zoo.DynamicAlignmentUnits(2, 3, 3, 2), (2, 2, 5, 4), None, dynamic_alignment),
    Case(
        "DynamicAlignmentUnits stride, l2",
        lambda: zoo.DynamicAlignmentUnits(3, 2, 3, 2, stride=2, norm="l2"),
        (2, 3, 6, 5),
        None,
        dynamic_alignment,
    ),
    Case("HDRNet", lambda: zoo.HDRNet(8, 4, 2), (2, 3, 7, 6), (2, 3, 7, 6), hdrnet),
    Case("DecomposableAttention", lambda: zoo.DecomposableAttention(4, 3), (2, 5, 4), None, decomposable_attention),
    Case("LinearAttention", lambda: zoo.LinearAttention(4, 3), (2, 5, 4), None, linear_attention),
    Case(
        "LinearAttention of a context",
        lambda: zoo.LinearAttention(2, 2, normalize=False),
        (3, 3, 4),
        (3, 3, 2),
        linear_attention,
    ),
    Case("FastWeightMemory", lambda: zoo.FastWeightMemory(4, 3), (2, 5, 4), None, fast_weight_memory),
    Case(
        "FastWeightMemory decay",
        lambda: zoo.FastWeightMemory(3, 2, decay=0.95, rate=0.5),
        (2, 4, 2),
        (2, 4, 3),
        fast_weight_memory,
    ),
]
