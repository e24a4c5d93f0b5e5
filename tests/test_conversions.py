"""Every cell of the table of conversions is performed: equal products in float64, a bound that holds, or an error."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import CASES
from torch import nn
from torch.utils._pytree import tree_flatten
from zoo_cells import CELLS

from fastweights import PredictedWeight, convert, convert_fm, zoo
from fastweights import conversions as table
from fastweights.axes import Channels
from fastweights.codes import dense
from fastweights.conversions import CONVERSIONS, TARGETS
from fastweights.equivalences import absorb, at_fixed_size, fast_weight_layer
from fastweights.split_gates import between
from fastweights.structures import Gated, Mixture

ROOT = Path(__file__).parents[1]
# Networks and parts of them: what they are made of has a row.
NO_ROW = {"HyperHead", "SirenHyperNetwork"}
RANK = 2


def double(*shape):
    return torch.randn(shape, dtype=torch.float64)


def one_hot_pairs(rows, columns):
    pairs = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    joined = [nn.functional.one_hot(pairs[:, n], count).double() for n, count in ((0, rows), (1, columns))]
    return pairs.T, joined


def drawn(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


OTHERS = {
    zoo.FactorizationMachine: lambda: (drawn(zoo.FactorizationMachine(5, rank=2)), (double(6, 5),)),
    zoo.MatrixFactorization: lambda: (drawn(zoo.MatrixFactorization(2, 3, 2)), tuple(one_hot_pairs(2, 3)[0])),
    zoo.HyperLSTMCell: lambda: (zoo.HyperLSTMCell(3, 4, 5), (double(2, 3),)),
    zoo.FastWeightsRNNCell: lambda: (zoo.FastWeightsRNNCell(3, 4).memory, (double(6, 4), double(6, 4, 4))),
    zoo.StaticHyperConv2d: lambda: (zoo.StaticHyperConv2d(16, 16, 1).part, (double(2, 16, 5, 4),)),
    # The context is x, so that a hypernetwork of one vector can be the same.
    zoo.MultiplicativeInteraction: lambda: (drawn(zoo.MultiplicativeInteraction(4, 3)), (double(6, 4),)),
    zoo.LinearHypernetwork: lambda: (drawn(zoo.LinearHypernetwork(4, 3)), (double(6, 4),)),
}


def make(layer):
    """A small layer of the class in float64, and inputs."""
    torch.manual_seed(0)
    if layer in OTHERS:
        module, inputs = OTHERS[layer]()
        return module.double().eval(), inputs
    for cell in CELLS:
        if cell.name == layer.__name__:
            return cell.make()
    (case,) = [case for case in CASES if case.name == layer.__name__]
    source, x, context = case.make()
    return source, (x,) if case.context is None else (x, context)


def same(converted, expected, *inputs):
    found, wanted = (tree_flatten(outputs)[0] for outputs in (converted(*inputs), expected))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert max(b.abs().max() for b in wanted) > 1e-3


def gates(source, inputs):
    if isinstance(source, zoo.FactorizationMachine | zoo.MatrixFactorization):
        one = convert_fm.to_linear_hypernetwork(source)
        x = torch.cat(one_hot_pairs(2, 3)[1], dim=1) if isinstance(source, zoo.MatrixFactorization) else inputs[0]
        expected = source(*inputs)
        same(convert.layer(one), expected[:, None] if expected.ndim == 1 else expected, x)
        return
    converted, _ = convert.model(source, strict=True)
    parts = [part for part in converted.modules() if isinstance(part, PredictedWeight)]
    assert all(isinstance(part.structure, Gated) for part in parts)
    same(converted, source(*inputs), *inputs)


def fewer(source, inputs):
    converted, report = convert.model(source, rank=RANK, inputs=inputs, weighted=True, strict=True)
    assert all(line.after <= RANK for line in report.layers)
    assert report.difference > 0
    assert all(0 < line.measured < 1 for line in report.layers)
    if isinstance(source, PredictedWeight):
        context = inputs[-1]
        error = torch.linalg.matrix_norm(converted.weight(context) - source.weight(context))
        numbers = source.axes.code_last(dense(source.code(context)))
        code = numbers[..., : numbers.shape[-1] - source.bias_features]
        assert (error <= report.layers[0].bound(code) * (1 + 1e-9)).all()


def fixed(source, inputs):
    x, context = (one if one.ndim > 1 else one[:, None] for one in (inputs[0], inputs[-1]))
    if isinstance(source, zoo.MultiHeadAttention):
        converted = copy.deepcopy(source)
        converted.attention = at_fixed_size(converted.attention, x.shape[-2], context.shape[-2])
    elif isinstance(source, zoo.BasisPrediction):
        converted = at_fixed_size(source, x.shape[1] * source.axes.kernel_size**2, 1)
    else:
        converted = at_fixed_size(source, x.shape[-2], context.shape[-2])
    same(converted, source(*inputs), *inputs)


def matrix(source, inputs):
    same(fast_weight_layer(source, inputs[0].shape[-1]), source(*inputs), *inputs)


def absorbed(source, inputs):
    if isinstance(source, zoo.ModulatedSiren):
        source, inputs = source.gates[0], (double(4, 7, 5), double(4, 4))
    gate = getattr(source, "gate", source)  # of a gate of halves
    is_gate = isinstance(gate, PredictedWeight) and isinstance(gate.structure, Gated)
    width = gate.structure.code_features if is_gate else 4
    after = nn.Linear(width, 3) if is_gate and gate.axes == Channels() else nn.Conv2d(width, 3, 1)
    after.double()
    converted = absorb(source, after)
    same(converted, after(source(*inputs)), *inputs)


def around(source, inputs):
    x = inputs[0]
    if isinstance(source, zoo.SpatialGatingUnit):
        before, after = nn.Linear(2, x.shape[-1]).double(), nn.Linear(x.shape[-1] // 2, 3).double()
        x = double(*x.shape[:-1], 2)
    else:
        before, after = nn.Conv2d(2, 6, 3, padding=1).double(), nn.Conv2d(3, 2, 1).double()
        x = double(2, 2, 5, 4)
    same(between(before, source, after), after(source(before(x))), x)


def linear(source, inputs):
    one = convert_fm.to_linear_hypernetwork(source)
    if isinstance(source, zoo.MatrixFactorization):
        pairs, joined = one_hot_pairs(2, 3)
        same(one, source(*pairs)[:, None], torch.cat(joined, dim=1))
    else:
        same(one, source(*inputs), *inputs)


def machine(source, inputs):
    one = convert_fm.to_factorization_machine(source)
    if isinstance(source, zoo.MatrixFactorization):
        pairs, joined = one_hot_pairs(2, 3)
        same(one, source(*pairs)[:, None], torch.cat(joined, dim=1))
    elif isinstance(source, zoo.MultiplicativeInteraction):
        x, z = double(6, 4), double(6, 4)
        same(one, source(x, z), torch.cat([x, z], dim=1))
    else:
        same(one, source(*inputs), *inputs)


def interaction(source, inputs):
    one = convert_fm.to_multiplicative_interaction(source)
    if isinstance(source, zoo.MatrixFactorization):
        pairs, joined = one_hot_pairs(2, 3)
        same(one, source(*pairs)[:, None], *joined)
    else:
        same(one, source(*inputs), *inputs)


def factors(source, inputs):
    one = convert_fm.to_matrix_factorization(source, rows=2)
    pairs, joined = one_hot_pairs(2, 3)
    same(one, source(torch.cat(joined, dim=1))[:, 0], *pairs)


PERFORM = {
    table.GATES: gates,
    table.FEWER: fewer,
    table.FIXED: fixed,
    table.MATRIX: matrix,
    table.ABSORBED: absorbed,
    table.BETWEEN: around,
    table.LINEAR: linear,
    table.MACHINE: machine,
    table.INTERACTION: interaction,
    table.FACTORS: factors,
}
ALREADY = {
    table.LINEAR: zoo.LinearHypernetwork,
    table.INTERACTION: zoo.MultiplicativeInteraction,
    table.MACHINE: zoo.FactorizationMachine,
    table.FACTORS: zoo.MatrixFactorization,
}


@pytest.mark.parametrize("source", CONVERSIONS, ids=lambda source: source.name)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_cell_is_as_the_table_says(source, target):
    kind = source.conversions.get(target)
    layer, inputs = make(source.layer)
    if kind is None:
        with pytest.raises(TypeError, match=r"(?s)\w+: .{20,}"):
            PERFORM[target](layer, inputs)
    elif kind == "already" and target in ALREADY:
        assert source.layer is ALREADY[target]
    else:
        PERFORM[target](layer, inputs)
    if target is table.GATES and kind == "already":
        assert all(isinstance(p.structure, Gated) for p in layer.modules() if isinstance(p, PredictedWeight))
    if kind == "certified":
        assert isinstance(layer.structure, Mixture | Gated)


def test_every_layer_of_the_zoo_has_a_row():
    layers = {name for name in zoo.__all__ if isinstance(getattr(zoo, name), type)}
    assert {source.name for source in CONVERSIONS} == layers - NO_ROW
    for source in CONVERSIONS:
        assert set(source.notes) <= set(source.conversions)


def test_the_page_is_up_to_date():
    command = [sys.executable, ROOT / "docs" / "make_conversions.py", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
