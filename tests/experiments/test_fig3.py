"""The parts of Fig. 3's experiment against independent spellings."""

import pytest
import torch
from torch import nn

from experiments.mueller2024 import affine_floor, cp_rank, emulation
from experiments.mueller2024.emulation import Stack, Task, build_g, build_h, build_m
from experiments.mueller2024.optimisers import OPTIMISERS, orthogonal


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("adagrad", lambda p: torch.optim.Adagrad(p, lr=0.1)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1)),
        ("fast-adam", lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99))),
    ],
)
def test_rules_are_torchs(name, theirs):
    torch.manual_seed(0)
    start = torch.randn(2, 3, 4, dtype=torch.float64)
    ours = start.clone().requires_grad_()
    optimiser = OPTIMISERS[name]([ours], torch.tensor([0.1, 0.0], dtype=torch.float64))
    reference = start[0].clone().requires_grad_()
    stepped = theirs([reference])
    for _ in range(5):
        optimiser.step(torch.autograd.grad((ours**4).sum(), [ours]), 1.0)
        stepped.zero_grad()
        (reference**4).sum().backward()
        stepped.step()
    torch.testing.assert_close(ours[0], reference, rtol=1e-6, atol=1e-8)
    assert torch.equal(ours[1], start[1])  # each slot at its own rate


def test_orthogonal_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((2, 5, 9), (2, 9, 5)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert 0.5 < values.min() < values.max() < 1.4


@pytest.mark.parametrize("task", [Task("A", 3), Task("B", 5)])
def test_a_stack_is_its_networks(task):
    stack = Stack(lambda: build_g(task, 7), [4, 5])
    x = emulation.draw(0, 0, 6)
    for number, seed in enumerate((4, 5)):
        torch.manual_seed(seed)
        torch.testing.assert_close(stack(x)[number], build_g(task, 7)(x))


@pytest.mark.parametrize("task", [Task("A", 3), Task("B", 5)])
def test_multiply_adds_are_those_of_the_layers(task):
    def counted(module):
        return sum(m.in_features * m.out_features for m in module.modules() if isinstance(m, nn.Linear))

    g, m = build_g(task, 50), build_m(task, 50)
    gated = g.layer.structure
    expected = counted(g) + gated.u.numel() + gated.v.numel() + 50
    assert emulation.multiply_adds_g(task, 50) == expected
    assert emulation.multiply_adds_m(task, emulation.hidden_m(task, 50)) == counted(m) >= expected
    assert emulation.multiply_adds_m(task, emulation.hidden_m(task, 50) - 16) < expected


@pytest.mark.parametrize("task", [Task("A", 3), Task("B", 5)])
def test_the_floor_of_an_affine_predictor_is_zero(task):
    teacher = Stack(lambda: build_h(task), [0, 1]).freeze()
    teacher.parameters["layer.predictor.0.bias"] += 40  # every unit is on
    assert affine_floor.affine_floor(teacher, task, count=1000).max() < 1e-9


@pytest.mark.parametrize("task", [Task("A", 3), Task("B", 5)])
def test_the_floor_leaves_nothing_quadratic(task):
    teacher = Stack(lambda: build_h(task), [0]).freeze()
    q, linear = affine_floor.quadratic_part(teacher, task)
    x = emulation.draw(3, 0, 8000).double()
    i = task.columns
    left = teacher(x.float()).double()[0] - torch.einsum("bx,jxy,by->bj", x, q[0], x) - x @ linear[0].T
    features = torch.cat([x[:, :i], *(x[:, [number]] * x[:, :i] for number in (0, 1, 50))], 1)
    products = left[:, :, None] * features[:, None]
    scores = products.mean(0) / (products.std(0) / len(x) ** 0.5)
    assert scores.abs().max() < 5.5
    # The whole trace at once, where the constant of a quadratic form enters.
    traces = left * x[:, :i].square().sum(1, keepdim=True)
    assert (traces.mean(0) / (traces.std(0) / len(x) ** 0.5)).abs().max() < 5


def test_training_lowers_the_error_and_leaves_frozen_weights():
    task = Task("B", 4)
    student, teacher = Stack(lambda: build_g(task, 16), [0, 1]), Stack(lambda: build_h(task), [7, 8]).freeze()
    name = "layer.predictor.0.weight"
    student.parameters[name] = teacher.parameters[name]
    before, kept = emulation.relative_errors(student, teacher, 9, 1000), teacher.parameters[name].clone()
    learned = emulation.train(student, teacher, emulation.Training(samples=6400, batch=64, epochs=4))
    assert all(after < 0.9 * start for after, start in zip(learned.final, before.tolist(), strict=True))
    assert [len(learned.train), len(learned.test)] == [4, 4]
    assert torch.equal(student.parameters[name], kept)


def test_decompose_finds_a_tensor_of_known_rank_and_no_smaller_one():
    torch.manual_seed(1)
    tensor = torch.einsum("ar,br,cr->abc", *(torch.randn(n, 4, dtype=torch.float64) for n in (5, 4, 6)))
    assert min(cp_rank.decompose(tensor, 4, seed) for seed in range(3)) < 1e-6
    assert min(cp_rank.decompose(tensor, 3, seed) for seed in range(3)) > 1e-2
