"""A docstring's example spelt out line by line: the layer, its inputs, its call and what else it can do."""

import ast
import doctest
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastweights import HyperNetwork, PredictedWeight, convert, cost, zoo

EVERYTHING = {"torch": torch, "nn": nn, "zoo": zoo, "convert": convert, "cost": cost}
# Where a dense weight would fill the memory, the example does without it.
LARGEST_WEIGHT = 10_000_000


@dataclass
class Use:
    """A docstring's example spelt out line by line, and what it made."""

    lines: list[str]
    names: dict[str, Any]
    layer: Any = None
    inputs: list[str] = field(default_factory=list)

    def run(self, line: str) -> Any:
        """Runs a line and keeps it; returns the value it assigns to its first name."""
        exec(line, self.names)
        self.lines.append(line)
        target = ast.parse(line).body[0]
        if not isinstance(target, ast.Assign):
            return None
        found = target.targets[0]
        return self.names[(found.elts[0] if isinstance(found, ast.Tuple) else found).id]

    def remark(self, text: str) -> None:
        """A comment behind the last line."""
        self.lines[-1] += f"  # {text}"


def use(name: str) -> Use:
    """The example of a name of `fastweights.zoo`, run: the layer, its inputs, its call and what else it can do."""
    value = getattr(zoo, name)
    statements = ast.parse("".join(example.source for example in examples(value))).body
    found = Use([], dict(EVERYTHING))
    torch.manual_seed(0)
    if not inspect.isclass(value) or not _call(statements, name, found):
        return _as_written(name, statements)
    layer = found.layer
    call = ", ".join(found.inputs)
    if isinstance(layer, PredictedWeight):
        code = layer.code(found.names[found.inputs[-1]])
        if _size(layer, code) <= LARGEST_WEIGHT:
            weight = found.run(f"weight = layer.weight({found.inputs[-1]})")
            found.remark(f"{shape(weight)}: written out, for inspection")
    elif isinstance(layer, HyperNetwork):
        weights = found.run(f"weights = layer.weights({found.inputs[-1]})")
        found.remark("named tensors: " + ", ".join(list(weights)[:2]) + ", ...")
    if next(layer.parameters(), None) is not None:
        found.run("y.square().mean().backward()")
        found.remark("trains as any module")
    if all(isinstance(found.names[name], Tensor) for name in found.inputs):
        counted = found.run(f"count = cost.measure(layer, {call})")
        found.lines.append(f"# {counted}")
    for expression, part in parts(found).items():
        if part is not layer and "(" not in expression:
            found.lines.append(f"{expression}.structure  # {part.structure}")
    if isinstance(layer, PredictedWeight) and attempt(lambda: convert.layer(layer))[1] is None:
        gated = found.run("gated = convert.layer(layer)")
        found.remark(f"the same with {gated.structure.code_features} gates")
        found.run(f"assert torch.allclose(gated({call}), y, atol=1e-4)")
    return found


def examples(value: object) -> list[doctest.Example]:
    """The lines of a docstring that start with >>>."""
    return doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")


def shape(value: Any) -> str:
    """Sizes of a tensor, or of each of several."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return ", ".join(shape(part) for part in value)


def _call(statements: list[ast.stmt], name: str, found: Use) -> bool:
    """Spells out the first call of an instance: layer, inputs, y. False if the example has none."""
    built: dict[str, ast.expr] = {}
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        call = _first_call(statement, name, built)
        if call is not None:
            function = call.func
            method = f".{function.attr}" if isinstance(function, ast.Attribute) else ""
            owner = function.value if isinstance(function, ast.Attribute) else function
            construction = built[owner.id] if isinstance(owner, ast.Name) else owner
            found.layer = found.run(f"layer = {_source(construction)}")
            parameters = list(inspect.signature(getattr(found.layer, method[1:] or "forward")).parameters)
            for parameter, argument in zip(parameters, call.args, strict=False):
                if isinstance(argument, ast.Name):
                    found.inputs.append(argument.id)
                else:
                    found.run(f"{parameter} = {_source(argument)}")
                    found.inputs.append(parameter)
            result = found.names["layer"]
            state = isinstance(getattr(result, method[1:] or "forward")(*(found.names[n] for n in found.inputs)), tuple)
            y = found.run(f"{'y, state' if state else 'y'} = layer{method}({', '.join(found.inputs)})")
            found.remark(shape(y))
            return True
        for target, value in _assignments(statement):
            if _constructs(value, name):
                built[target] = value
            else:
                found.run(f"{target} = {_source(value)}")
    return False


def _first_call(statement: ast.stmt, name: str, built: dict[str, ast.expr]) -> ast.Call | None:
    for node in ast.walk(statement):
        if not isinstance(node, ast.Call):
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        if _constructs(owner, name) or (isinstance(owner, ast.Name) and owner.id in built):
            return node
    return None


def _constructs(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _assignments(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    if not isinstance(statement, ast.Assign):
        return []
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return [(t.id, v) for t, v in zip(target.elts, value.elts, strict=True) if isinstance(t, ast.Name)]
    return [(target.id, value)] if isinstance(target, ast.Name) else []


class _FromZoo(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in zoo.__all__:
            return ast.Attribute(ast.Name("zoo", ast.Load()), node.id, ast.Load())
        return node


def _source(node: ast.AST) -> str:
    return ast.unparse(_FromZoo().visit(node))


def _as_written(name: str, statements: list[ast.stmt]) -> Use:
    """Statements as the docstring has them; a last expression's value is remarked, an instance found is the layer."""
    found = Use([], dict(EVERYTHING))
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.Expr):
            line = _source(statement)
            value = eval(line, found.names)
            found.lines.append(line)
            found.remark(str(value))
        else:
            found.run(_source(statement))
    value = getattr(zoo, name)
    if inspect.isclass(value):
        made = (v for named in found.names.values() if isinstance(named, nn.Module) for v in named.modules())
        found.layer = next((v for v in made if isinstance(v, value)), None)
    return found


def _size(layer: PredictedWeight, code: Any) -> int:
    parts = code if isinstance(code, tuple) else (code,)
    if not all(isinstance(part, Tensor) for part in parts):
        return 0
    positions = max(part.numel() // part.shape[layer.axes.code_axis(part)] for part in parts)
    s = layer.structure
    return positions * (s.in_features or 1) * (s.out_features or 1)


def parts(found: Use) -> dict[str, PredictedWeight]:
    """The predicted weights of the example's layer, by the expression that gives them; its own is `layer`."""
    layer = found.layer
    if isinstance(layer, PredictedWeight):
        return {"layer": layer}
    if isinstance(layer, zoo.AdditiveAttention):
        return {"layer.part(x, queries)": layer.part(*(found.names[name] for name in found.inputs))}
    if not isinstance(layer, nn.Module):
        return {}
    named = {f"layer.{name}": part for name, part in layer.named_modules() if isinstance(part, PredictedWeight)}
    return {re.sub(r"\.(\d+)\b", r"[\1]", name): part for name, part in named.items()}


def attempt(function: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a function returns, or the message of its refusal."""
    try:
        return function(), None
    except (TypeError, ValueError) as error:
        return None, str(error)
