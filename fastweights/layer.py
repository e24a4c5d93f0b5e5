"""The one layer class: `y = W(predictor(context)) x` along chosen axes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from fastweights.axes import Axes, Patches
from fastweights.codes import Code, LazyCode, dense, pointwise
from fastweights.ops import table
from fastweights.structures import Structure


class PredictedWeight(nn.Module):
    r"""A linear layer whose weight is the output of another network.

    `y = W(c) x (+ b)` with `c = predictor(context)`; the structure says how the code c becomes the weight W, the
    axes say which axes of x it mixes. An activation, as f of Eq. 1, is a module of its own, as in torch.nn.

    Shapes: see the axes. A pixel code is (B, k, h, w), any other (..., k); a code may be lazy (`fastweights.codes`).

    Args:
        structure: `Direct`, `Mixture`, `Gated` or `Outer`.
        axes: `Channels`, `Sequence` or `Patches`.
        predictor: any module from context to code.
        affine: the last j numbers of the code are a predicted bias, added after the product.

    Raises:
        ValueError: a code or x whose sizes do not fit, naming both.
        TypeError: arguments or a code of another kind.

    Source: Eq. 1 of Müller 2024, and every row of its Table 2 through a choice of structure and axes.

    >>> import torch
    >>> from fastweights.axes import Channels
    >>> from fastweights.structures import Direct
    >>> layer = PredictedWeight(Direct(5, 3), Channels(), nn.Linear(7, 15))
    >>> layer(torch.randn(4, 10, 5), context=torch.randn(4, 7)).shape
    torch.Size([4, 10, 3])
    """

    def __init__(self, structure: Structure, axes: Axes, predictor: nn.Module, *, affine: bool = False):
        super().__init__()
        for name, given, kind, expected in (
            ("structure", structure, Structure, "a Structure"),
            ("axes", axes, Axes, "Axes"),
            ("predictor", predictor, nn.Module, "an nn.Module"),
        ):
            if not isinstance(given, kind):
                found = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
                raise TypeError(f"PredictedWeight: {name} is {found}, expected {expected}")
        outputs = structure.out_features
        if affine and isinstance(axes, Patches) and axes.out_kernel_size > 1:
            raise ValueError(
                f"PredictedWeight: {axes} adds up overlapping patches; affine=True needs out_kernel_size=1"
            )
        if affine and outputs is None:
            raise ValueError(f"PredictedWeight: affine=True needs a structure of fixed output size, got {structure}")
        self.structure, self.axes, self.predictor = structure, axes, predictor
        self.bias_features = outputs or 0 if affine else 0

    def code(self, context: Any) -> Code:
        """The predicted code of a context: whatever the predictor takes."""
        return self.predictor(context)

    def product(self, code: Code, x: Tensor, *, per_frame: bool = False) -> Tensor:
        """`W(code) x`, by the fastest operation that serves this case.

        With per_frame=True (Patches axes only) the contributions of the single frames of x's axis -3, stacked on a
        new axis before the output's; their sum is the product.
        """
        if not x.is_floating_point():
            raise TypeError(f"PredictedWeight: x is {x.dtype}, expected a floating-point type")
        if not isinstance(code, Tensor | LazyCode | tuple):
            raise TypeError(
                f"PredictedWeight: the code is {type(code).__name__}, expected a tensor, a lazy code or a pair (P, Q)"
            )
        code, bias = self._split_bias(code)
        self.axes.check(self.structure, code, x)
        if bias is not None and per_frame:
            raise ValueError("PredictedWeight: a predicted bias belongs to no frame; per_frame=True needs affine=False")
        row = table.find(self.structure, self.axes, code, x)
        product = table.plain if row is None else row.product
        with _full_precision(x):
            y = product(self.structure, self.axes, code, x, per_frame)
        return (
            y
            if bias is None
            else y + self.axes.merge(self.axes.align(cast(Tensor, table.expand(bias, x)), x), x).to(y.dtype)
        )

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        """`W(predictor(context)) x`; the context is x itself when None."""
        self.axes.check_x(self.structure, x)
        return self.product(self.code(x if context is None else context), x)

    def weight(self, context: Any) -> Tensor:
        """The dense predicted weight (*b, j, i); with pixel codes (B, h, w, j, i). For inspection: it may be large."""
        code, _ = self._split_bias(self.code(context))
        code = dense(code)
        if isinstance(code, tuple):
            return self.structure.materialize(tuple(self.axes.code_last(part) for part in code))
        return self.structure.materialize(self.axes.code_last(code))

    def operation(self, code: Code, x: Tensor) -> str:
        """Name of the operation that `product` will use: a row of `fastweights.ops.table`, or "plain"."""
        row = table.find(self.structure, self.axes, self._split_bias(code)[0], x)
        return "plain" if row is None else row.name

    def extra_repr(self) -> str:
        return f"axes={self.axes}" + (", affine=True" if self.bias_features else "")

    def _split_bias(self, code: Code) -> tuple[Code, Code | None]:
        j = self.bias_features
        if j == 0:
            return code, None

        def weight_part(numbers: Tensor) -> Tensor:
            axis = self.axes.code_axis(numbers)
            return numbers.narrow(axis, 0, numbers.shape[axis] - j)

        def bias_part(numbers: Tensor) -> Tensor:
            axis = self.axes.code_axis(numbers)
            return numbers.narrow(axis, numbers.shape[axis] - j, j)

        return pointwise(weight_part, code), pointwise(bias_part, code)


def _full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast off: it asks for low-precision predictors, not for a low-precision picture."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
