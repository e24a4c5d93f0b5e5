"""A primary network that is a chain of known layers, run with the weights of many contexts as batched products.

It computes what a loop over contexts computes. Everything takes B contexts and an axis of B groups in front of what the
primary takes; `fastweights.network_calls` runs any other primary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fastweights import network_products as products
from fastweights.head_modules import matrix_shape
from fastweights.network_products import Order, Predicted, PredictedTensor

Route = Literal["auto", "materialise", "reassociate", "vmap", "loop"]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMS = (nn.LayerNorm, nn.GroupNorm, *BATCH_NORMS[:3])
# Sets: every module is looked up at every call.
ELEMENTWISE = frozenset(
    (
        *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
        *(nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.Tanhshrink),
        *(nn.LogSigmoid, nn.Dropout),
    )
)
# Modules that treat every sample (axis 0) by itself, whatever the number of samples.
SAMPLEWISE = ELEMENTWISE | frozenset(
    (
        *(nn.Linear, *NORMS, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.Upsample, nn.PixelShuffle),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    )
)


def chain(primary: nn.Module, inputs: tuple[Any, ...]) -> list[tuple[str, nn.Module]] | None:
    """The primary as (prefix, module) one after the other, or None if it is no plain chain of modules known here."""
    modules = list(_sequence("", primary))
    if len(inputs) != 1 or not all(_known(module) for _, module in modules):
        return None
    # What one group looks like to the primary must keep its samples on axis 0.
    for _, module in modules:
        if type(module) in products.CONVOLUTIONS:
            return modules if inputs[0].ndim == 3 + len(module.kernel_size) else None  # type: ignore[arg-type]
    return modules if inputs[0].ndim >= 3 else None


def _sequence(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential and not _hooked(module):
        for name, child in module._modules.items():  # named_children leaves out a module's second place
            assert child is not None
            yield from _sequence(f"{prefix}{name}.", child)
    else:
        yield prefix, module


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _known(module: nn.Module) -> bool:
    if _hooked(module):
        return False
    if isinstance(module, nn.Flatten):
        return type(module) is nn.Flatten and module.start_dim >= 1
    if type(module) in products.CONVOLUTIONS:
        return module.padding_mode == "zeros"
    if type(module) in BATCH_NORMS:
        return not batch_statistics(module)
    return type(module) in SAMPLEWISE


def batch_statistics(module: nn.Module) -> bool:
    """Whether a norm layer takes its statistics from the samples of a call."""
    if isinstance(module, nn.modules.batchnorm._NormBase) and not isinstance(
        module, nn.modules.instancenorm._InstanceNorm
    ):
        return module.training or module.running_mean is None
    return False


class Chain:
    """Runs a chain of modules on samples of all contexts at once; `orders` says what was chosen for each weight.

    `check` is told how many predicted numbers a call has formed so far, biases and gains not counted, and may refuse.
    """

    def __init__(
        self,
        modules: list[tuple[str, nn.Module]],
        tensors: Mapping[str, Predicted],
        order: Order | None,
        check: Callable[[int], None],
    ):
        self.modules, self.tensors, self.order, self.check = modules, tensors, order, check
        self.orders: dict[str, Order] = {}
        self.formed = 0

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, N, ...) -> (B, N, ...)."""
        for prefix, module in self.modules:
            x = self._step(prefix, module, x)
        return x

    def _step(self, prefix: str, module: nn.Module, x: Tensor) -> Tensor:
        if type(module) in ELEMENTWISE:
            return module(x)
        weight, bias = self.tensors.get(f"{prefix}weight"), self.tensors.get(f"{prefix}bias")
        predicts = weight is not None or bias is not None
        if isinstance(module, nn.Linear):
            return self._linear(prefix, module, weight, bias, x) if predicts else module(x)
        contexts, x = x.shape[0], x.flatten(0, 1)
        if not predicts:
            x = module(x)
        elif isinstance(module, NORMS):
            x = _norm(module, weight, bias, x, contexts)
        else:
            x = self._convolution(prefix, module, weight, bias, x, contexts)
        return x.unflatten(0, (contexts, -1))

    def _linear(
        self, prefix: str, module: nn.Linear, weight: Predicted | None, bias: Predicted | None, x: Tensor
    ) -> Tensor:
        _check_features(prefix, module.in_features, x, -1)
        own_bias = module.bias if bias is None else products.dense(bias)
        rows = x if x.ndim == 3 else x.flatten(1, -2)
        if weight is None:
            y = F.linear(rows, module.weight) + own_bias[:, None]
        else:
            y = products.linear(weight, rows, own_bias, self._order(prefix, weight, x.shape[0], rows.shape[1]))
        return y if x.ndim == 3 else y.reshape(*x.shape[:-1], y.shape[-1])

    def _convolution(
        self,
        prefix: str,
        module: nn.Module,
        weight: Predicted | None,
        bias: Predicted | None,
        x: Tensor,
        contexts: int,
    ) -> Tensor:
        _check_features(prefix, module.in_channels, x, 1)  # type: ignore[arg-type]
        own_bias: Any = module.bias if bias is None else products.dense(bias)
        if weight is None:
            y = products.convolve(module, module.weight, x, module.groups)  # type: ignore[arg-type]
            return products.add_bias(y, own_bias, contexts)
        order: Order = "materialise"
        if not isinstance(weight, Tensor) and not products.has_unformed_convolution(module, weight.structure):
            self._form(weight, contexts)
        else:
            pixels = products.output_pixels(module, tuple(x.shape[2:])) * (x.shape[0] // contexts)
            order = self._order(prefix, weight, contexts, pixels)
        return products.convolution(module, weight, x, own_bias, contexts, order)

    def _order(self, prefix: str, weight: Predicted, contexts: int, rows: int) -> Order:
        order: Order = "materialise"
        if not isinstance(weight, Tensor):
            j, i = matrix_shape(weight.shape)
            order = self.order or products.cheaper(weight.structure, j, i, contexts, rows)
            if order == "materialise":
                self._form(weight, contexts)
        self.orders[f"{prefix}weight"] = order
        return order

    def _form(self, weight: PredictedTensor, contexts: int) -> None:
        self.formed += contexts * math.prod(weight.shape)
        self.check(self.formed)


def _norm(module: nn.Module, weight: Predicted | None, bias: Predicted | None, x: Tensor, contexts: int) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        y, tail = F.layer_norm(x, module.normalized_shape, eps=module.eps), 0
    elif isinstance(module, nn.GroupNorm):
        y, tail = F.group_norm(x, module.num_groups, eps=module.eps), x.ndim - 2
    else:
        assert isinstance(module, nn.modules.batchnorm._BatchNorm)
        y = F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)
        tail = x.ndim - 2
    y = y.unflatten(0, (contexts, -1))

    def aligned(predicted: Predicted | None, own: Tensor | None) -> Tensor | None:
        if predicted is None:
            return None if own is None else own.view(*own.shape, *(1,) * tail)
        values = products.dense(predicted)
        return values.reshape(contexts, *(1,) * (y.ndim - values.ndim - tail), *values.shape[1:], *(1,) * tail)

    gain, shift = aligned(weight, module.weight), aligned(bias, module.bias)
    y = y if gain is None else y * gain
    return (y if shift is None else y + shift).flatten(0, 1)


def _check_features(prefix: str, expected: int, x: Tensor, dim: int) -> None:
    # The batched products would speak of shapes that the caller never made.
    if x.shape[dim] != expected:
        layer = prefix.rstrip(".") or "the primary"
        raise ValueError(f"HyperNetwork: {layer} takes {expected} features on axis {dim}, got {x.shape[dim]}")
