"""What must hold of every case: oracle = dense weight = plain way = fast way, values and gradients, in float64."""

import functools
from unittest import mock

import torch
from cases import Case
from zoo_cells import Cell

from fastweights import PredictedWeight
from fastweights.axes import Channels, Patches, Sequence
from fastweights.codes import dense
from fastweights.ops import table


def by_dense_weight(layer, x, context):
    """The product from `weight(context)` alone, with axes handled here and not by the library."""
    weight = layer.weight(context)
    if isinstance(layer.axes, Sequence):
        return torch.einsum("...ts,...sc->...tc", weight, x)
    bias = 0
    if layer.bias_features:
        bias = layer.code(context)
        bias = (bias if isinstance(bias, torch.Tensor) else bias.dense())[:, -layer.structure.out_features :]
    if isinstance(layer.axes, Channels):
        if layer.axes.dim == -3:
            weight = weight if weight.ndim == 5 else weight[:, None, None].expand(-1, *x.shape[-2:], -1, -1)
            if layer.bias_features and bias.ndim == 2:
                bias = bias[:, :, None, None]
            return torch.einsum("bhwji,bihw->bjhw", weight, x) + bias
        return torch.einsum("bji,bni->bnj", weight, x) + (bias[:, None] if layer.bias_features else 0)
    assert isinstance(layer.axes, Patches)
    axes = layer.axes
    f, r = axes.out_kernel_size, axes.out_kernel_size // 2
    images = x if x.ndim == 5 else x.unsqueeze(1)
    mode = {"zeros": "constant"}.get(axes.padding_mode, axes.padding_mode)
    padded = torch.nn.functional.pad(images.flatten(0, 1), (axes.border,) * 4, mode=mode).unflatten(0, images.shape[:2])
    windows = padded.unfold(-2, axes.kernel_size, axes.stride)
    windows = windows.unfold(-2, axes.kernel_size, axes.stride)  # (B, C, T, h, w, u, v)
    windows = windows.permute(0, 1, 3, 4, 2, 5, 6).flatten(4)
    h, w = windows.shape[2:4]
    weight = weight.expand(weight.shape[0], h, w, *weight.shape[-2:])
    patches = torch.einsum("bhwji,bchwi->bchwj", weight, windows).unflatten(-1, (-1, f, f))
    y = x.new_zeros(*images.shape[:2], patches.shape[-3], h + 2 * r, w + 2 * r)
    for u in range(f):
        for v in range(f):
            y[..., u : u + h, v : v + w] += patches[..., u, v].movedim(-1, 2)
    y = y[..., r : r + h, r : r + w] + (bias.unsqueeze(1) if layer.bias_features else 0)
    return y if x.ndim == 5 else y.squeeze(1)


def by_plain(layer, x, context):
    """Gather, multiply, scatter, whatever the table would choose."""
    with mock.patch.object(table, "find", return_value=None):
        return layer(x, context)


def by_table(layer, x, context):
    """What a user gets."""
    return layer(x, context)


SPELLINGS = (by_dense_weight, by_plain, by_table)


def assert_spellings_agree(case: Case):
    layer, x, context = case.make()
    with torch.no_grad():
        expected = case.oracle(layer, x, context)
    cotangent = torch.randn_like(expected)
    wanted = None
    for spelling in SPELLINGS:
        x_, context_ = x.clone().requires_grad_(), context.clone().requires_grad_()
        y = spelling(layer, x_, context_)
        torch.testing.assert_close(
            y, expected, rtol=1e-10, atol=1e-10, msg=functools.partial("{}: {}".format, spelling.__name__)
        )
        inputs = [x_, context_, *layer.parameters()]
        gradients = torch.autograd.grad(y, inputs, cotangent, allow_unused=True)
        wanted = wanted or gradients
        for got, reference in zip(gradients, wanted, strict=True):
            assert (got is None) == (reference is None)
            if got is not None:
                torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-9)


def by_dense_weights(self, code, x, *, per_frame=False):
    """A product formed from the dense weight alone, in place of every `PredictedWeight.product`."""
    assert not per_frame
    code, bias = self._split_bias(code)
    code = dense(code)
    parts = code if isinstance(code, tuple) else (code,)
    aligned = tuple(self.axes.align(part, x) for part in parts)
    weight = self.structure.materialize(aligned if isinstance(code, tuple) else aligned[0])
    y = self.axes.merge((weight * self.axes.split(x).unsqueeze(-2)).sum(-1), x)
    return y if bias is None else y + self.axes.merge(self.axes.align(dense(bias), x), x)


def plain_products(self, code, x, *, per_frame=False):
    """`PredictedWeight.product` without the table."""
    with mock.patch.object(table, "find", return_value=None):
        return product(self, code, x, per_frame=per_frame)


def joined(y):
    """An output, or several of them, as one vector."""
    return torch.cat([part.flatten() for part in (y if isinstance(y, tuple) else (y,))])


product = PredictedWeight.product
WAYS = (by_dense_weights, plain_products, product)


def assert_parts_agree(cell: Cell):
    """The same of a cell: its equation = its parts' dense weights = plain products = the module as it is."""
    module, inputs = cell.make()
    with torch.no_grad():
        expected = joined(cell.oracle(module, *inputs))
    cotangent, wanted = torch.randn_like(expected), None
    for way in WAYS:
        leaves = [x.clone().requires_grad_() for x in inputs]
        with mock.patch.object(PredictedWeight, "product", autospec=True, side_effect=way) as products:
            y = joined(module(*leaves))
        assert products.called
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        gradients = torch.autograd.grad(y, [*leaves, *module.parameters()], cotangent, allow_unused=True)
        wanted = wanted or gradients
        for got, reference in zip(gradients, wanted, strict=True):
            assert (got is None) == (reference is None)
            if got is not None:
                torch.testing.assert_close(got, reference, rtol=1e-8, atol=1e-8)
