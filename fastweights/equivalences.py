"""Published layers as one another: exact rewritings that change more than a structure.

`convert` turns a structure into gates for every code. Here the layer around it changes too: a gate takes in the fixed
layer behind it, an attention of fixed lengths becomes gates, a linear attention becomes a predicted matrix.
"""

from __future__ import annotations

from typing import Any, cast, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Axes, Channels, Patches, Sequence
from fastweights.codes import Code, pointwise
from fastweights.convert import to_gated
from fastweights.layer import PredictedWeight
from fastweights.split_gates import AbsorbedSplitGate
from fastweights.structures import Direct, Gated, Outer, Structure
from fastweights.zoo import SimpleGate, SpatialGatingUnit


@overload
def absorb(gate: PredictedWeight, after: nn.Module) -> PredictedWeight: ...
@overload
def absorb(gate: SimpleGate | SpatialGatingUnit, after: nn.Module) -> AbsorbedSplitGate: ...
def absorb(
    gate: PredictedWeight | SimpleGate | SpatialGatingUnit, after: nn.Module
) -> PredictedWeight | AbsorbedSplitGate:
    """A gating layer and the fixed layer behind it as one gated layer: `W (s . x) + b = [W diag(s)] x + b`.

    Squeeze-and-excitation, FiLM, simplified channel attention and the gates of modulated periodic activations are
    gates without fixed layers of their own (V the identity); this gives them the next layer as U (Eq. 25; Sec. 5: the
    second fixed layer of a gated double layer is absorbed by the layer that follows). With the layer in front too, see
    `split_gates.between`.

    Args:
        gate: `Gated` with the identity on both sides, on Channels; a predicted shift (FiLM) passes through W. Or
            `SimpleGate` or `SpatialGatingUnit`, whose gates are made of the other half of their input.
        after: `nn.Linear` for features that stand last; on maps `nn.Conv2d` without groups or dilation: 1 x 1, or f x f
            with f odd, stride 1, (f - 1) / 2 zeros as border, and neither bias nor shift.

    Returns:
        A layer with the call of `gate` and the result of `after(gate(x, context))`. It has the gate's own predictor
        and a copy of `after`, trainable. For a gate of halves its part is that layer.

    Raises:
        TypeError: another layer, or a shift or bias that would have to pass a border of zeros.
        ValueError: sizes that do not fit.

    >>> from fastweights import zoo
    >>> gate, after, x = zoo.SqueezeExcitation(32), nn.Conv2d(32, 8, 3, padding=1, bias=False), torch.randn(2, 32, 5, 6)
    >>> torch.allclose(absorb(gate, after)(x), after(gate(x)), atol=1e-5)
    True
    """
    if isinstance(gate, SimpleGate | SpatialGatingUnit):
        return AbsorbedSplitGate(absorb(gate.gate, after), -3 if isinstance(gate, SimpleGate) else -1)
    s, axes = _parts("absorb", gate)
    if not (isinstance(s, Gated) and s.u is None and s.v is None and isinstance(axes, Channels)):
        raise TypeError(f"absorb: {s} on {axes} is no gating layer (Gated, identity on both sides)")
    shifted = gate.bias_features > 0
    if isinstance(after, nn.Linear) and axes.dim == -1:
        weight = after.weight
    elif isinstance(after, nn.Conv2d) and axes.dim == -3:
        _check_convolution(after, shifted)
        weight = after.weight.flatten(1)
    else:
        raise TypeError(
            f"absorb: {type(after).__name__} behind gates on axis {axes.dim}: expected nn.Linear behind axis -1 or "
            "nn.Conv2d behind axis -3; other layers are not linear along the gated axis alone"
        )
    if after.weight.shape[1] != s.code_features:
        raise ValueError(f"absorb: {s.code_features} gates before a layer of {after.weight.shape[1]} inputs")
    f = after.weight.shape[-1] if isinstance(after, nn.Conv2d) else 1
    if f > 1:  # U holds output patches: the kernel flipped
        u = after.weight.detach().flip(-1, -2).movedim(1, -1).flatten(0, 2)
        target = Gated(nn.Parameter(u.clone()), None)
        return PredictedWeight(target, Patches(1, out_kernel_size=f), _OnPixels(gate.predictor))
    u = nn.Parameter(weight.detach().clone())
    if not shifted and after.bias is None:
        return PredictedWeight(Gated(u, None), axes, gate.predictor)
    return PredictedWeight(Gated(u, None), axes, _ShiftThrough(gate, u, after.bias), affine=True)


def at_fixed_size(
    layer: PredictedWeight, in_features: int | None = None, out_features: int | None = None
) -> PredictedWeight:
    """An `Outer` layer as a gated double layer, at one size: in_features x out_features gates (Theorem 3.1).

    The gates are the entries of `f(P Q^T)`, U and V the index matrices. So softmax attention of S_q queries and S_k
    positions is S_q S_k gates, and basis prediction with T frames and f x f taps is T f f J gates a pixel. Nothing is
    saved; it shows what the theorem covers.

    Args:
        layer: with an `Outer` structure, of any f.
        in_features, out_features: S_k and S_q for attention, T f f and J for basis prediction.

    Returns:
        A layer with the same call and result, for inputs of these sizes only (ValueError for others).

    Raises:
        TypeError: no sizes given, or a structure that `convert.to_gated` converts.

    Source: Müller 2024, Theorem 3.1 and Sec. 5.1.3.

    >>> from fastweights import zoo
    >>> layer, x = zoo.DecomposableAttention(6, 4), torch.randn(2, 5, 6)
    >>> gated = at_fixed_size(layer, 5, 5)
    >>> gated.structure.code_features, torch.allclose(gated(x), layer(x), atol=1e-6)
    (25, True)
    """
    structure, _ = _parts("at_fixed_size", layer)
    if not isinstance(structure, Outer):
        raise TypeError(f"at_fixed_size: {type(structure).__name__} is no Outer structure; convert.layer converts it")
    if in_features is None or out_features is None:
        raise TypeError(
            "at_fixed_size: the predicted matrix of an Outer layer has the size of its inputs, and a gated layer has a "
            "fixed number of gates; give in_features= and out_features= (Theorem 3.1 needs their product)"
        )
    target = to_gated(Direct(in_features, out_features)).structure
    return PredictedWeight(target, layer.axes, _Entries(layer, in_features, out_features))


class FastWeightLayer(nn.Module):
    """A linear attention as a hypernetwork layer: `y_t = W p_t`, `W = sum_s x_s q_s^T` predicted from the sequence.

    Part: `part`, Direct on Channels, applied to the queries; what the attention calls x has moved into the context.
    Made by `fast_weight_layer`.
    """

    def __init__(self, predictor: nn.Module, rank: int, channels: int):
        super().__init__()
        self.predictor, self.rank = predictor, rank
        self.part = PredictedWeight(Direct(rank, channels), Channels(), SumOfOuterProducts(rank))

    def forward(self, x: Float[Tensor, "*b s c"], context: Any = None) -> Float[Tensor, "*b t c"]:
        p, q = self.predictor(x if context is None else context)
        return self.part(p.unflatten(-1, (-1, self.rank)), (x, q))


class SumOfOuterProducts(nn.Module):
    """Pair (values x, flat keys q) to the weight written by all of them, `sum_s x_s q_s^T`, flat in (c, r)."""

    def __init__(self, rank: int):
        super().__init__()
        self.rank = rank

    def forward(self, context: tuple[Tensor, Tensor]) -> Float[Tensor, "*b k"]:
        x, q = context
        return torch.einsum("...sc,...sr->...cr", x, q.unflatten(-1, (-1, self.rank))).flatten(-2)


def fast_weight_layer(layer: PredictedWeight, channels: int) -> FastWeightLayer:
    """Linear attention as a fast weight: a predicted channels x rank matrix, applied to every query.

    Args:
        layer: `Outer` with f = identity on Sequence, as `zoo.LinearAttention`.
        channels: of the x that it mixes.

    Returns:
        A module with the same call and result, and the same predictor.

    Raises:
        TypeError: f is not the identity: a softmax needs all scores of a query before any sum over positions, so no
            matrix of fixed size holds the sequence; a causal memory has another matrix in every step.

    Source: Schlag et al. 2021; Müller 2024, Sec. 5.1.3.

    >>> from fastweights import zoo
    >>> layer, x = zoo.LinearAttention(6, rank=4), torch.randn(2, 5, 6)
    >>> torch.allclose(fast_weight_layer(layer, 6)(x), layer(x), atol=1e-5)
    True
    """
    structure, axes = _parts("fast_weight_layer", layer)
    if not isinstance(structure, Outer) or not isinstance(axes, Sequence):
        raise TypeError(f"fast_weight_layer: {structure} on {axes} is no linear attention (Outer on Sequence)")
    if structure.f is not None:
        raise TypeError(
            f"fast_weight_layer: f is {structure.extra_repr().split('f=')[1]}, expected the identity: no matrix of "
            "fixed size holds what f makes of all scores"
        )
    return FastWeightLayer(layer.predictor, structure.rank, channels)


def _parts(function: str, layer: nn.Module) -> tuple[Structure, Axes]:
    if not isinstance(layer, PredictedWeight):
        raise TypeError(f"{function}: {type(layer).__name__} is no PredictedWeight; give the one inside it, if any")
    return layer.structure, layer.axes


class _OnPixels(nn.Module):
    """Gates of an image (B, C) as a pixel code (B, C, 1, 1); pixel codes as they are."""

    def __init__(self, predictor: nn.Module):
        super().__init__()
        self.predictor = predictor

    def forward(self, context: Any) -> Code:
        code = self.predictor(context)
        return code[..., None, None] if isinstance(code, Tensor) and code.ndim == 2 else code


class _ShiftThrough(nn.Module):
    """Gates and the shift behind the fixed layer: (s, W t + b) from (s, t), or (s, b) where nothing is shifted."""

    def __init__(self, gate: PredictedWeight, weight: nn.Parameter, bias: Tensor | None):
        super().__init__()
        self.predictor, self.axes, self.shift = gate.predictor, gate.axes, gate.bias_features
        self.weight = weight
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, context: Any) -> Code:
        return pointwise(self._mapped, self.predictor(context))

    def _mapped(self, numbers: Tensor) -> Tensor:
        axis = self.axes.code_axis(numbers)
        code = numbers.movedim(axis, -1)
        gates = code[..., : code.shape[-1] - self.shift]
        if self.shift:
            behind = F.linear(code[..., -self.shift :], self.weight, self.bias)
        else:
            behind = cast(Tensor, self.bias).expand(*gates.shape[:-1], -1)
        return torch.cat([gates, behind.to(gates.dtype)], dim=-1).movedim(-1, axis)


class _Entries(nn.Module):
    """The entries of an Outer layer's matrix as a code, flat in (j, i)."""

    def __init__(self, layer: PredictedWeight, in_features: int, out_features: int):
        super().__init__()
        self.predictor, self.outer, self.axes = layer.predictor, layer.structure, layer.axes
        self.size = (out_features, in_features)

    def forward(self, context: Any) -> Tensor:
        code = self.predictor(context)
        axis = self.axes.code_axis(code[0])
        matrix = self.outer.materialize(tuple(self.axes.code_last(part) for part in code))
        if matrix.shape[-2:] != self.size:
            raise ValueError(
                f"at_fixed_size: the predicted matrix has {tuple(matrix.shape[-2:])} entries, expected {self.size} "
                "(out, in), the size that the gates were made for"
            )
        return matrix.flatten(-2).movedim(-1, axis)


def _check_convolution(after: nn.Conv2d, shifted: bool) -> None:
    f = after.kernel_size[0]
    odd = after.kernel_size == (f, f) and f % 2 == 1
    same = after.padding in ((f // 2, f // 2), "same") and after.stride == (1, 1) and after.padding_mode == "zeros"
    if after.groups != 1 or after.dilation != (1, 1) or not (odd and same):
        raise TypeError(
            f"absorb: {after} behind a gate: expected one group, no dilation, stride 1 and (f - 1) / 2 zeros as border"
        )
    if f > 1 and (shifted or after.bias is not None):
        raise TypeError(
            f"absorb: {after}: a predicted shift or a bias does not pass an f x f convolution as one number a channel; "
            "use 1 x 1, or bias=False and no shift"
        )
