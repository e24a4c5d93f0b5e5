"""Products of many contexts' weights with their samples, in two orders: form the weight first, or never.

All take rows (B, N, ...) of N samples a context. Which order is cheaper is counted, not timed: multiply-adds, and
numbers written to memory and read again, which on every machine at hand cost as much as about 16 multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastweights.structures import Gated, Mixture, Outer, Structure

Order = Literal["materialise", "reassociate"]
NUMBER_MOVED = 16
CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


@dataclass(slots=True)
class PredictedTensor:
    """One predicted tensor for B contexts: how it is made, its code (B, ...), and the learned base it adds to."""

    structure: Structure
    code: Any
    base: Tensor | None
    shape: tuple[int, ...]

    def dense(self) -> Tensor:
        """(B, *shape), or (*shape) for one context."""
        if isinstance(self.structure, Mixture) and self.code.ndim == 2:
            base = self.structure.base if self.base is None else self.base
            templates = self.structure.templates.flatten(1)
            if base is not None and base.dtype == self.code.dtype:  # one pass over the weights instead of two
                return torch.addmm(base.flatten(), self.code, templates).view(-1, *self.shape)
        weight = self.structure.materialize(self.code)
        weight = weight.reshape((*weight.shape[:-2], *self.shape))
        return weight if self.base is None else weight + self.base


Predicted = PredictedTensor | Tensor  # a tensor (B, *shape) where it is formed already


def dense(predicted: Predicted) -> Tensor:
    """(B, *shape)."""
    return predicted if isinstance(predicted, Tensor) else predicted.dense()


@dataclass(frozen=True)
class Count:
    """Multiply-adds of one order of a product, and numbers that it writes and reads again on the way."""

    multiply_adds: int
    moved: int

    @property
    def cost(self) -> int:
        """Both in multiply-adds."""
        return self.multiply_adds + NUMBER_MOVED * self.moved


def counts(structure: Structure, j: int, i: int, contexts: int, rows: int) -> dict[Order, Count]:
    """What both orders of `W(code) x` cost for rows of x a context; reassociate is missing where there is none.

    >>> from fastweights.structures import Mixture
    >>> found = counts(Mixture(torch.zeros(64, 64, 64)), 64, 64, contexts=32, rows=256)
    >>> found["reassociate"].multiply_adds // found["materialise"].multiply_adds
    52
    """
    b, n = contexts, contexts * rows
    if isinstance(structure, Mixture):
        return _mixture_counts(structure.code_features, j, i, contexts, rows)
    elif isinstance(structure, Gated):
        k = structure.code_features
        left, right = (0 if side is None else k for side in (structure.u, structure.v))
        forming, direct = b * left * j * i, Count(n * (right * i + k + left * j), 2 * n * k)
    elif isinstance(structure, Outer) and structure.f is None:
        r = structure.rank
        forming, direct = b * j * r * i, Count(n * r * (i + j), 2 * n * r)
    else:
        return {"materialise": Count(n * j * i, 0)}
    return {"materialise": Count(forming + n * j * i, 2 * b * j * i), "reassociate": direct}


def _mixture_counts(k: int, j: int, i: int, contexts: int, rows: int) -> dict[Order, Count]:
    b, n = contexts, contexts * rows
    return {
        "materialise": Count(b * k * j * i + n * j * i, 2 * b * j * i),
        "reassociate": Count(n * (k * j * i + k * j), 2 * n * k * j),
    }


def cheaper(structure: Structure, j: int, i: int, contexts: int, rows: int) -> Order:
    """The order of less cost; on a tie the weight is formed."""
    return _less(counts(structure, j, i, contexts, rows))


def forms_all(shapes: Iterable[tuple[int, ...]], k: int, contexts: int, samples: int) -> bool:
    """Whether to form every mixture of k templates is cheaper, for any layer between them.

    A layer sees a context's samples as so many rows or more (pixels, steps), and with every row forming gains.
    """
    sizes = ((shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) > 1)
    return all(_less(_mixture_counts(k, j, i, contexts, samples)) == "materialise" for j, i in sizes)


def _less(found: dict[Order, Count]) -> Order:
    if "reassociate" in found and found["reassociate"].cost < found["materialise"].cost:
        return "reassociate"
    return "materialise"


def linear(weight: Predicted, x: Tensor, bias: Tensor | None, order: Order) -> Tensor:
    """`W x + b` for x (B, N, i), bias (B, j) or (j): (B, N, j)."""
    if bias is not None and bias.ndim == 2:
        bias = bias.unsqueeze(1)
    if order == "materialise" or isinstance(weight, Tensor):
        formed = dense(weight).mT
        return torch.bmm(x, formed) if bias is None else torch.baddbmm(bias, x, formed)
    y = _linear_unformed(weight.structure, weight.code, x)
    if weight.base is not None:
        y = y + F.linear(x, weight.base)
    return y if bias is None else y + bias


def _linear_unformed(structure: Structure, code: Any, x: Tensor) -> Tensor:
    if isinstance(structure, Mixture):
        k, j, i = structure.templates.shape
        products = F.linear(x, structure.templates.flatten(0, 1)).unflatten(-1, (k, j))  # (B, N, k, j)
        if x.shape[1] == 1 and structure.base is not None:  # the sum rides along
            return torch.baddbmm(F.linear(x, structure.base), code.unsqueeze(1), products.squeeze(1))
        y = torch.matmul(code[:, None, None], products).squeeze(-2)
        return y if structure.base is None else y + F.linear(x, structure.base)
    if isinstance(structure, Gated):
        hidden = x if structure.v is None else F.linear(x, structure.v)
        hidden = hidden * code.unsqueeze(1)
        return hidden if structure.u is None else F.linear(hidden, structure.u)
    if isinstance(structure, Outer) and structure.f is None:
        b, a = (factor.unflatten(-1, (-1, structure.rank)) for factor in code)
        return torch.bmm(torch.bmm(x, a), b.mT)
    return torch.bmm(x, structure.materialize(code).mT)  # the code is the weight


def convolution(
    module: nn.Module, weight: Predicted, x: Tensor, bias: Tensor | None, contexts: int, order: Order
) -> Tensor:
    """A convolution with weights for each context: x (B N, c, *size), bias (B, j) or (j)."""
    if order == "materialise" or isinstance(weight, Tensor):
        y = _grouped(module, dense(weight), x)
    else:
        y = _convolution_unformed(module, weight, x, contexts)
        if weight.base is not None:
            y = y + convolve(module, weight.base, x)
    return y if bias is None else add_bias(y, bias, contexts)


def add_bias(y: Tensor, bias: Tensor, contexts: int) -> Tensor:
    """y (B N, j, *size) plus a bias of each context (B, j) or of all (j)."""
    ones = (1,) * (y.ndim - 2)
    if bias.ndim == 1:
        return y + bias.view(-1, *ones)
    return (y.unflatten(0, (contexts, -1)) + bias.view(contexts, 1, -1, *ones)).flatten(0, 1)


def has_unformed_convolution(module: nn.Module, structure: Structure) -> bool:
    """Whether `_convolution_unformed` covers it."""
    gated = isinstance(structure, Gated) and structure.u is not None and structure.v is not None
    known = gated or isinstance(structure, Mixture) or (isinstance(structure, Outer) and structure.f is None)
    return known and _setting(module, "groups") == 1


def output_pixels(module: nn.Module, size: tuple[int, ...]) -> int:
    """Pixels of a convolution's output for inputs of this size."""
    padding = _setting(module, "padding")
    if padding == "same":
        return math.prod(size)
    padding = (0,) * len(size) if padding == "valid" else padding
    stride, dilation, taps = (_setting(module, name) for name in ("stride", "dilation", "kernel_size"))
    pixels = 1
    for s, p, d, f, t in zip(size, padding, dilation, taps, stride, strict=True):
        pixels *= (s + 2 * p - d * (f - 1) - 1) // t + 1
    return pixels


def _convolution_unformed(module: nn.Module, weight: PredictedTensor, x: Tensor, contexts: int) -> Tensor:
    structure, code = weight.structure, weight.code
    window, ones = weight.shape[1:], (1,) * (x.ndim - 2)
    if isinstance(structure, Mixture):
        k, j, _ = structure.templates.shape
        y = convolve(module, structure.templates.reshape(k * j, *window), x)
        size = y.shape[2:]
        rows = y.view(contexts, -1, k, j * math.prod(size))
        mixed = torch.matmul(code[:, None, None], rows).view(-1, j, *size)
        return mixed if structure.base is None else mixed + convolve(module, structure.base.view(j, *window), x)
    if isinstance(structure, Gated) and structure.u is not None and structure.v is not None:
        hidden = convolve(module, structure.v.view(-1, *window), x).unflatten(0, (contexts, -1))
        hidden = (hidden * code.view(contexts, 1, -1, *ones)).flatten(0, 1)
        return CONVOLUTIONS[type(module)](hidden, structure.u.view(*structure.u.shape, *ones))
    assert isinstance(structure, Outer)
    b, a = (factor.unflatten(-1, (-1, structure.rank)) for factor in code)  # (B, j, r), (B, i, r)
    hidden = _grouped(module, a.mT.unflatten(-1, window), x)  # (B N, r, *size)
    size = hidden.shape[2:]
    rows = hidden.flatten(2).unflatten(0, (contexts, -1))
    return torch.matmul(b.unsqueeze(1), rows).flatten(0, 1).unflatten(-1, size)


def _grouped(module: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """weight (B, j, *window), x (B N, c, *size): one convolution whose groups are the contexts."""
    contexts = weight.shape[0]
    rows = x.unflatten(0, (contexts, -1)).transpose(0, 1).flatten(1, 2)
    y = convolve(module, weight.flatten(0, 1), rows, contexts * _setting(module, "groups"))
    return y.unflatten(1, (contexts, -1)).transpose(0, 1).flatten(0, 1)


def convolve(module: nn.Module, weight: Tensor, x: Tensor, groups: int = 1) -> Tensor:
    """A convolution with a module's settings and other weights, without its bias."""
    stride, padding, dilation = (_setting(module, name) for name in ("stride", "padding", "dilation"))
    return CONVOLUTIONS[type(module)](x, weight, None, stride, padding, dilation, groups)


def _setting(module: nn.Module, name: str) -> Any:
    return getattr(module, name)
