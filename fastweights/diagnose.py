"""Is a hypernetwork alive? What its predicted weights do over contexts, and where gradients go."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fastweights.network import HyperNetwork
from fastweights.structures import Mixture

TINY = 1e-6  # a relative variation below this is rounding


@dataclass(frozen=True)
class TensorDiagnosis:
    """One predicted tensor.

    variation: root mean square over contexts of its difference from the mean over contexts, over its own.
    distance: root mean square of its difference from the base, over the base's; None without a base.
    effective_rank: exp of the entropy of the squared singular values of weights centred over contexts; 0: no variation.
    gradient: norm of a random loss's gradient by this tensor.
    next_variation: the variation after one step of gradient descent on head and predictor.
    """

    name: str
    variation: float
    distance: float | None
    effective_rank: float
    gradient: float
    next_variation: float

    @property
    def dead(self) -> bool:
        """The same for all contexts, and after a step still."""
        return self.variation <= TINY and self.next_variation <= TINY


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; `print` shows it.

    head_reached, predictor_reached: share of their parameters that get a gradient other than zero; 1 without any.
    head_gradient, predictor_gradient: norms of these gradients.
    """

    tensors: tuple[TensorDiagnosis, ...]
    head_gradient: float
    head_reached: float
    predictor_gradient: float
    predictor_reached: float

    @property
    def verdict(self) -> str:
        """One of alive; asleep: one network for all contexts, but the next step may change it; dead: it never will."""
        varies = any(tensor.variation > TINY for tensor in self.tensors)
        learns = (
            self.head_reached > 0 and self.predictor_reached > 0 and self.head_gradient + self.predictor_gradient > 0
        )
        if varies:
            return "alive" if learns else "asleep"
        return "dead" if all(tensor.dead for tensor in self.tensors) else "asleep"

    def __str__(self) -> str:
        meaning = {
            "alive": "weights vary over contexts and the predictor learns",
            "asleep": "one network for all contexts, or no gradient for the predictor yet; look again after a step",
            "dead": "no gradient can make the weights depend on the context; start head or predictor not at zero",
        }
        lines = [f"{self.verdict}: {meaning[self.verdict]}"]
        for part in ("head", "predictor"):
            norm, reached = getattr(self, f"{part}_gradient"), getattr(self, f"{part}_reached")
            lines.append(f"{part:9} gradient {norm:.1e}, reaches {reached:.0%} of its parameters")
        width = max(len(tensor.name) for tensor in self.tensors)
        lines.append(f"{'tensor':{width}}  variation  distance  rank  gradient")
        for tensor in self.tensors:
            distance = "       -" if tensor.distance is None else f"{tensor.distance:8.1e}"
            lines.append(
                f"{tensor.name:{width}}   {tensor.variation:8.1e}  {distance}  {tensor.effective_rank:4.1f}  "
                f"{tensor.gradient:8.1e}{'  dead' if tensor.dead else ''}"
            )
        return "\n".join(lines)


def diagnose(model: nn.Module, x: Any, context: Any, *, grouped: bool = False) -> Diagnosis:
    """Measures whether predicted weights depend on the context, and whether gradients reach what predicts them.

    Args:
        model: it is left as it is, but for running statistics in training.
        x, context, grouped: as for a call; a batch of at least two different contexts.

    Raises:
        TypeError: no HyperNetwork. ValueError: fewer than two contexts; predicted weights that are not finite.

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...>
    >>> model = HyperNetwork(nn.Linear(5, 2), nn.Linear(7, 16), delta=True)
    >>> diagnose(model, torch.randn(4, 5), torch.randn(4, 7)).verdict  # starts at a change of zero
    'asleep'
    """
    if not isinstance(model, HyperNetwork):
        raise TypeError(f"diagnose: {type(model).__name__} given, expected a fastweights.HyperNetwork")
    with torch.enable_grad():
        weights = model.weights(context)
        name, first = next(iter(weights.items()))
        if first.ndim == len(model.shapes[name]) or first.shape[0] < 2:
            raise ValueError("diagnose: one context given, expected a batch of at least two different ones")
        broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if broken:
            raise ValueError(f"diagnose: NaN or infinite numbers in the predicted {', '.join(broken)}")
        head, predictor = (_trained(part) for part in (model.head, model.predictor))
        y = model.call_with(weights, x, grouped=grouped)
        generator = torch.Generator().manual_seed(0)
        leaves = [leaf for leaf in tree_leaves(y) if leaf.requires_grad]
        draws = [torch.randn(leaf.shape, generator=generator).to(leaf) for leaf in leaves]
        wanted = [*weights.values(), *head, *predictor]
        if not leaves:
            gradients: list[Tensor | None] = [None] * len(wanted)
        else:
            found = iter(torch.autograd.grad(leaves, [w for w in wanted if w.requires_grad], draws, allow_unused=True))
            gradients = [next(found) if w.requires_grad else None for w in wanted]
    rest = gradients[len(weights) :]
    stepped = _stepped(model, [*head, *predictor], rest).weights(context)
    tensors = []
    for number, (name, weight) in enumerate(weights.items()):
        flat, base = weight.detach().flatten(1), _base(model, number, name)
        distance = None if base is None or not base.any() else _rms(flat - base.flatten()) / _rms(base)
        rank, gradient = _effective_rank(flat - flat.mean(0)), _norm([gradients[number]])
        after = _variation(stepped[name].detach().flatten(1))
        tensors.append(TensorDiagnosis(name, _variation(flat), distance, rank, gradient, after))
    head_part, predictor_part = rest[: len(head)], rest[len(head) :]
    return Diagnosis(
        tuple(tensors), _norm(head_part), _reached(head_part), _norm(predictor_part), _reached(predictor_part)
    )


def _stepped(model: HyperNetwork, parameters: list[Tensor], gradients: list[Tensor | None]) -> HyperNetwork:
    """A copy after a step of a tenth of the parameters' norm."""
    copied = copy.deepcopy(model)
    norm = _norm(gradients)
    if norm:
        step = 0.1 * _norm(list(parameters)) / norm
        with torch.no_grad():
            for parameter, gradient in zip(
                [*_trained(copied.head), *_trained(copied.predictor)], gradients, strict=True
            ):
                parameter -= 0 if gradient is None else step * gradient
    return copied


def _trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _base(model: HyperNetwork, number: int, name: str) -> Tensor | None:
    if model.delta:
        return model.primary.get_parameter(name).detach()
    structure = model.head.structures[number]
    return structure.base.detach() if isinstance(structure, Mixture) and structure.base is not None else None


def _effective_rank(centred: Float[Tensor, "b n"]) -> float:
    """Of B weights the Gram matrix is small, whatever their size."""
    energy = torch.linalg.eigvalsh((centred @ centred.T).double()).clamp(min=0)
    if energy.sum() == 0:
        return 0.0
    share = energy / energy.sum()
    return torch.special.entr(share).sum().exp().item()


def _variation(flat: Float[Tensor, "b n"]) -> float:
    return _rms(flat - flat.mean(0)) / _rms(flat) if flat.any() else 0.0


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


def _norm(gradients: list[Tensor | None]) -> float:
    return sum(g.square().sum().item() for g in gradients if g is not None) ** 0.5


def _reached(gradients: list[Tensor | None]) -> float:
    return sum(g is not None and bool(g.any()) for g in gradients) / len(gradients) if gradients else 1.0
