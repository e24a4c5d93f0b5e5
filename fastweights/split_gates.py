"""Gates made of one half of the features for the other, between fixed layers: a predicted weight of limited rank.

NAFNet's SimpleGate and gMLP's spatial gating unit as Müller 2024, Sec. 5, reads them: the fixed layer in front makes
features and gates, the fixed layer behind is absorbed, and the three are one gated double layer.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Axes, Channels, Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated
from fastweights.zoo import SimpleGate, SpatialGatingUnit


class AbsorbedSplitGate(nn.Module):
    """A gate of halves and the fixed layer behind it: `y = W (x_1 . s(x_2))`. Part: `part`, the predicted weight."""

    def __init__(self, part: PredictedWeight, dim: int):
        super().__init__()
        self.part, self.dim = part, dim

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=self.dim)
        return self.part(first, second)


def between(before: nn.Module, gate: SimpleGate | SpatialGatingUnit, after: nn.Module) -> PredictedWeight:
    """`after(gate(before(x)))` as one predicted weight: `y = U diag(s(x)) V x + b(x)`.

    V is the half of `before` that is gated, U is `after`, and the other half of `before`, with what the gate does to
    it, is the predictor. On maps this is kernel prediction: a kernel at every pixel, all of them in one space of as
    many dimensions as there are gates. Biases of the gated half and of `after` are a predicted bias b.

    Args:
        before: `nn.Linear` before a spatial gating unit; before a SimpleGate `nn.Conv2d` of f x f taps, f odd, stride
            1, (f - 1) / 2 as border; groups are written out.
        gate: `SimpleGate` or `SpatialGatingUnit`.
        after: `nn.Linear` or `nn.Conv2d` without groups, as `before`. Where it has more than 1 x 1 taps, neither it nor
            the gated half of `before` has a bias, and both have borders of zeros.

    Returns:
        A layer of x alone; all of it are copies, trainable.

    Raises:
        TypeError: other layers, or biases that would have to pass a border.
        ValueError: sizes that do not fit.

    Source: Müller 2024, Sec. 5; Chen et al. 2022; Liu et al. 2021.

    >>> before, gate, after = nn.Conv2d(3, 16, 3, padding=1), SimpleGate(8), nn.Conv2d(8, 3, 1)
    >>> x = torch.randn(2, 3, 6, 7)
    >>> torch.allclose(between(before, gate, after)(x), after(gate(before(x))), atol=1e-5)
    True
    """
    if not isinstance(gate, SimpleGate | SpatialGatingUnit):
        raise TypeError(f"between: {type(gate).__name__} is no gate of halves (SimpleGate, SpatialGatingUnit)")
    gates = gate.gate.structure.code_features
    assert gates is not None
    _check(before, gate, "before")
    _check(after, gate, "behind")
    assert isinstance(before, nn.Linear | nn.Conv2d)
    assert isinstance(after, nn.Linear | nn.Conv2d)
    if before.weight.shape[0] != 2 * gates or after.weight.shape[1] != gates:
        raise ValueError(
            f"between: {before} before {gates} gates and {after} behind them: expected {2 * gates} features before, "
            f"{gates} behind, in one group"
        )
    axes: Axes = Channels()
    f = 1
    if isinstance(before, nn.Conv2d) and isinstance(after, nn.Conv2d):
        f = after.kernel_size[0]
        axes = Patches(before.kernel_size[0], padding_mode=before.padding_mode, out_kernel_size=f)
    v = _written_out(before)[:gates]
    weight = after.weight.detach()
    if f > 1:
        if before.bias is not None or after.bias is not None or before.padding_mode != "zeros":
            raise TypeError(
                f"between: {after} behind a gate of {before}: a bias, or a border that repeats pixels, does not pass "
                "f x f taps; use 1 x 1, or no biases and zeros as borders"
            )
        u = weight.flip(-1, -2).movedim(1, -1).flatten(0, 2)  # output patches: the kernel flipped
    else:
        u = weight.flatten(1)
    u, v = nn.Parameter(u.clone()), nn.Parameter(v.flatten(1).clone())
    affine = before.bias is not None or after.bias is not None
    return PredictedWeight(Gated(u, v), axes, _OtherHalf(before, gate, after, u, axes), affine=affine)


class _OtherHalf(nn.Module):
    """x to gates, and where there are biases the predicted bias `U (gates . b_before) + b_after`."""

    def __init__(self, before: nn.Module, gate: Any, after: nn.Module, u: nn.Parameter, axes: Axes):
        super().__init__()
        assert isinstance(before, nn.Linear | nn.Conv2d)
        assert isinstance(after, nn.Linear | nn.Conv2d)
        half = len(before.weight) // 2
        self.gates = copy.deepcopy(before)
        self.gates.weight = nn.Parameter(_written_out(before)[half:].clone())
        if isinstance(self.gates, nn.Conv2d):
            self.gates.out_channels, self.gates.groups = half, 1
            self.gates.in_channels = self.gates.weight.shape[1]
        else:
            self.gates.out_features = half
        self.predictor = copy.deepcopy(gate.gate.predictor)
        self.u, self.axes = u, axes
        self.gated_bias = self.bias = None
        if before.bias is not None:
            self.gates.bias = nn.Parameter(before.bias.detach()[half:].clone())
            self.gated_bias = nn.Parameter(before.bias.detach()[:half].clone())
        if after.bias is not None:
            self.bias = nn.Parameter(after.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        gates = self.predictor(self.gates(x))
        if self.gated_bias is None and self.bias is None:
            return gates
        last = self.axes.code_last(gates)
        if self.gated_bias is None:
            shift = last.new_zeros(*last.shape[:-1], len(self.u))
        else:
            shift = F.linear(last * self.gated_bias, self.u)
        if self.bias is not None:
            shift = shift + self.bias
        return torch.cat([last, shift], dim=-1).movedim(-1, self.axes.code_axis(gates))


def _written_out(layer: nn.Linear | nn.Conv2d) -> Float[Tensor, "j i *f"]:
    """The weight of a layer with groups as that of one without."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return weight
    j, i = len(weight), layer.in_channels
    blocks = weight.new_zeros(layer.groups, j // layer.groups, layer.groups, *weight.shape[1:])
    which = torch.arange(layer.groups)
    blocks[which, :, which] = weight.unflatten(0, (layer.groups, -1))
    return blocks.reshape(j, i, *weight.shape[2:])


def _check(layer: nn.Module, gate: nn.Module, where: str) -> None:
    wanted = nn.Conv2d if isinstance(gate, SimpleGate) else nn.Linear
    if not isinstance(layer, wanted):
        raise TypeError(f"between: {type(layer).__name__} {where} {type(gate).__name__}, expected {wanted.__name__}")
    if isinstance(layer, nn.Conv2d):
        f = layer.kernel_size[0]
        odd = layer.kernel_size == (f, f) and f % 2 == 1
        same = layer.padding in ((f // 2, f // 2), "same") and layer.stride == (1, 1) and layer.dilation == (1, 1)
        zeros = where == "before" or layer.padding_mode == "zeros"
        if not (odd and same and zeros):
            raise TypeError(
                f"between: {layer} {where} a gate: expected f x f taps, f odd, stride 1, no dilation and a border of "
                "(f - 1) / 2 pixels" + ("" if where == "before" else " of zeros")
            )
