"""Every layer under torch.func and with inputs that lie otherwise in memory: the same numbers, the same gradients."""

import pytest
import torch
from cases import CASES
from torch import Tensor
from torch.utils._pytree import tree_leaves
from zoo_cells import CELLS

from fastweights import zoo

LAYERS = [pytest.param(one, id=one.name) for one in (*CASES, *CELLS)]


def made(one):
    """A layer in eval mode, and all its inputs."""
    module, *inputs = one.make()
    inputs = inputs[0] if isinstance(inputs[0], tuple) else inputs[: 1 + (one.context is not None)]
    return module.eval(), tuple(inputs)


def results(module, inputs):
    return [y for y in tree_leaves(module(*inputs)) if isinstance(y, Tensor)]


def outputs_and_gradients(module, inputs):
    inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
    outputs = results(module, inputs)
    leaves = [x for x in (*inputs, *module.parameters()) if x.requires_grad]
    total = sum((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum() for y in outputs)
    return outputs, torch.autograd.grad(total, leaves, allow_unused=True)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.mT.contiguous().mT


@pytest.mark.parametrize("one", LAYERS)
def test_the_layout_in_memory_changes_nothing(one):
    module, inputs = made(one)
    expected = outputs_and_gradients(module, inputs)
    module.to(memory_format=torch.channels_last)
    found = outputs_and_gradients(module, [channels_last(x) for x in inputs])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("one", LAYERS)
def test_gradients_of_single_samples_add_up(one, unchecked_shapes):
    """As differential privacy and influence functions ask for them."""
    module, inputs = made(one)
    parameters = dict(module.named_parameters())
    if not parameters:
        pytest.skip("a layer without parameters has no gradients of them")

    def loss(parameters, *inputs):
        return sum(y.square().sum() for y in tree_leaves(torch.func.functional_call(module, parameters, inputs)))

    alone = torch.func.vmap(torch.func.grad(loss), (None, *(0 for _ in inputs)))
    each = alone(parameters, *(x.unsqueeze(1) for x in inputs))
    whole = torch.func.grad(loss)(parameters, *inputs)
    found = {name: gradient.sum(0) for name, gradient in each.items()}
    torch.testing.assert_close(found, whole, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("one", LAYERS)
def test_a_state_dict_holds_every_tensor_once(one):
    """Which safetensors asks for."""
    state = made(one)[0].state_dict(keep_vars=True)
    assert len({id(value) for value in state.values()}) == len(state)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gates_that_lie_side_by_side_under_vmap(unchecked_shapes):
    """As the layers of a network in channels_last leave them."""
    torch.manual_seed(0)
    layer = zoo.GatedKernelPrediction(2, 3, 5, out_kernel_size=1).double().to(memory_format=torch.channels_last)
    x = torch.randn(3, 2, 2, 6, 8, dtype=torch.float64)
    found = torch.func.vmap(layer)(x)
    torch.testing.assert_close(found, torch.stack([layer(one) for one in x]), rtol=1e-9, atol=1e-9)
