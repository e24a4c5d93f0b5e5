"""State dicts of timm (its names, shapes and formulas written out here) and of torch give the same outputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastweights.zoo import interop


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hidden", [2, 8])  # timm rounds C / 16 to a multiple of 8
def test_timm_se_module(hidden):
    shapes = {"fc1.weight": (hidden, 6, 1, 1), "fc1.bias": (hidden,), "fc2.weight": (6, hidden, 1, 1), "fc2.bias": (6,)}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    x = torch.randn(3, 6, 5, 4)
    y = x.mean((2, 3), keepdim=True)
    y = F.relu(F.conv2d(y, state["fc1.weight"], state["fc1.bias"]))
    y = F.conv2d(y, state["fc2.weight"], state["fc2.bias"])
    close(interop.from_timm_se_module(state)(x), x * y.sigmoid())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_timm_cond_conv(bias, stride):
    """timm: one grouped convolution with the mixed weights of the batch."""
    b, i, j, f, experts = 3, 2, 4, 3, 5
    state = {"weight": torch.randn(experts, j * i * f * f)} | ({"bias": torch.randn(experts, j)} if bias else {})
    x, routing = torch.randn(b, i, 7, 6), torch.rand(b, experts)
    weight = (routing @ state["weight"]).view(b * j, i, f, f)
    mixed = (routing @ state["bias"]).view(b * j) if bias else None
    y = F.conv2d(x.reshape(1, b * i, 7, 6), weight, mixed, stride=stride, padding=f // 2, groups=b)
    layer = interop.from_timm_cond_conv(state, i, f, stride=stride)
    close(layer(x, routing), y.view(b, j, *y.shape[-2:]))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, experts), nn.Sigmoid())
    close(interop.from_timm_cond_conv(state, i, f, stride=stride, routing=head)(x), layer(x, head(x)))


def test_timm_spatial_gating_unit():
    shapes = {"norm.weight": (4,), "norm.bias": (4,), "proj.weight": (5, 5), "proj.bias": (5,)}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    x = torch.randn(2, 5, 8)
    u, v = x.chunk(2, dim=-1)
    v = F.layer_norm(v, (4,), state["norm.weight"], state["norm.bias"])
    v = F.linear(v.transpose(-1, -2), state["proj.weight"], state["proj.bias"])
    close(interop.from_timm_spatial_gating_unit(state)(x), u * v.transpose(-1, -2))


@pytest.mark.parametrize("bias", [False, True])
def test_torch_multihead_attention(bias):
    source = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)
    for parameter in source.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = interop.from_torch_multihead_attention(source.state_dict(), 3)
    x, queries = torch.randn(2, 7, 12), torch.randn(2, 5, 12)
    close(layer(x), source(x, x, x)[0])
    close(layer(x, queries), source(queries, x, x)[0])


def test_the_type_of_the_parameters_is_kept():
    state = {name: value.double() for name, value in nn.MultiheadAttention(4, 2).state_dict().items()}
    assert interop.from_torch_multihead_attention(state, 2).output.weight.dtype == torch.float64


def test_other_state_dicts_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"no state dict of timm's SEModule: missing .*'fc1.bias'.*not expected \['bn'\]"
    ):
        interop.from_timm_se_module({"bn": torch.zeros(1)})
    separate = nn.MultiheadAttention(4, 2, kdim=3, vdim=3).state_dict()
    with pytest.raises(ValueError, match=r"missing .'in_proj_weight'.*'k_proj_weight'"):
        interop.from_torch_multihead_attention(separate, 2)
    with pytest.raises(ValueError, match="55 numbers an expert are no multiple of 2 x 3 x 3"):
        interop.from_timm_cond_conv({"weight": torch.zeros(2, 55)}, 2, 3)
