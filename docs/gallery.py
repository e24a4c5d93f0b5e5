"""The gallery: a page for every published layer, made of its docstring, its behaviour and Table 2.

Nothing here is written twice: equation, shapes, source and example are the docstring's; the ten lines of use are its
example spelt out, and run; what a conversion says is what it did to the layer of that example.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from examples import Use, attempt, parts, use
from torch import Tensor, nn

from fastweights import HyperNetwork, PredictedWeight, convert, convert_fm, equivalences, zoo
from fastweights.axes import Channels, Sequence
from fastweights.zoo import interop
from fastweights.zoo.table2 import TABLE2


def conversions(found: Use) -> list[tuple[str, str]]:
    """What turns the example's layer into what, as pairs (call, result); the result is checked on the inputs."""
    layer = found.layer
    inputs = [found.names[name] for name in found.inputs]
    rows: list[tuple[str, str]] = []
    for expression, part in parts(found).items():
        result, refused = attempt(lambda part=part: convert.to_gated(part.structure))
        gates = None if refused else result.structure.code_features
        said = f"refused: {refused}" if refused else f"{gates} gates, {_lower(result.method)}"
        rows.append((f"convert.layer({expression})", said))
    if isinstance(layer, nn.Module) and inputs:
        _check(convert.model(layer)[0], layer, inputs)
    if isinstance(layer, PredictedWeight):
        rows += _equivalences(layer, inputs)
    for function in _functions(convert_fm):
        result, refused = attempt(lambda function=function: function(layer))
        if refused is None and not isinstance(layer, _result(function)):
            rows.append((f"convert_fm.{function.__name__}(layer)", _machine(result, layer, inputs)))
    for function in _functions(interop):
        if isinstance(layer, _result(function)):
            first = (inspect.getdoc(function) or "").split("\n")[0]
            rows.append((f"zoo.interop.{function.__name__}(state)", f"the way here: {first}"))
    return rows


def _machine(result: nn.Module, layer: nn.Module, inputs: list[Any]) -> str:
    kind = f"`{type(result).__name__}`"
    if isinstance(layer, zoo.MatrixFactorization):
        return f"{kind} of the one-hot pair"
    if len(inputs) == 1:
        _check(result, layer, inputs)
        return f"{kind}, the same for every x"
    _check(lambda *x: result(torch.cat(x, -1)), layer, inputs)
    return f"{kind} of x and the context joined"


def _lower(text: str) -> str:
    return text if text.startswith("Theorem") else text[:1].lower() + text[1:]


def _equivalences(layer: PredictedWeight, inputs: list[Any]) -> list[tuple[str, str]]:
    rows = []
    features = layer.structure.out_features
    if features is not None and layer.structure.in_features == features:
        on_maps = isinstance(layer.axes, Channels) and layer.axes.dim == -3
        after: nn.Module = nn.Conv2d(features, 8, 1) if on_maps else nn.Linear(features, 8)
        result, refused = attempt(lambda: equivalences.absorb(layer, after))
        if refused is None:
            _check(result, lambda *x: after(layer(*x)), inputs)
            kind = type(after).__name__
            rows.append(("equivalences.absorb(layer, after)", f"with an nn.{kind} behind it: {result.structure}"))
    x, y = inputs[0], layer(*inputs)
    if isinstance(layer.axes, Sequence):
        sizes = (x.shape[-2], y.shape[-2])
        result, refused = attempt(lambda: equivalences.at_fixed_size(layer, *sizes))
        if refused is None:
            _check(result, layer, inputs)
            rows.append(("equivalences.at_fixed_size(layer, s, t)", f"at s, t = {sizes}: {result.structure}"))
        result, refused = attempt(lambda: equivalences.fast_weight_layer(layer, x.shape[-1]))
        if refused is None:
            _check(result, layer, inputs)
        said = f"a predicted matrix: {result.part.structure}" if refused is None else f"refused: {refused}"
        rows.append(("equivalences.fast_weight_layer(layer, channels)", said))
    return rows


def _check(converted: Callable[..., Tensor], layer: Callable[..., Tensor], inputs: list[Any]) -> None:
    with torch.no_grad():
        torch.testing.assert_close(converted(*inputs), layer(*inputs), atol=1e-4, rtol=1e-3)


def _functions(module: Any) -> list[Callable[..., Any]]:
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", "") == module.__name__
        and not inspect.isclass(value)
    ]


def _result(function: Callable[..., Any]) -> type | tuple[()]:
    """The layer of the zoo that a function returns; () if it returns something else."""
    annotation = inspect.signature(inspect.unwrap(function)).return_annotation
    return getattr(zoo, annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""), ())


def page(name: str) -> str:
    """The Markdown page of a name of `fastweights.zoo`; `:::` is where mkdocstrings puts its docstring."""
    found = use(name)
    code = "\n".join(found.lines)
    imports = ["import torch"] + (["from torch import nn"] if "nn." in code else [])
    needed = [module for module in ("convert", "cost", "zoo") if f"{module}." in code]
    imports.append(f"from fastweights import {', '.join(needed)}")
    options = "{heading_level: 1, members: false, merge_init_into_class: true}"
    text = [f"::: fastweights.zoo.{name}\n    options: {options}\n"]
    text += ["## Use\n", "```python", *imports, "", code, "```\n"]
    if found.layer is not None:
        text += ["## Printed\n", f"`print(layer)` shows how it is built:\n\n```text\n{found.layer}\n```\n"]
        rows = conversions(found)
        text.append("## Conversions\n")
        text.append("What each gives for the layer above, checked on its inputs.\n" if rows else "None is known.\n")
        text += ["| call | result |", "| --- | --- |"] if rows else []
        text += [f"| `{call}` | {result.replace('|', chr(92) + '|')} |" for call, result in rows]
    for row in TABLE2:
        if row.layer is getattr(zoo, name):
            text.append(f"\n## In Table 2\n\nThe row [{row.model}](../table2.md) of Müller 2024.\n")
            text += [f"- {note}" for note in row.notes]
    return "\n".join(text) + "\n"


def kind(name: str) -> str:
    """The structure that a layer is built on, for the index: of its predicted weight, or what it is instead."""
    found = use(name)
    layer = found.layer
    if isinstance(layer, HyperNetwork):
        return "a HyperNetwork"
    weights = parts(found).values()
    built = dict.fromkeys(f"{type(p.structure).__name__} on {type(p.axes).__name__}" for p in weights)
    return (", ".join(built) + ("" if isinstance(layer, PredictedWeight) else ", inside")) if built else ""


def index() -> str:
    """The Markdown page that lists all layers."""
    text = [
        "# Gallery\n",
        "Every published layer of `fastweights.zoo`: its equation, ten lines of use, its printed decomposition and",
        "what it converts into. Made from the code, each time the site is built.\n",
        "| layer | in a sentence | built as |",
        "| --- | --- | --- |",
    ]
    for name in sorted(zoo.__all__, key=str.lower):
        first = (inspect.getdoc(getattr(zoo, name)) or "").split("\n\n")[0].replace("\n", " ").replace("|", r"\|")
        text.append(f"| [{name}]({name}.md) | {first} | {kind(name)} |")
    return "\n".join(text) + "\n"
