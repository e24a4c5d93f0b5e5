"""Cells and models: the paper's equation, their predicted weights written out, and what every module promises."""

import copy
import pickle
from unittest import mock

import pytest
import torch
from zoo_cells import CELLS

from fastweights import PredictedWeight
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
