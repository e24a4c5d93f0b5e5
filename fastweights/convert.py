r"""The theorems as functions: a weight-predicting layer as gates between fixed layers, exactly or at a stated error.

`to_gated` converts a structure, `layer` a `PredictedWeight`, `model` every one inside a trained network, `kernel_head`
the last convolution of anyone's kernel prediction network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from fastweights.axes import Axes
from fastweights.codes import Code, Upsampled, dense, pointwise
from fastweights.cost import Cost, measure
from fastweights.gated_form import Bound as Bound
from fastweights.gated_form import CodeMap as CodeMap
from fastweights.gated_form import Conversion as Conversion
from fastweights.gated_form import ConvertedLayer as ConvertedLayer
from fastweights.gated_form import Method as Method
from fastweights.gated_form import to_gated as to_gated
from fastweights.kernel_heads import kernel_head as kernel_head
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct, Gated, Mixture, Structure


class MappedPredictor(nn.Module):
    """A predictor followed by a code map; a predicted bias (the last `keep` numbers) is left alone."""

    def __init__(self, predictor: nn.Module, code_map: CodeMap, axes: Axes, keep: int = 0):
        super().__init__()
        self.predictor, self.code_map, self.axes, self.keep = predictor, code_map, axes, keep

    def forward(self, context: Any) -> Code:
        def mapped(code: Tensor) -> Tensor:
            axis = self.axes.code_axis(code)
            numbers, bias = code.split([code.shape[axis] - self.keep, self.keep], axis)
            return torch.cat([self.code_map(numbers, axis), bias], axis) if self.keep else self.code_map(code, axis)

        return pointwise(mapped, self.predictor(context))


def layer(
    source: PredictedWeight,
    *,
    rank: int | None = None,
    method: Method = "unfolding",
    codes: Float[Tensor, "*n k"] | None = None,
) -> PredictedWeight:
    """A `PredictedWeight` with gates in place of its weight; same call, same output up to the conversion's bound.

    The predictor is the source's own, not a copy; what was trained stays trainable, without parametrisations such as a
    projection on zero sums, which fine-tuning may then leave. `rank`, `method` and `codes` are those of `to_gated`.

    Raises TypeError where no conversion is known, ValueError for a rank that no bound covers (see `to_gated`).

    >>> from fastweights import zoo
    >>> source = zoo.HyperLinear(5, 3)
    >>> x = torch.randn(4, 5)
    >>> torch.allclose(layer(source)(x), source(x), atol=1e-6)
    True
    """
    return _convert_layer(source, rank, method, codes)[0]


def _convert_layer(
    source: PredictedWeight, rank: int | None, method: Method, codes: Tensor | None
) -> tuple[PredictedWeight, Conversion]:
    if not isinstance(source, PredictedWeight):
        raise TypeError(
            f"layer: {type(source).__name__} has no predicted weight; convert.model converts those inside a network, "
            "convert.kernel_head a convolution that emits kernels"
        )
    conversion = to_gated(source.structure, rank=rank, method=method, codes=codes)
    predictor = MappedPredictor(source.predictor, conversion.code_map, source.axes, source.bias_features)
    target = PredictedWeight(conversion.structure, source.axes, predictor, affine=source.bias_features > 0)
    parameter = next(source.parameters(), None)
    if parameter is not None and parameter.is_floating_point() and isinstance(source.structure, Direct):
        conversion.structure.to(parameter.dtype)  # which had no numbers of its own
    return (target if parameter is None else target.to(parameter.device)), conversion


@dataclass(frozen=True)
class Report:
    """What a conversion did: a line a layer; with example inputs also the cost before and after, and the difference.

    `print(report)` is text, `rich.print(report)` tables (where rich is installed), `dataclasses.asdict(report)` JSON.
    """

    layers: tuple[ConvertedLayer, ...]
    before: Cost | None = None
    after: Cost | None = None
    difference: float | None = None

    def __str__(self) -> str:
        lines = [str(line) for line in self.layers] or ["no layer to convert"]
        if self.before is not None:
            lines += [f"before: {self.before}", f"after:  {self.after}", f"largest difference: {self.difference:.1e}"]
        return "\n".join(lines)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table

        layers = Table("layer", "before", "gates", "by", "error")
        for line in self.layers:
            layers.add_row(line.name, f"{line.before:,} {line.was}", f"{line.after:,}", line.method, line.error)
        if self.before is None or self.after is None:
            return layers
        costs = Table("", "before", "after")
        costs.add_row("parameters", *(f"{cost.parameters:,}" for cost in (self.before, self.after)))
        costs.add_row("multiply-adds", *(f"{cost.multiply_adds:,}" for cost in (self.before, self.after)))
        costs.add_row("largest tensor", *(" x ".join(map(str, cost.largest)) for cost in (self.before, self.after)))
        costs.add_row("largest difference", "", f"{self.difference:.1e}")
        return Group(layers, costs)


def model(
    module: nn.Module,
    *,
    rank: int | None = None,
    inputs: tuple[Tensor, ...] = (),
    method: Method = "unfolding",
    weighted: bool = False,
    strict: bool = False,
) -> tuple[nn.Module, Report]:
    """A copy of a network with gates in place of every predicted weight, and a report; fine-tuning is plain training.

    Layers that no theorem covers (softmax attention) are left as they are, unless `strict`; so are gates, except that
    `rank` truncates those between two fixed layers.

    Args:
        module: any network with `PredictedWeight` layers inside; it is left as it is.
        rank: truncate mixtures, and gates between two fixed layers, to this many gates.
        inputs: example inputs; with them the report measures cost and difference, in eval mode.
        method: of a truncation, see `to_gated`.
        weighted: the codes of the inputs say what a truncation keeps; it then covers whole predicted weights too.
        strict: every layer has to convert, and there has to be one: raises the TypeError of `to_gated`.

    Raises ValueError for weighted=True without inputs.

    >>> from fastweights import zoo
    >>> _, report = model(nn.Sequential(zoo.HyperLinear(5, 3), nn.ReLU()))
    >>> print(report)
    0: 15 predicted weights -> 15 gates, saves nothing (Theorem 3.1: one gate a weight; exact)
    """
    if isinstance(inputs, Tensor):
        raise TypeError("model: inputs is a Tensor, expected a tuple of all inputs of the network: give inputs=(x,)")
    if weighted and not inputs:
        raise ValueError("model: weighted=True needs inputs=, whose codes say what a truncation keeps")
    converted = copy.deepcopy(module)
    seen = _codes(converted, inputs) if weighted and rank is not None else {}
    lines: list[ConvertedLayer] = []
    done: dict[int, PredictedWeight] = {}
    # Inner layers first, so that a layer inside another's predictor is found where its name says.
    for name, source in reversed(list(converted.named_modules(remove_duplicate=False))):
        if not isinstance(source, PredictedWeight):
            continue
        structure = source.structure
        if strict:
            to_gated(structure)
        if not (isinstance(structure, Direct | Mixture) or _is_cut(structure, rank, strict)):
            continue
        if id(source) in done:  # used twice
            converted.set_submodule(name, done[id(source)])
            continue
        codes = seen.get(id(source))
        truncates = not isinstance(structure, Direct) or codes is not None
        target, conversion = _convert_layer(source, rank if truncates else None, method, codes)
        done[id(source)] = target
        gated = conversion.structure
        numbers, was = gated.in_features * gated.out_features, "predicted weights"
        if isinstance(structure, Gated):
            numbers, was = structure.code_features, "gates"
        name_shown = name or type(source).__name__
        how = (conversion.method, conversion.bound, conversion.measured)
        lines.append(ConvertedLayer(name_shown, numbers, gated.code_features, *how, was))
        if name:
            converted.set_submodule(name, target)
        else:
            converted = target
    lines.reverse()
    if strict and not any(isinstance(layer, PredictedWeight) for layer in converted.modules()):
        raise TypeError(f"model: {type(module).__name__} has no layer whose weight is predicted (PredictedWeight)")
    if not inputs:
        return converted, Report(tuple(lines))
    before, after = (copy.deepcopy(network).eval() for network in (module, converted))
    with torch.no_grad():
        outputs = (tree_flatten(network(*inputs))[0] for network in (before, after))
        difference = max((a - b).abs().max().item() for a, b in zip(*outputs, strict=True))
    return converted, Report(tuple(lines), measure(before, *inputs), measure(after, *inputs), difference)


def _is_cut(structure: Structure, rank: int | None, strict: bool) -> bool:
    """Whether gates are more than `rank`, and between two fixed layers or, if strict, to be refused."""
    if not isinstance(structure, Gated) or rank is None or rank >= structure.code_features:
        return False
    return strict or (structure.u is not None and structure.v is not None)


@torch.no_grad()
def _codes(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[int, Float[Tensor, "*n k"]]:
    """The codes of every layer with one tensor as code, by the layer's id; `Upsampled` ones as they are."""
    found: dict[int, list[Tensor]] = {}

    def keep(layer: PredictedWeight, code: Code) -> None:
        numbers = code.code if isinstance(code, Upsampled) else dense(code)
        if isinstance(numbers, Tensor):
            last = layer.axes.code_last(numbers)
            found.setdefault(id(layer), []).append(last[..., : last.shape[-1] - layer.bias_features].flatten(0, -2))

    layers = [layer for layer in module.modules() if isinstance(layer, PredictedWeight)]
    hooks = [
        layer.predictor.register_forward_hook(lambda _, __, code, layer=layer: keep(layer, code)) for layer in layers
    ]
    training = module.training
    try:
        module.eval()(*inputs)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return {key: torch.cat(parts) for key, parts in found.items()}
