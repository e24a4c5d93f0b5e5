"""Primaries and heads that the tests of `HyperNetwork` run through, and the loop over contexts they are held to."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from fastweights import HyperNetwork, heads

FEATURES = 3


def mlp():
    return nn.Sequential(
        nn.Linear(5, 7), nn.Tanh(), nn.Sequential(nn.Linear(7, 4, bias=False), nn.ELU()), nn.Linear(4, 2)
    )


def normed_mlp():
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.GroupNorm(2, 6), nn.Linear(6, 2))


def conv_net():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, stride=2),
        nn.GroupNorm(3, 6),
        nn.ELU(),
        nn.Conv2d(6, 4, (1, 3), padding="same", groups=2, bias=False),
        nn.BatchNorm2d(4).eval(),
        nn.Conv2d(4, 3, 3, dilation=(2, 1), padding="valid", bias=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


class Residual(nn.Module):
    """No chain: a branch, functions, a tied weight, and two inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(5, 5), nn.Linear(5, 5)
        self.again.weight = self.first.weight
        self.norm = nn.BatchNorm1d(5)
        self.out = nn.Bilinear(5, 4, 2)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x, z=None):
        z = x[:, :4] if z is None else z
        x = x + torch.tanh(self.first(x))
        x = self.norm(x - self.again(x).sin())
        return self.out(x, z)


PRIMARIES = {
    "mlp": (mlp, (5,)),
    "normed_mlp": (normed_mlp, (5,)),
    "conv_net": (conv_net, (2, 11, 9)),
    "residual": (lambda: Residual().eval(), (5,)),
}
HEADS = {
    "none": (None, False),
    "linear": (heads.Linear(), False),
    "linear delta": (heads.Linear(), True),
    "per tensor": (heads.PerTensor(hidden=4), False),
    "chunked": (heads.Chunked(size=10, embedding=2, hidden=5), False),
    "low rank": (heads.LowRank(rank=2), True),
    "gated": (heads.GatedWeights(gates=5), False),
    "gated delta": (heads.GatedWeights(), True),
}


class Block(nn.Module):
    """Of a ResNet: two convolutions and a shortcut."""

    def __init__(self, channels, out, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = norm(out), norm(out)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(norm):
    blocks = (Block(4, 4, 1, norm), Block(4, 6, 2, norm))
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def build(primary, head, delta=False, predict="*", **options):
    """A hypernetwork in float64 with every parameter random, so that nothing hides behind a zero."""
    torch.manual_seed(0)
    names = [name for name, _ in primary.named_parameters()]
    numbers = sum(p.numel() for p in primary.parameters())
    predictor = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, numbers if head is None else FEATURES))
    hyper = HyperNetwork(primary.double(), predictor.double(), predict, head=head, delta=delta, **options)
    assert names
    with torch.no_grad():
        for parameter in hyper.parameters():
            parameter.normal_(std=0.4)
    return hyper


def written_out(hyper, setting, delta, context):
    """All predicted tensors of one context, from the head's parameters by the formulas of its docstring."""
    features, found, flat = hyper.predictor(context), {}, 0
    if isinstance(setting, heads.Chunked):
        emitted = []
        for embedding in hyper.head.embeddings:
            weight = torch.cat([hyper.head.from_features.weight, hyper.head.from_chunk.weight], 1)
            hidden = weight @ torch.cat([features, embedding]) + hyper.head.from_features.bias
            emitted.append(hyper.head.emit.weight @ hidden.clamp(min=0) + hyper.head.emit.bias)
        features = torch.cat(emitted)
    for number, (name, shape) in enumerate(hyper.shapes.items()):
        structure, size = hyper.head.structures[number], torch.Size(shape).numel()
        if setting is None or isinstance(setting, heads.Chunked):
            value = features[flat : flat + size]
            fan = shape[0] if len(shape) == 1 else size // shape[0]
            value, flat = value if setting is None else value / (3 * fan) ** 0.5, flat + size
        elif isinstance(setting, heads.Linear | heads.PerTensor) or len(shape) == 1:
            code = features
            if isinstance(setting, heads.PerTensor):
                first = hyper.head.coders[number][0]
                code = (first.weight @ features + first.bias).clamp(min=0)
            value = sum(c * t for c, t in zip(code, structure.templates, strict=True))
            value = value if structure.base is None else value + structure.base
        elif isinstance(setting, heads.LowRank):
            coder = hyper.head.coders[number]
            b = (coder.b.weight @ features + coder.b.bias).view(-1, setting.rank)
            a = (coder.a.weight @ features + coder.a.bias).view(-1, setting.rank)
            value = b @ a.T
        else:
            coder = hyper.head.coders[number]
            value = structure.u @ torch.diag(coder.weight @ features + coder.bias) @ structure.v
        found[name] = value.reshape(shape) + (hyper.primary.get_parameter(name) if delta else 0)
    return found


def loop(hyper, setting, delta, original, x, context, grouped):
    """g(x_b; f(I_b)) for one context after the other."""
    results = []
    for b in range(len(context)):
        weights = dict(original.named_parameters()) | dict(hyper.primary.named_parameters())
        weights |= written_out(hyper, setting, delta, context[b])
        results.append(functional_call(original, weights, (x[b] if grouped else x[b : b + 1],)))
    return torch.stack(results) if grouped else torch.cat(results)


def assert_equal_with_gradients(expected, got, inputs):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, inputs, cotangent, allow_unused=True, retain_graph=True)
    for one, other in zip(torch.autograd.grad(got, inputs, cotangent, allow_unused=True), wanted, strict=True):
        # What no loss depends on may be None on one side and zeros on the other.
        one, other = (torch.zeros(()) if g is None or not g.any() else g for g in (one, other))
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
