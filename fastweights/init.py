"""Initialisation of hypernetworks: what scale the head must have so that the primary network starts well.

All change a `HyperNetwork` whose weights are linear in features (`heads.Linear`, `heads.PerTensor`) in place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.network import HyperNetwork
from fastweights.structures import Mixture


@dataclass(frozen=True)
class _Layer:
    """One layer of the primary and the mixtures that predict its weight and its bias."""

    weight: Mixture
    bias: Mixture | None
    fan_in: int
    fan_out: int
    relu: bool


def hyperfan_in(network: HyperNetwork, feature_variance: float = 1.0, relu: bool | None = None) -> None:
    r"""Keeps the variance of the primary's activations from layer to layer (Chang 2020, hyperfan-in).

    Templates of a weight get `Var = 2^relu / (2^hb d_in k Var(e))`, those of a bias `2^relu / (2 k Var(e))`, the bases
    zero; hb is 1 where the bias of the layer is predicted too, k the number of features e, Var(e) their mean square.
    Features whose length varies over contexts vary the scale of every layer alike, which compounds with depth.

    Args:
        network: with delta=False.
        feature_variance: mean square of the features that the predictor emits.
        relu: whether layers are followed by a ReLU; None looks into the primary's Sequentials.

    Raises:
        TypeError: a head whose weights are not linear in features. ValueError: delta=True, or no weight predicted.

    Source: Chang 2020, "Principled weight initialization for hypernetworks".

    >>> network = HyperNetwork(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1)), nn.Linear(7, 16))
    >>> hyperfan_in(network)
    """
    for layer in _layers(network, "hyperfan_in", relu):
        gain, k = 2.0**layer.relu, layer.weight.code_features * feature_variance
        both = 1 if layer.bias is None else 2
        _draw(layer.weight, gain / (both * layer.fan_in * k))
        if layer.bias is not None:
            _draw(layer.bias, gain / (2 * k))


def hyperfan_out(network: HyperNetwork, feature_variance: float = 1.0, relu: bool | None = None) -> None:
    r"""Keeps the variance of the gradients from layer to layer (Chang 2020, hyperfan-out).

    Templates of a weight get `Var = 2^relu / (d_out k Var(e))`, those of a bias `max(0, 2^relu (1 - d_in / d_out) /
    (k Var(e)))`, the bases zero. Arguments, errors and source as `hyperfan_in`.
    """
    for layer in _layers(network, "hyperfan_out", relu):
        gain, k = 2.0**layer.relu, layer.weight.code_features * feature_variance
        _draw(layer.weight, gain / (layer.fan_out * k))
        if layer.bias is not None:
            _draw(layer.bias, max(0.0, gain * (1 - layer.fan_in / layer.fan_out) / k))


def bias_hyperinit(network: HyperNetwork, primary: nn.Module) -> None:
    """Starts as one ordinary network for every context: templates zero, bases the primary's values (Beck 2023).

    The head then learns from the first step, the predictor from the second (`diagnose` calls it asleep until then).

    Source: Beck 2023, "Hypernetworks in meta-reinforcement learning" (bias-hyperinit).

    >>> primary = nn.Linear(5, 2)
    >>> network = HyperNetwork(primary, nn.Linear(7, 16))
    >>> bias_hyperinit(network, primary)
    >>> x = torch.randn(4, 5)
    >>> torch.allclose(network(x, torch.randn(4, 7)), primary(x), atol=1e-6)
    True
    """
    with torch.no_grad():
        for name, mixture in _mixtures(network, "bias_hyperinit"):
            mixture.templates.zero_()
            if mixture.base is not None:
                mixture.base.copy_(primary.get_parameter(name).view_as(mixture.base))


class MagnitudeInvariant(nn.Module):
    r"""Encodes contexts in [0, 1] with a norm that does not depend on them: `I -> [cos(I pi/2) ; sin(I pi/2)]`.

    Without it the scale of the predicted weights, and of the gradients, is proportional to the context. The other half
    of the parametrisation is `HyperNetwork(..., delta=True)`: predictions are added to learned weights.

    Shapes: context (*b, d) in [0, 1]; the result is (*b, 2 d), of norm sqrt(d).

    Source: Ortiz 2023, "Magnitude invariant parametrizations improve hypernetwork learning".

    >>> MagnitudeInvariant()(torch.rand(4, 3)).square().sum(-1).round(decimals=4)
    tensor([3., 3., 3., 3.])
    """

    def forward(self, context: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        angle = context * (math.pi / 2)
        return torch.cat([angle.cos(), angle.sin()], -1)


def _mixtures(network: HyperNetwork, caller: str) -> Iterator[tuple[str, Mixture]]:
    for name, structure in zip(network.shapes, network.head.structures, strict=True):
        if not isinstance(structure, Mixture):
            raise TypeError(
                f"{caller}: {name} is predicted as {type(structure).__name__}, expected a weight that is linear in the "
                "features; take heads.Linear() or heads.PerTensor()"
            )
        yield name, structure


def _layers(network: HyperNetwork, caller: str, relu: bool | None) -> list[_Layer]:
    if network.delta:
        raise ValueError(f"{caller}: delta=True starts at learned weights and needs no scale; take delta=False")
    mixtures = dict(_mixtures(network, caller))
    followed = _before_relu(network.primary) if relu is None else set()
    layers = []
    for name, mixture in mixtures.items():
        shape, (module, dot, leaf) = network.shapes[name], name.rpartition(".")
        if "weight" not in leaf or len(shape) < 2:
            continue
        taps = math.prod(shape[2:])
        bias = mixtures.get(module + dot + leaf.replace("weight", "bias"))  # in_proj_weight, weight_ih_l0 have theirs
        layers.append(
            _Layer(mixture, bias, shape[1] * taps, shape[0] * taps, module in followed if relu is None else relu)
        )
    if not layers:
        raise ValueError(f"{caller}: no weight of a layer is predicted, only {', '.join(mixtures)}; nothing to scale")
    return layers


def _before_relu(primary: nn.Module) -> set[str]:
    """Names of modules that a ReLU follows in a Sequential."""
    found = set()
    for prefix, module in primary.named_modules():
        if isinstance(module, nn.Sequential):
            children = list(module._modules.items())  # named_children leaves out a module's second place
            for (name, _), (_, following) in itertools.pairwise(children):
                if isinstance(following, nn.ReLU):
                    found.add(f"{prefix}.{name}" if prefix else name)
    return found


def _draw(mixture: Mixture, variance: float) -> None:
    with torch.no_grad():
        bound = (3 * variance) ** 0.5
        mixture.templates.uniform_(-bound, bound)
        if mixture.base is not None:
            mixture.base.zero_()
