"""Published cells and models that own a forward: (build, shapes of the inputs, the equation from `oracles`)."""

from collections.abc import Callable
from dataclasses import dataclass

import image_oracles
import sequence_oracles
import torch
from torch import Tensor, nn
from zoo_cases import each

from fastweights import zoo


@dataclass(frozen=True)
class Cell:
    """`oracle(module, *inputs)` is the equation; `parts` names the predicted weights inside, by their dotted names."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]
    oracle: Callable[..., Tensor | tuple[Tensor, ...]]
    parts: tuple[str, ...]

    def make(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        torch.manual_seed(0)
        module = self.build().double()
        # What starts at zero or one would hide mistakes.
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=min(0.5, 1 / parameter[0].numel() ** 0.5))
        return module, tuple(torch.randn(shape, dtype=torch.float64) for shape in self.inputs)


def simple_gate(module, x):
    half = x.shape[1] // 2
    return each(image_oracles.gating, x[:, half:], x[:, :half])


def naf_block(module, x):
    return each(lambda image: image_oracles.naf_block(module, image), x)


def spatial_gating_unit(module, x):
    p = module.gate.predictor
    return each(lambda rows: sequence_oracles.spatial_gating_unit(p.proj.weight, p.proj.bias, p.norm, rows), x)


def modulated_siren(module, x, z):
    sines = [(m.weight, m.bias) for m in module.linears]
    modulators = [(g.predictor[0].weight, g.predictor[0].bias) for g in module.gates]
    last = (module.last.weight, module.last.bias)

    def one(rows, latent):
        return torch.stack(
            [sequence_oracles.modulated_siren(sines, modulators, last, module.omega, row, latent) for row in rows]
        )

    return each(one, x, z)


def dynamic_filter_network(module, frame, state):
    pairs = [image_oracles.dynamic_filter_network(module, *one) for one in zip(frame, state, strict=True)]
    return tuple(torch.stack(part) for part in zip(*pairs, strict=True))


def coda_network(module, x):
    for layer in module.layers:
        first, second, norm = layer.predictor
        one = (first.weight, second.weight[..., 0, 0], second.bias, norm.norm)
        x = each(lambda image, one=one, s=layer.axes.stride: image_oracles.dynamic_alignment_units(*one, image, s), x)
    return x.sum((-1, -2)) / module.temperature + module.bias


def multi_head_attention(module, x, queries):
    maps = (module.attention.predictor.queries, module.attention.predictor.keys, module.values, module.output)
    pairs = [(m.weight, m.bias) for m in maps]
    return each(lambda *one: sequence_oracles.multi_head_attention(pairs, module.heads, *one), x, queries)


def additive_attention(module, x, queries):
    s = module.scores
    parameters = (s.queries.weight, s.queries.bias, s.keys.weight, s.score.weight[0])
    return each(lambda *one: sequence_oracles.additive_attention(*parameters, *one), x, queries)


class HyperLSTMStep(nn.Module):
    """A step with its four states as four tensors."""

    def __init__(self):
        super().__init__()
        self.cell = zoo.HyperLSTMCell(3, 4, 5, 2)

    def forward(self, x, h, c, hyper_h, hyper_c):
        _, ((h, c), (hyper_h, hyper_c)) = self.cell(x, ((h, c), (hyper_h, hyper_c)))
        return h, c, hyper_h, hyper_c


def hyper_lstm(module, *inputs):
    steps = [sequence_oracles.hyper_lstm(module.cell, *one) for one in zip(*inputs, strict=True)]
    return tuple(torch.stack(part) for part in zip(*steps, strict=True))


class FastWeightsStep(nn.Module):
    """A step with its state as two tensors."""

    def __init__(self):
        super().__init__()
        self.cell = zoo.FastWeightsRNNCell(3, 4, steps=2)

    def forward(self, x, h, fast):
        return self.cell(x, (h, fast))[1]


def fast_weights_rnn(module, x, h, fast):
    pairs = [sequence_oracles.fast_weights_step(module.cell, *one) for one in zip(x, h, fast, strict=True)]
    return tuple(torch.stack(part) for part in zip(*pairs, strict=True))


class StaticConvolution(nn.Module):
    """The layer, which makes its kernel once, and its part, which makes one for each image."""

    def __init__(self):
        super().__init__()
        self.layer = zoo.StaticHyperConv2d(4, 6, head=zoo.HyperHead(2, 3, 3, embedding=4, hidden=5), stride=2)

    def forward(self, x):
        return self.layer(x), self.layer.part(x)


def static_convolution(module, x):
    tiles = module.layer.tiles
    rows = [[sequence_oracles.static_kernel(tiles.head, z) for z in row] for row in tiles.embeddings]
    kernel = torch.cat([torch.cat(row, 1) for row in rows], 0)
    y = each(lambda image: image_oracles.convolution(kernel, image, stride=2, padding=1), x)
    return y, y


class Ids(nn.Module):
    """A machine called with the ids of its features."""

    def __init__(self):
        super().__init__()
        self.machine = zoo.FactorizationMachine(5, rank=2)

    def forward(self, ids):
        return self.machine.forward_ids(ids)


CELLS = [
    Cell("SimpleGate", lambda: zoo.SimpleGate(3), ((2, 6, 4, 5),), simple_gate, ("gate",)),
    Cell(
        "NAFBlock",
        lambda: zoo.NAFBlock(4),
        ((2, 4, 5, 3),),
        naf_block,
        ("gate1.gate", "attention", "gate2.gate"),
    ),
    Cell("SpatialGatingUnit", lambda: zoo.SpatialGatingUnit(6, 4), ((3, 4, 6),), spatial_gating_unit, ("gate",)),
    Cell(
        "ModulatedSiren",
        lambda: zoo.ModulatedSiren(2, 3, 4, hidden=5, layers=3, omega=2.0),
        ((4, 4, 2), (4, 4)),
        modulated_siren,
        ("gates.0", "gates.1", "gates.2"),
    ),
    Cell(
        "DynamicFilterNetwork",
        lambda: zoo.DynamicFilterNetwork(3),
        ((2, 1, 4, 6), (2, 128, 2, 3)),
        dynamic_filter_network,
        ("filter",),
    ),
    Cell(
        "CoDANetwork",
        lambda: zoo.CoDANetwork(4, (3, 2), (2, 2), (3, 1), (2, 1), temperature=2.0),
        ((2, 4, 5, 6),),
        coda_network,
        ("layers.0", "layers.1"),
    ),
    Cell(
        "MultiHeadAttention",
        lambda: zoo.MultiHeadAttention(6, 3),
        ((3, 4, 6), (3, 5, 6)),
        multi_head_attention,
        ("attention",),
    ),
    # The part is made for the lengths at hand.
    Cell("AdditiveAttention", lambda: zoo.AdditiveAttention(3, 4, 5), ((2, 5, 4), (2, 3, 3)), additive_attention, ()),
    Cell(
        "HyperLSTMCell",
        HyperLSTMStep,
        ((2, 3), (2, 4), (2, 4), (2, 5), (2, 5)),
        hyper_lstm,
        ("cell.from_x", "cell.from_h"),
    ),
    Cell("FastWeightsRNNCell", FastWeightsStep, ((2, 3), (2, 4), (2, 4, 4)), fast_weights_rnn, ("cell.memory",)),
    Cell("StaticHyperConv2d", StaticConvolution, ((3, 4, 5, 6),), static_convolution, ("layer.part",)),
]

# Without a predicted weight inside; their equations are in test_factorization_machine.py.
MACHINES = [
    ("FactorizationMachine", lambda: zoo.FactorizationMachine(5, 3, rank=2), lambda: (torch.randn(6, 5),)),
    ("FactorizationMachine of ids", Ids, lambda: (torch.tensor([[0, 1, 2], [3, 0, 4], [2, 4, 1]]),)),
    (
        "MatrixFactorization",
        lambda: zoo.MatrixFactorization(7, 9, 2),
        lambda: (torch.tensor([1, 6, 0]), torch.tensor([8, 0, 3])),
    ),
]
