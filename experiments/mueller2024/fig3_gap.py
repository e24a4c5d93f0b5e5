"""What stands between G as Fig. 3 trains it and an exact G: cells of the experiment that the paper does not have."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from experiments.mueller2024.affine_floor import affine_floor
from experiments.mueller2024.cp_rank import generic_rank, smallest_rank
from experiments.mueller2024.emulation import Stack, Task, Training, build_g, build_h, build_m, draw, train
from fastweights import convert, decompositions

TEACHERS = 10_000  # seeds of H; seed 900 and teacher 10,900 are for choosing learning rates
VALIDATION = 900
TRUNK = ("layer.predictor.0.weight", "layer.predictor.0.bias")


def stacks(task: Task, network: str, seeds: list[int], scale: float = 1.0) -> tuple[Stack, Stack]:
    """Student and teacher at the same seeds."""
    teacher = Stack(lambda: build_h(task), [TEACHERS + seed for seed in seeds]).freeze()
    build = build_g if network == "G" else build_m
    return Stack(lambda: build(task, task.gates(scale)), seeds), teacher


def floor(task: Task, seeds: int) -> dict[str, Any]:
    """The best G with affine gates."""
    return {"final": affine_floor(stacks(task, "G", list(range(seeds)))[1], task).tolist()}


def construction(task: Task, seeds: int) -> dict[str, Any]:
    """Relative error of the G of Theorem 3.1, built by `fastweights.convert.layer`, in float32 and float64."""
    found: dict[str, Any] = {"gates": task.gates(1)}
    for dtype in (torch.float32, torch.float64):
        errors = []
        for seed in range(seeds):
            torch.manual_seed(TEACHERS + seed)
            h = build_h(task).to(dtype)
            g = convert.layer(h.layer)  # type: ignore[arg-type]
            g.structure.to(dtype)
            x = draw(1, 0, 1000).to(dtype)
            with torch.no_grad():
                y = h(x)
                wrong = g(x[:, : task.columns], context=x) - y
            errors.append((wrong.square().mean() / y.square().mean()).item())
        found[str(dtype)] = errors
    return found | {"final": found["torch.float32"]}


def rates(task: Task, network: str, training: Training, seeds: list[int]) -> dict[str, Any]:
    """Every learning rate at every seed, scale 1; `final` is seed by rate."""
    slots = [seed for seed in seeds for _ in training.rates]
    student, teacher = stacks(task, network, slots)
    learned = train(student, teacher, replace(training, rates=training.rates * len(seeds)))
    table = torch.tensor(learned.final).reshape(len(seeds), -1)
    means = table.mean(0)
    best = int(torch.where(means.isnan(), torch.inf, means).argmin())
    return {
        "network": network,
        "training": asdict(training),
        "seeds": seeds,
        "errors": [[e if math.isfinite(e) else None for e in row] for row in table.tolist()],  # None: diverged
        "best rate": training.rates[best],
        "final": table[:, best].tolist(),
    }


def learned(task: Task, network: str, training: Training, seeds: int, scale: float = 1.0) -> dict[str, Any]:
    """From random initialisation, all seeds at one rate, with curves."""
    student, teacher = stacks(task, network, list(range(seeds)), scale)
    return {
        "network": network,
        "scale": scale,
        "training": asdict(training),
        **asdict(train(student, teacher, training)),
    }


def frozen(task: Task, training: Training, seeds: int, scale: float) -> dict[str, Any]:
    """G with H's own features given and fixed; its gate head, U and V learn from random initialisation."""
    student, teacher = stacks(task, "G", list(range(seeds)), scale)
    for name in TRUNK:
        student.parameters[name] = teacher.parameters[name]
    return {"scale": scale, "training": asdict(training), **asdict(train(student, teacher, training))}


def budget(task: Task, scale: float, seed: int = TEACHERS) -> dict[str, Any]:
    """What a budget of gates leaves of H's tensor of templates and base, the squared part, by least squares.

    For tensors too large to look for the smallest rank that is exact; what is found is an upper bound.
    """
    torch.manual_seed(seed)
    head = build_h(task).get_submodule("layer.predictor.2").double()
    assert isinstance(head, nn.Linear)
    tensor = torch.cat([head.weight.detach().T, head.bias.detach()[None]]).unflatten(1, (task.dim, task.columns))
    terms = decompositions.by_least_squares(tensor, task.gates(scale))
    left = (terms.residual(tensor).norm() / tensor.norm()).square().item()
    sizes = (tensor.shape[1], tensor.shape[2], tensor.shape[0])
    return {"scale": scale, "gates": task.gates(scale), "generic rank": generic_rank(sizes), "final": [left]}


def exact_rank(outputs: int, inputs: int, features: int) -> dict[str, Any]:
    """The fewest gates with which a G is exact, for a small H whose predictor has `features` hidden units."""
    torch.manual_seed(0)
    tensor = torch.rand(outputs, inputs, features + 1, dtype=torch.float64) * 2 - 1  # templates and base
    # A start of the largest takes minutes.
    rank, residuals = smallest_rank(tensor, restarts=4 if tensor.numel() < 4000 else 1)
    weights = outputs * inputs
    return {
        "tensor": [outputs, inputs, features + 1],
        "weights": weights,
        "generic rank": generic_rank((outputs, inputs, features + 1)),
        "smallest exact": rank,
        "scale": rank / weights,
        "residuals": residuals,
        "final": [residuals[rank]],
    }
