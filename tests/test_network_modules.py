"""HyperNetwork around modules that people have: attention, cells, normalised weights, odd parameters, odd results."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from fastweights import HyperNetwork, heads

B, N = 3, 2


class Attends(nn.Module):
    """nn.MultiheadAttention without attention weights: its second result is None."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        y, weights = self.attention(x, x, x, need_weights=False)
        return {"y": y, "weights": weights}


class Scaled(nn.Module):
    """A parameter without axes, as a temperature is."""

    def __init__(self):
        super().__init__()
        self.linear, self.temperature = nn.Linear(8, 3), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.linear(x) * self.temperature


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.InstanceNorm2d(4, affine=True)
        self.up, self.out = nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.out(torch.cat([x, self.up(self.norm(self.down(x)).relu())], 1))


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3))

    def forward(self, x):
        return self.linear(x)


def transformer():
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


MODULES = {
    "attention": (Attends, (5, 8)),
    "transformer": (transformer, (5, 8)),
    "transformer in eval": (lambda: transformer().eval(), (5, 8)),
    "lstm cell": (lambda: nn.LSTMCell(8, 4), (8,)),
    "gru cell": (lambda: nn.GRUCell(8, 4), (8,)),
    "gru": (lambda: nn.GRU(8, 4, batch_first=True), (5, 8)),
    "u-net": (UNet, (3, 4, 6)),
    "spectral norm in eval": (lambda: Spectral().eval(), (8,)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)), (8,)),
    "temperature": (Scaled, (8,)),
}
HEADS = {"linear": (heads.Linear(), False), "low rank": (heads.LowRank(2), True), "chunked": (heads.Chunked(50), False)}


def build(primary, head="linear", **options):
    torch.manual_seed(0)
    setting, delta = HEADS[head]
    hyper = HyperNetwork(primary.double(), nn.Linear(4, 3).double(), head=setting, delta=delta, **options)
    with torch.no_grad():
        for parameter in hyper.head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return hyper


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", MODULES)
def test_results_and_gradients_are_those_of_baked_modules(name, head):
    module, size = MODULES[name]
    hyper = build(module(), head)
    x, context = torch.randn(B, N, *size).double(), torch.randn(B, 4).double()
    inputs = [*hyper.predictor.parameters(), *hyper.head.parameters()]
    leaves, spec = tree_flatten(hyper(x, context, grouped=True))
    for b in range(B):
        wanted, same = tree_flatten(hyper.bake(context[b])(x[b]))
        assert spec == same
        for leaf, one in zip(leaves, wanted, strict=True):
            assert (leaf is None) == (one is None)
            if one is not None:
                torch.testing.assert_close(leaf[b], one, rtol=1e-10, atol=1e-10)
    loss = sum(leaf.square().sum() for leaf in leaves if leaf is not None)
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    by_hand = 0
    for b in range(B):  # one context for all samples: no vmap, no products of many contexts
        results = tree_flatten(hyper(x[b], context[b]))[0]
        by_hand = by_hand + sum(leaf.square().sum() for leaf in results if leaf is not None)
    for one, other in zip(found, torch.autograd.grad(by_hand, inputs, allow_unused=True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_attention_keeps_its_fast_path_elsewhere():
    hyper = build(transformer().eval())
    assert torch.backends.mha.get_fastpath_enabled()
    hyper(torch.randn(B, N, 5, 8).double(), torch.randn(B, 4).double(), grouped=True)
    assert torch.backends.mha.get_fastpath_enabled()


def test_spectral_norm_in_training_takes_a_step_a_context():
    hyper = build(Spectral())
    x, context = torch.randn(B, N, 8).double(), torch.randn(B, 4).double()
    before = [buffer.clone() for buffer in hyper.primary.buffers()]
    assert hyper.routes(x, context, grouped=True) == {"*": "loop"}
    for buffer, start in zip(hyper.primary.buffers(), before, strict=True):
        assert not torch.equal(buffer, start)
        buffer.copy_(start)
    y = hyper(x, context, grouped=True)
    for buffer, start in zip(hyper.primary.buffers(), before, strict=True):
        buffer.copy_(start)
    expected = torch.stack([hyper(x[b], context[b]) for b in range(B)])
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_none_among_results(route):
    hyper = build(Attends(), route=route)
    x, context = torch.randn(B, 5, 8).double(), torch.randn(B, 4).double()
    y = hyper(x, context)
    assert y["y"].shape == (B, 5, 8)
    assert y["weights"] is None


def test_what_vmap_refuses_names_the_way_out():
    class Branches(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x.new_zeros(len(x), self.out_features)

    hyper = build(Branches(8, 3))
    x, context = torch.randn(B, 8).double(), torch.randn(B, 4).double()
    with pytest.raises(RuntimeError) as caught:
        hyper(x, context)
    assert "HyperNetwork ran Branches by torch.vmap" in caught.value.__notes__[0]
    assert "route='loop'" in caught.value.__notes__[0]
    hyper.route = "loop"
    assert hyper(x, context).shape == (B, 3)


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_a_result_that_is_no_tensor(route):
    class Counts(nn.Linear):
        def forward(self, x):
            return super().forward(x), x.shape[0]

    with pytest.raises(TypeError, match="the primary gave a int, expected tensors or None, in tuples, lists or dicts"):
        build(Counts(8, 3), route=route)(torch.randn(B, 8).double(), torch.randn(B, 4).double())
