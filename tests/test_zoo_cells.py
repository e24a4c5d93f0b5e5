"""Cells and models: the paper's equation, their predicted weights written out, and what every module promises."""

import copy
import pickle
from unittest import mock

import image_oracles
import pytest
import sequence_oracles
import torch
from cases import CASES
from equalities import assert_parts_agree, by_dense_weights, joined
from zoo_cells import CELLS, MACHINES

from fastweights import PredictedWeight, zoo
from fastweights.ops import table

cells = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
machines = pytest.mark.parametrize(("build", "inputs"), [row[1:] for row in MACHINES], ids=[row[0] for row in MACHINES])


@cells
def test_the_papers_equation_the_parts_written_out_and_the_module_agree(cell):
    assert_parts_agree(cell)


def test_every_layer_of_the_zoo_is_a_case_a_cell_or_a_machine():
    """What is left is a whole network, a part of it, or a function; they have files of tests of their own."""
    listed = {case.name for case in CASES} | {cell.name for cell in CELLS} | {row[0] for row in MACHINES}
    layers = {name for name in zoo.__all__ if isinstance(getattr(zoo, name), type)}
    assert layers - listed == {"HyperHead", "SirenHyperNetwork"}


@cells
def test_bfloat16_is_at_most_twice_as_far_off_as_plain_pytorch(cell):
    module, inputs = cell.make()
    expected = joined(module(*inputs))
    low, numbers = copy.deepcopy(module).bfloat16(), [x.bfloat16() for x in inputs]
    error = (joined(low(*numbers)).double() - expected).norm()
    with mock.patch.object(table, "find", return_value=None):
        plain = (joined(low(*numbers)).double() - expected).norm()
    assert error <= 2 * plain
    assert plain < 0.1 * expected.norm()


@machines
def test_machines_state_dict_deepcopy_pickle_and_bfloat16(build, inputs):
    module, numbers = build().double(), [x.double() if x.is_floating_point() else x for x in inputs()]
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    y, other = module(*numbers), build().double()
    other.load_state_dict(module.state_dict())
    for again in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(again(*numbers), y)
    low = module.bfloat16()(*(x.bfloat16() if x.is_floating_point() else x for x in numbers))
    assert low.dtype == torch.bfloat16
    assert (low.double() - y).norm() < 0.02 * y.norm()


@cells
def test_parts_are_predicted_weights_and_all_of_them(cell):
    module, _ = cell.make()
    found = {name for name, part in module.named_modules() if isinstance(part, PredictedWeight)}
    assert found == set(cell.parts)


@cells
def test_state_dict_deepcopy_and_pickle(cell):
    module, inputs = cell.make()
    y = module(*inputs)
    other = cell.build().double()
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(*inputs), y)
    torch.testing.assert_close(copy.deepcopy(module)(*inputs), y)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(*inputs), y)


def test_fast_weights_rnn_sums_its_past():
    torch.manual_seed(0)
    cell, inputs = zoo.FastWeightsRNNCell(3, 4, steps=2).double(), torch.randn(5, 2, 3, dtype=torch.float64)
    past, state = [torch.zeros(2, 4, dtype=torch.float64)], None
    for x in inputs:
        expected = torch.stack(
            [sequence_oracles.fast_weights_rnn(cell, x[b], past[-1][b], [h[b] for h in past]) for b in range(2)]
        )
        h, state = cell(x, state)
        torch.testing.assert_close(h, expected)
        # The part is the dense weight of the state.
        torch.testing.assert_close(cell.memory.weight(state[1]), state[1])
        past.append(h)
    h.sum().backward()
    assert all(p.grad is not None for p in cell.parameters())
    copied = copy.deepcopy(cell)
    copied.load_state_dict(cell.state_dict())
    torch.testing.assert_close(copied(inputs[0], state)[0], cell(inputs[0], state)[0])


def test_hyper_lstm_is_the_papers_equation_for_three_steps():
    torch.manual_seed(0)
    cell, inputs = zoo.HyperLSTMCell(3, 4, 5, 2).double(), torch.randn(3, 2, 3, dtype=torch.float64)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    zeros = (*(torch.zeros(2, 4).double() for _ in range(2)), *(torch.zeros(2, 5).double() for _ in range(2)))
    states = dict.fromkeys((by_dense_weights, PredictedWeight.product))
    for x in inputs:
        steps = [sequence_oracles.hyper_lstm(cell, *one) for one in zip(x, *zeros, strict=True)]
        zeros = tuple(torch.stack(part) for part in zip(*steps, strict=True))
        for spelling in states:
            with mock.patch.object(PredictedWeight, "product", autospec=True, side_effect=spelling) as products:
                h, states[spelling] = cell(x, states[spelling])
            assert products.call_count == 2
            ((h_, c), (hyper_h, hyper_c)) = states[spelling]
            for got, expected in zip((h, c, hyper_h, hyper_c), zeros, strict=True):
                torch.testing.assert_close(got, expected)
            assert h_ is h
    h.sum().backward()
    assert all(p.grad is not None for p in cell.parameters())
    copied = pickle.loads(pickle.dumps(cell))
    copied.load_state_dict(copy.deepcopy(cell).state_dict())
    torch.testing.assert_close(copied(inputs[0])[0], cell(inputs[0])[0])


def test_hyper_lstm_starts_with_all_rows_scaled_by_a_tenth():
    cell = zoo.HyperLSTMCell(3, 4)
    code = cell.from_h.code(torch.randn(2, 128))
    torch.testing.assert_close(code[:, :16], torch.full((2, 16), 0.1))
    torch.testing.assert_close(code[:, 16:], torch.zeros(2, 16))
    torch.testing.assert_close(cell.from_x.code(torch.randn(2, 128)), torch.full((2, 16), 0.1))
    block = cell.from_h.structure.v[:4]
    torch.testing.assert_close(block @ block.T, torch.eye(4))


def test_hyper_lstm_drops_out_candidates_in_training_only():
    torch.manual_seed(0)
    cell, x = zoo.HyperLSTMCell(3, 50, dropout=0.5), torch.randn(1, 3)
    assert (cell(x)[1][0][1] == 0).sum() > 10  # cell states of dropped candidates
    cell.eval()
    assert (cell(x)[1][0][1] == 0).sum() == 0


def test_recurrent_cells_start_from_zeros():
    for cell, sizes in ((zoo.HyperLSTMCell(3, 4, 5), (4, 4, 5, 5)), (zoo.FastWeightsRNNCell(3, 4), (4, (4, 4)))):
        x, zeros = torch.randn(2, 3), [torch.zeros(2, *(n if isinstance(n, tuple) else (n,))) for n in sizes]
        state = tuple(zeros) if len(zeros) == 2 else (tuple(zeros[:2]), tuple(zeros[2:]))
        assert torch.equal(cell(x)[0], cell(x, state)[0])


def test_static_hypernetwork_tiles_units_of_kernels():
    torch.manual_seed(0)
    head = zoo.HyperHead(2, 3, 3, embedding=4, hidden=5).double()
    layer = zoo.StaticHyperConv2d(4, 6, head=head, stride=2).double()
    kernel = layer.tiles.kernel()
    for row in range(2):
        for column in range(2):
            unit = kernel[3 * row : 3 * row + 3, 2 * column : 2 * column + 2]
            torch.testing.assert_close(unit, sequence_oracles.static_kernel(head, layer.tiles.embeddings[row, column]))
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    expected = torch.stack([image_oracles.convolution(kernel, image, stride=2, padding=1) for image in x])
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.part(x), expected)
    torch.testing.assert_close(layer.part.weight(x)[0, 0, 0], kernel.flatten(1))
    layer(x).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())
    other = zoo.StaticHyperConv2d(4, 6, head=zoo.HyperHead(2, 3, 3, embedding=4, hidden=5), stride=2).double()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(pickle.loads(pickle.dumps(copy.deepcopy(other)))(x), layer(x))
