"""Steps of many small networks at once in which the gradient of a large weight is never written.

It is a product of two matrices, and a step of gradient descent adds it to the weight: together one `baddbmm_`. So the
functions here note both factors on a tape when autograd comes by, and `Tape.descend` plays it.
Everything has the networks on axis 0: x (S, B, i), weights (S, j, i), biases (S, j).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from experiments.galanti2020.merged import Merged
from fastweights.head_modules import Joined, matrix_shape
from fastweights.network import HyperNetwork

Weights = Mapping[str, Tensor]


class Tape:
    """What the steps of one stack leave behind: changes of weights to come, and room for large tensors.

    The room lasts from step to step: memory that is given back to the system and taken again costs as much time as what
    is computed in it.
    """

    def __init__(self) -> None:
        self.changes: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self.rooms: dict[int, Tensor] = {}
        # No weight is differentiated, so something else must make autograd come by.
        self.both = (self, torch.zeros((), requires_grad=True))

    def change(self, weight: Tensor, gradient: Tensor, factor: Tensor | None = None) -> None:
        """Note a weight's gradient, or two factors of it."""
        self.changes.append((weight, gradient, factor))

    def room(self, weight: Tensor, *shape: int) -> Tensor:
        """Unwritten numbers, the same for a weight at every step while the shape is."""
        room = self.rooms.get(weight.data_ptr())
        if room is None or room.shape != shape:
            room = self.rooms[weight.data_ptr()] = weight.new_empty(shape)
        return room

    def descend(self, rate: float) -> None:
        """Every weight minus rate times its gradient, in the order of the notes."""
        with torch.no_grad():
            for weight, gradient, factor in self.changes:
                if factor is None:
                    weight.sub_(gradient, alpha=rate)
                else:
                    weight.baddbmm_(gradient, factor, alpha=-rate)
        self.changes.clear()


def covers(module: nn.Module) -> bool:
    """Whether `forward` knows how such networks run."""
    if isinstance(module, Merged):
        return _plain(module.network.encoder) and _plain(module.network.primary)
    if isinstance(module, HyperNetwork):
        linear = [child for child in module.primary.modules() if isinstance(child, nn.Linear)]
        predicted = len(module.shapes) == len(linear) and all(name.endswith("weight") for name in module.shapes)
        joined = isinstance(module.head, Joined) and not module.delta
        return joined and predicted and _plain(module.predictor) and _plain(module.primary)
    return _plain(module)


def _plain(module: nn.Module) -> bool:
    types = [type(child) for child in module] if type(module) is nn.Sequential else []
    return bool(types) and types[0] is nn.Linear and set(types) <= {nn.Linear, nn.ReLU, nn.ELU}


def forward(module: nn.Module, weights: Weights, inputs: tuple[Tensor, ...], tape: Tape) -> Tensor:
    """The networks' outputs (S, B, ...); differentiating what follows fills the tape."""
    tape.changes.clear()
    if isinstance(module, Merged):
        return _merged(module, weights, inputs[0], inputs[1], tape)
    if isinstance(module, HyperNetwork):
        return _hypernetwork(module, weights, inputs[0], inputs[1], tape)
    return _layers(module, weights, "", inputs[0], tape)


def _layers(modules: nn.Module, weights: Weights, prefix: str, x: Tensor, tape: Tape) -> Tensor:
    for name, module in modules._modules.items():  # named_children leaves out a module's second place
        if isinstance(module, nn.Linear):
            x = _Linear.apply(x, weights[f"{prefix}{name}.weight"], weights.get(f"{prefix}{name}.bias"), *tape.both)
        else:
            x = _activated(module, x)
    return x


def _activated(module: nn.Module | None, x: Tensor) -> Tensor:
    """In place: both gradients need the result alone."""
    return nn.functional.elu_(x, module.alpha) if isinstance(module, nn.ELU) else torch.relu_(x)


class _Linear(Function):
    """W x + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tape: Tape, anchor: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.tape = tape
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight, bias = ctx.saved_tensors
        ctx.tape.change(weight, gradient.mT, x)
        if bias is not None:
            ctx.tape.change(bias, gradient.sum(1))
        return torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None, None, None, None, None


def _merged(module: Merged, weights: Weights, x: Tensor, context: Tensor, tape: Tape) -> Tensor:
    encoder, primary = module.network.encoder, module.network.primary
    assert isinstance(encoder, nn.Sequential)
    assert isinstance(primary, nn.Sequential)
    hidden = _layers(encoder[:-1], weights, "network.encoder.", context, tape)
    outer = weights["network.primary.0.weight"]
    of_x, of_embedding = outer[..., : x.shape[-1]], outer[..., x.shape[-1] :]
    inner = [weights[f"network.encoder.{len(encoder) - 1}.{leaf}"] for leaf in ("weight", "bias")]
    merged, shift = _TwoLayers.apply(of_embedding, weights["network.primary.0.bias"], *inner, *tape.both)
    beside = torch.baddbmm(shift.unsqueeze(1), hidden, merged.mT)
    y = _Linear.apply(x, of_x, None, *tape.both) + beside
    return _layers(primary[1:], weights, "network.primary.", y, tape)


class _TwoLayers(Function):
    """W (V . + v) + b as one layer: W V and W v + b."""

    @staticmethod
    def forward(
        ctx: Any, outer: Tensor, bias: Tensor, inner: Tensor, inner_bias: Tensor, tape: Tape, anchor: Tensor
    ) -> Any:
        ctx.save_for_backward(outer, bias, inner, inner_bias)
        ctx.tape = tape
        # Rows times matrices here and below: several times as fast as matrices times columns.
        shift = torch.baddbmm(bias.unsqueeze(1), inner_bias.unsqueeze(1), outer.mT)
        return torch.bmm(outer, inner), shift.squeeze(1)

    @staticmethod
    def backward(ctx: Any, of_merged: Tensor, of_shift: Tensor) -> Any:
        outer, bias, inner, inner_bias = ctx.saved_tensors
        of_outer = torch.bmm(of_merged, inner.mT, out=ctx.tape.room(outer, *outer.shape))
        of_outer.baddbmm_(of_shift.unsqueeze(-1), inner_bias.unsqueeze(1))
        of_inner_bias = torch.bmm(of_shift.unsqueeze(1), outer).squeeze(1)
        # The outer weight last: the inner one's gradient is a product with its old value.
        ctx.tape.change(inner, outer.mT, of_merged)
        for weight, gradient in ((inner_bias, of_inner_bias), (bias, of_shift), (outer, of_outer)):
            ctx.tape.change(weight, gradient)
        return None, None, None, None, None, None


def _hypernetwork(module: HyperNetwork, weights: Weights, x: Tensor, context: Tensor, tape: Tape) -> Tensor:
    head = module.head
    assert isinstance(head, Joined)
    code = _layers(module.predictor, weights, "predictor.", context, tape)
    predicted: dict[int, list[Tensor]] = {}
    for number, (group, sizes) in enumerate(zip(head.groups, head.sizes, strict=True)):
        for leaf in ("templates", "base"):
            parts = weights[f"head.{leaf}.{number}"].split(sizes, -1)
            for n, part in zip(group, parts, strict=True):
                predicted.setdefault(n, []).append(part.unflatten(-1, matrix_shape(head.shapes[n])))
    matrices = iter(predicted[n] for n in range(len(predicted)))
    assert isinstance(module.primary, nn.Sequential)
    for child in module.primary:
        linear = isinstance(child, nn.Linear)
        x = _Predicted.apply(x, code, *next(matrices), *tape.both) if linear else _activated(child, x)
    return x


class _Predicted(Function):
    """(base + sum_k code_k T_k) x, with a code (S, B, k) for every sample and templates T (S, k, j, i)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, code: Tensor, templates: Tensor, base: Tensor, tape: Tape, anchor: Tensor
    ) -> Tensor:
        k, j = templates.shape[1:3]
        flat = templates.flatten(1, 2)
        parts = torch.bmm(x, flat.mT, out=tape.room(templates, *x.shape[:2], k * j))
        y = torch.bmm(x, base.mT)
        y.view(-1, 1, j).baddbmm_(code.reshape(-1, 1, k), parts.view(-1, k, j))
        ctx.save_for_backward(x, code, templates, base, flat, parts)
        ctx.tape = tape
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, code, templates, base, flat, parts = ctx.saved_tensors
        k, j = templates.shape[1:3]
        of_code = torch.bmm(gradient.reshape(-1, 1, j), parts.view(-1, k, j).mT).view_as(code)
        of_parts = torch.mul(code.unsqueeze(-1), gradient.unsqueeze(-2), out=parts.view(*code.shape, j)).flatten(2)
        of_x = torch.bmm(gradient, base).baddbmm_(of_parts, flat) if ctx.needs_input_grad[0] else None
        if flat.data_ptr() == templates.data_ptr():
            ctx.tape.change(flat, of_parts.mT, x)
        else:  # a part of a larger parameter: `flat` is a copy, of no use any more
            ctx.tape.change(templates, torch.bmm(of_parts.mT, x, out=flat).view_as(templates))
        ctx.tape.change(base, gradient.mT, x)
        return of_x, of_code, None, None, None, None
