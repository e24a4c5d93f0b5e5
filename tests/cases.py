"""Every layer that the tests run through the same equalities: (build, x, context), small and awkward in size.

A new layer is one entry here; `oracle(layer, x, context)` is its equation from `oracles`.
"""

import oracles
import torch
from case import Case
from predictors import Crossed, Half, Pair, Pooled
from torch import Tensor, nn
from zoo_cases import ZOO_CASES

from fastweights import PredictedWeight, zoo
from fastweights.axes import Channels, Patches, Sequence
from fastweights.structures import Direct, Mixture, Outer


def _dense(code):
    return code if isinstance(code, Tensor) else code.dense()


def _each(function, x, code):
    """Apply a per-sample oracle to rows (B, N, i) that share the code of their sample (B, k)."""
    return torch.stack([torch.stack([function(c, row) for row in rows]) for c, rows in zip(code, x, strict=True)])


def hyper_linear(layer, x, context):
    n_j, n_i = layer.structure.out_features, layer.structure.in_features
    numbers = layer.code(context)
    if not layer.bias_features:
        return _each(lambda c, row: oracles.hyper_layer(c.view(n_j, n_i).T, row), x, numbers)
    return _each(lambda c, row: oracles.hyper_layer(c[:-n_j].view(n_j, n_i).T, row) + c[-n_j:], x, numbers)


def gated_double_layer(layer, x, context):
    u, v = layer.structure.u, layer.structure.v
    return _each(lambda c, row: oracles.gated_double_layer(u.T, v.T, c, row), x, layer.code(context))


def mixture(layer, x, context):
    s = layer.structure
    return _each(lambda c, row: oracles.mixture(s.templates, s.base, c, row), x, layer.code(context))


def linear_hypernetwork(layer, x, context):
    if layer.rank is None:
        u = layer.structure.templates.permute(1, 2, 0)
        weight = layer.structure.base
    else:
        p, weight = layer.structure.v.split([layer.out_features * layer.rank, layer.out_features])
        pairs = [p.chunk(layer.out_features), layer.predictor.weight.chunk(layer.out_features)]
        u = torch.stack([left.T @ right for left, right in zip(*pairs, strict=True)])
    bias = layer.predictor.bias
    return _each(lambda c, row: oracles.linear_hypernetwork(bias, weight, u, c, row), x, context)


def multiplicative_interaction(layer, x, context):
    w, v, bias = layer.structure.templates, layer.structure.base, layer.predictor.bias
    return _each(lambda c, row: oracles.multiplicative_interaction(w, bias.weight.T, v, bias.bias, c, row), x, context)


def per_pixel_channels(layer, x, context):
    n_j, n_i = layer.structure.out_features, layer.structure.in_features
    kernels = layer.code(context).unflatten(1, (n_j, n_i, 1, 1))
    return torch.stack([oracles.kernel_prediction(k, image) for k, image in zip(kernels, x, strict=True)])


def shared_channels(layer, x, context):
    n_j, n_i = layer.structure.out_features, layer.structure.in_features
    kernels = (
        layer.code(context).unflatten(1, (n_j, n_i, 1, 1))[..., None, None].expand(-1, -1, -1, 1, 1, *x.shape[-2:])
    )
    return torch.stack([oracles.kernel_prediction(k, image) for k, image in zip(kernels, x, strict=True)])


def kernel_prediction(layer, x, context):
    f, mode = layer.axes.kernel_size, layer.axes.padding_mode
    numbers = _dense(layer.code(context))
    if isinstance(layer.structure, Mixture):
        s = layer.structure
        numbers = torch.einsum("bkhw,kn->bnhw", numbers, s.templates.flatten(1)) + s.base.flatten()[:, None, None]
    numbers = numbers.expand(*numbers.shape[:2], *x.shape[-2:])
    kernels = numbers.unflatten(1, (layer.structure.out_features, x.shape[-3], f, f))

    def one(k, images):
        if images.ndim == 4:  # colours share the kernels
            return torch.stack([oracles.kernel_prediction(k, image, mode) for image in images])
        return oracles.kernel_prediction(k, images, mode)

    return torch.stack([one(k, images) for k, images in zip(kernels, x, strict=True)])


def gated_kernel_prediction(layer, x, context):
    f, g = layer.axes.kernel_size, layer.axes.out_kernel_size
    first = layer.structure.v.unflatten(1, (-1, f, f))
    # As an ordinary convolution the second filter is the flipped output patch.
    second = layer.structure.u.unflatten(0, (-1, g, g)).movedim(-1, 1).flip(-1, -2)
    gates = _dense(layer.code(context))
    mode = layer.axes.padding_mode

    def one(a, images):
        if images.ndim == 4:
            return torch.stack([oracles.gated_kernel_prediction(first, second, a, image, mode) for image in images])
        return oracles.gated_kernel_prediction(first, second, a, images, mode)

    return torch.stack([one(a, images) for a, images in zip(gates, x, strict=True)])


def attention(layer, x, context):
    softmax, r = layer.structure.f is not None, layer.structure.rank
    p, q = (part.unflatten(-1, (-1, r)) for part in layer.code(context))
    return torch.stack([oracles.attention(*parts, softmax) for parts in zip(p, q, x, strict=True)])


def _softmax(scores):
    return scores.softmax(-1)


CASES = [
    # x (B, N, i) with B = N: a code of B samples must not be taken for one of N rows.
    Case("HyperLinear", lambda: zoo.HyperLinear(5, 3, context_features=4), (3, 3, 5), (3, 4), hyper_linear),
    Case(
        "HyperLinear bias",
        lambda: zoo.HyperLinear(2, 3, context_features=4, bias=True),
        (2, 7, 2),
        (2, 4),
        hyper_linear,
    ),
    Case(
        "GatedDoubleLayer",
        lambda: zoo.GatedDoubleLayer(4, 3, context_features=2),
        (3, 3, 4),
        (3, 2),
        gated_double_layer,
    ),
    Case(
        "GatedDoubleLayer few",
        lambda: zoo.GatedDoubleLayer(4, 3, 2, context_features=2),
        (2, 9, 4),
        (2, 2),
        gated_double_layer,
    ),
    Case(
        "Mixture",
        lambda: PredictedWeight(Mixture(torch.randn(6, 3, 4), torch.randn(3, 4)), Channels(), nn.Linear(2, 6)),
        (3, 3, 4),
        (3, 2),
        mixture,
    ),
    Case(
        "Mixture one row a code",
        lambda: PredictedWeight(Mixture(torch.randn(9, 3, 4), torch.randn(3, 4)), Channels(), nn.Linear(2, 9)),
        (5, 1, 4),
        (5, 2),
        mixture,
    ),
    Case("LinearHypernetwork", lambda: zoo.LinearHypernetwork(4, 3), (4, 4, 4), (4, 4), linear_hypernetwork),
    Case("LinearHypernetwork rank", lambda: zoo.LinearHypernetwork(5, 3, 2), (3, 7, 5), (3, 5), linear_hypernetwork),
    Case(
        "MultiplicativeInteraction",
        lambda: zoo.MultiplicativeInteraction(4, 3, context_features=2),
        (3, 3, 4),
        (3, 2),
        multiplicative_interaction,
    ),
    Case(
        "MultiplicativeInteraction square",
        lambda: zoo.MultiplicativeInteraction(3, 3),
        (3, 3, 3),
        (3, 3),
        multiplicative_interaction,
    ),
    Case(
        "Direct on channels of pixels",
        lambda: PredictedWeight(Direct(3, 2), Channels(dim=-3), nn.Conv2d(4, 6, 1)),
        (2, 3, 5, 4),
        (2, 4, 5, 4),
        per_pixel_channels,
    ),
    # A code (B, k) with B = k = j = i on pixels: its numbers must not be taken for pixels or samples.
    Case(
        "Direct shared by pixels",
        lambda: PredictedWeight(Direct(2, 2), Channels(dim=-3), nn.Linear(3, 4)),
        (4, 2, 3, 5),
        (4, 3),
        shared_channels,
    ),
    Case("KernelPrediction", lambda: zoo.KernelPrediction(2, 3), (2, 2, 5, 7), None, kernel_prediction),
    Case("KernelPrediction two outputs", lambda: zoo.KernelPrediction(2, 3, 2), (1, 2, 4, 5), None, kernel_prediction),
    Case(
        "KernelPrediction colour",
        lambda: zoo.KernelPrediction(3, 3, context_channels=2, padding_mode="replicate"),
        (2, 2, 3, 5, 4),
        (2, 2, 5, 4),
        kernel_prediction,
    ),
    Case(
        "KernelPrediction half",
        lambda: zoo.KernelPrediction(2, 3, predictor=Half(2, 18)),
        (2, 2, 5, 8),
        None,
        kernel_prediction,
    ),
    Case(
        "KernelPrediction half, legacy",
        lambda: zoo.KernelPrediction(2, 5, predictor=Half(2, 50, "legacy"), padding_mode="replicate"),
        (1, 2, 6, 7),
        None,
        kernel_prediction,
    ),
    Case(
        "KernelPrediction separable",
        lambda: zoo.KernelPrediction(2, 3, predictor=Crossed(2, 2, 3)),
        (2, 2, 5, 6),
        None,
        kernel_prediction,
    ),
    Case(
        "KernelPrediction shared",
        lambda: zoo.KernelPrediction(2, 3, predictor=Pooled(2, 18)),
        (2, 2, 5, 6),
        None,
        kernel_prediction,
    ),
    Case(
        "KernelPrediction of features",
        lambda: PredictedWeight(Mixture(torch.randn(4, 1, 18), torch.randn(1, 18)), Patches(3), Half(2, 4)),
        (2, 2, 5, 6),
        None,
        kernel_prediction,
    ),
    Case(
        "GatedKernelPrediction", lambda: zoo.GatedKernelPrediction(2, 3, 6), (2, 2, 5, 7), None, gated_kernel_prediction
    ),
    Case(
        "GatedKernelPrediction colour",
        lambda: zoo.GatedKernelPrediction(
            3, 5, 4, 2, out_kernel_size=3, predictor=Half(2, 4), padding_mode="replicate"
        ),
        (2, 2, 3, 5, 6),
        (2, 2, 5, 6),
        gated_kernel_prediction,
    ),
    Case(
        "GatedKernelPrediction one side",
        lambda: zoo.GatedKernelPrediction(2, 3, 5, out_kernel_size=1),
        (1, 2, 4, 6),
        None,
        gated_kernel_prediction,
    ),
    Case(
        "GatedKernelPrediction one side, half",
        lambda: zoo.GatedKernelPrediction(2, 3, 5, out_kernel_size=1, predictor=Half(2, 5)),
        (2, 2, 6, 8),
        None,
        gated_kernel_prediction,
    ),
    Case("attention", lambda: PredictedWeight(Outer(2, _softmax), Sequence(), Pair(3, 2)), (2, 5, 3), None, attention),
    Case(
        "linear attention", lambda: PredictedWeight(Outer(2), Sequence(), Pair(3, 2)), (3, 3, 3), (3, 3, 3), attention
    ),
    *ZOO_CASES,
]
