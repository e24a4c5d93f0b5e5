"""Layers of other libraries as layers of the zoo, from their state dicts alone; the libraries are not imported.

Each function reads the sizes off the state dict and returns a layer with the same parameters and the same output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastweights.zoo.attention import MultiHeadAttention
from fastweights.zoo.cond_conv import CondConv
from fastweights.zoo.spatial_gating_unit import SpatialGatingUnit
from fastweights.zoo.squeeze_excitation import SqueezeExcitation

State = Mapping[str, Tensor]


def from_timm_se_module(state: State) -> SqueezeExcitation:
    """timm's `SEModule` (fc1, fc2 with biases; ReLU and sigmoid, its defaults) as `SqueezeExcitation`.

    Raises:
        ValueError: names of another module, e.g. one with batch norm.

    >>> state = {"fc1.weight": torch.randn(2, 8, 1, 1), "fc1.bias": torch.randn(2),
    ...          "fc2.weight": torch.randn(8, 2, 1, 1), "fc2.bias": torch.randn(8)}
    >>> from_timm_se_module(state)(torch.randn(1, 8, 4, 5)).shape
    torch.Size([1, 8, 4, 5])
    """
    _check("timm's SEModule", state, {"fc1.weight", "fc2.weight", "fc1.bias", "fc2.bias"})
    hidden, channels = state["fc1.weight"].shape[:2]
    # Any width between the two layers, not only channels / reduction: timm rounds it to a multiple of 8.
    first, second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
    predictor = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), first, nn.ReLU(), second, nn.Sigmoid())
    for name, linear in (("fc1", first), ("fc2", second)):
        _fill(linear.weight, state[f"{name}.weight"].flatten(1))
        _fill(linear.bias, state[f"{name}.bias"])
    return SqueezeExcitation(channels, predictor=predictor).to(state["fc1.weight"].dtype)


def from_timm_cond_conv(
    state: State,
    in_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    routing: nn.Module | None = None,
) -> CondConv:
    """timm's `CondConv2d` (one group, no dilation) as `CondConv`.

    timm keeps the routing outside: its forward takes the routing weights. So does this layer, as its context, unless
    `routing` makes them from the context (timm's blocks: global average pooling, linear, sigmoid).

    Args:
        state: `weight` (K, J I f f), and `bias` (K, J) where there is one.
        in_channels, kernel_size: I and f, which the flat weight does not tell.
        stride, padding: of the convolution; padding None is (f - 1) // 2.
        routing: context to routing weights (B, K).

    >>> layer = from_timm_cond_conv({"weight": torch.randn(4, 16 * 3 * 9)}, 3, 3)
    >>> layer(torch.randn(2, 3, 5, 6), torch.rand(2, 4)).shape
    torch.Size([2, 16, 5, 6])
    """
    _check("timm's CondConv2d", state, {"weight"}, {"bias"})
    experts, numbers = state["weight"].shape
    fan_in = in_channels * kernel_size**2
    if numbers % fan_in:
        raise ValueError(
            f"from_timm_cond_conv: {numbers} numbers an expert are no multiple of {in_channels} x {kernel_size} x "
            f"{kernel_size}; give in_channels and kernel_size of the layer (more than one group is not supported)"
        )
    layer = CondConv(
        in_channels,
        numbers // fan_in,
        kernel_size,
        experts,
        stride=stride,
        padding=padding,
        bias="bias" in state,
        predictor=nn.Identity() if routing is None else routing,
    )
    _fill(layer.structure.get_parameter("templates"), state["weight"].unflatten(1, (-1, fan_in)))
    if "bias" in state:
        _fill(layer.predictor.get_parameter("biases"), state["bias"])
    return layer.to(state["weight"].dtype)


def from_timm_spatial_gating_unit(state: State) -> SpatialGatingUnit:
    """timm's `SpatialGatingUnit` (norm with timm's eps, 1e-5, and proj) as `SpatialGatingUnit`.

    >>> state = {"norm.weight": torch.ones(8), "norm.bias": torch.zeros(8),
    ...          "proj.weight": torch.zeros(5, 5), "proj.bias": torch.ones(5)}
    >>> from_timm_spatial_gating_unit(state)(torch.randn(2, 5, 16)).shape
    torch.Size([2, 5, 8])
    """
    _check("timm's SpatialGatingUnit", state, {"norm.weight", "norm.bias", "proj.weight", "proj.bias"})
    layer = SpatialGatingUnit(2 * len(state["norm.weight"]), len(state["proj.bias"])).to(state["proj.weight"].dtype)
    layer.gate.predictor.load_state_dict(dict(state))
    return layer


def from_torch_multihead_attention(state: State, heads: int) -> MultiHeadAttention:
    """`torch.nn.MultiheadAttention` (one size for queries, keys and values) as `MultiHeadAttention`.

    Its `batch_first=False` is a matter of its forward: here positions always stand before features.

    Args:
        state: in_proj_weight (3 E, E), out_proj.weight (E, E), and their biases where there are some.
        heads: `num_heads`, which the state dict does not tell.

    Raises:
        ValueError: other names, e.g. separate projections (`kdim`) or `add_bias_kv`.

    >>> source = nn.MultiheadAttention(6, 3, batch_first=True)
    >>> x = torch.randn(2, 5, 6)
    >>> torch.allclose(from_torch_multihead_attention(source.state_dict(), 3)(x), source(x, x, x)[0], atol=1e-5)
    True
    """
    _check(
        "torch.nn.MultiheadAttention",
        state,
        {"in_proj_weight", "out_proj.weight"},
        {"in_proj_bias", "out_proj.bias"},
    )
    bias = "in_proj_bias" in state
    layer = MultiHeadAttention(state["out_proj.weight"].shape[0], heads, bias=bias).to(state["out_proj.weight"].dtype)
    predictor = layer.attention.predictor
    names = ("queries.weight", "keys.weight")
    targets = [*(predictor.get_parameter(name) for name in names), layer.values.weight, layer.output.weight]
    for target, value in zip(targets, (*state["in_proj_weight"].chunk(3), state["out_proj.weight"]), strict=True):
        _fill(target, value)
    if bias:
        targets = [predictor.get_parameter(name.replace("weight", "bias")) for name in names]
        targets += [layer.values.bias, layer.output.bias]
        for target, value in zip(targets, (*state["in_proj_bias"].chunk(3), state["out_proj.bias"]), strict=True):
            _fill(target, value)
    return layer


def _check(module: str, state: State, needed: set[str], allowed: set[str] | None = None) -> None:
    missing, strange = needed - set(state), set(state) - needed - (allowed or set())
    if missing or strange:
        raise ValueError(f"no state dict of {module}: missing {sorted(missing)}, not expected {sorted(strange)}")


def _fill(target: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        if target.shape != value.shape:
            raise ValueError(f"a parameter of {tuple(value.shape)} in place of {tuple(target.shape)}")
        target.copy_(value)
