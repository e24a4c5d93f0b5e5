"""Cells and models: the paper's equation, their predicted weights written out, and what every module promises."""

import copy
import pickle
from unittest import mock

import image_oracles
import pytest
import sequence_oracles
import torch
from zoo_cells import CELLS

from fastweights import PredictedWeight, zoo
from fastweights.codes import dense

cells = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)


def by_dense_weights(self, code, x, *, per_frame=False):
    """A product formed from the dense weight alone, in place of every `PredictedWeight.product`."""
    assert not per_frame
    code, bias = self._split_bias(code)
    code = dense(code)
    parts = code if isinstance(code, tuple) else (code,)
    aligned = tuple(self.axes.align(part, x) for part in parts)
    weight = self.structure.materialize(aligned if isinstance(code, tuple) else aligned[0])
    y = self.axes.merge((weight * self.axes.split(x).unsqueeze(-2)).sum(-1), x)
    return y if bias is None else y + self.axes.merge(self.axes.align(dense(bias), x), x)


def joined(y):
    """An output, or several of them, as one vector."""
    return torch.cat([part.flatten() for part in (y if isinstance(y, tuple) else (y,))])


@cells
def test_the_papers_equation_the_parts_written_out_and_the_module_agree(cell):
    module, inputs = cell.make()
    with torch.no_grad():
        expected = joined(cell.oracle(module, *inputs))
    cotangent, wanted = torch.randn_like(expected), None
    for spelling in (by_dense_weights, PredictedWeight.product):
        leaves = [x.clone().requires_grad_() for x in inputs]
        with mock.patch.object(PredictedWeight, "product", autospec=True, side_effect=spelling) as products:
            y = joined(module(*leaves))
        assert products.called
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        gradients = torch.autograd.grad(y, [*leaves, *module.parameters()], cotangent, allow_unused=True)
        wanted = wanted or gradients
        for got, reference in zip(gradients, wanted, strict=True):
            assert (got is None) == (reference is None)
            if got is not None:
                torch.testing.assert_close(got, reference, rtol=1e-8, atol=1e-8)


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
