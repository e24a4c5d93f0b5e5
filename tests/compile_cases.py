"""Compiles and exports every case and every burst network; run in processes of its own, without shape checks.

`python tests/compile_cases.py 0` takes the first, third, ... and prints the name of each that gave the same result
three times, `1` the others; torch.compile cannot trace through the checks that pytest wraps around functions.
"""

import itertools
import sys

import torch
from cases import CASES
from zoo_cells import CELLS, MACHINES

BURST = [
    {"task": "paper"},
    {"task": "paper", "features": 3, "unit_sum": True},
    {"task": "paper", "kind": "gated", "maps": 5},
    {"task": "camera", "unit_sum": True},
    {"task": "camera", "unit_sum": True, "kind": "gated", "maps": 24, "out_kernel_size": 1},
]


TURNS = itertools.cycle((0, 1))


def check(name, module, inputs):
    """torch.compile(fullgraph) and torch.export, against the module itself."""
    if next(TURNS) != int(sys.argv[1]):
        return
    expected = module(*inputs)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(module, backend="aot_eager", fullgraph=True)(*inputs), expected)
    torch.testing.assert_close(torch.export.export(module, inputs).module()(*inputs), expected)
    print(name, flush=True)


def burst_networks():
    """Small networks of both tasks, and their converted forms, with inputs."""
    from fastweights.burst.models import ModelConfig, build

    for settings in BURST:
        model = build(ModelConfig(width=4, post=6, **settings)).double().eval()
        if settings["task"] == "camera":
            inputs = (torch.rand(1, 8, 3, 12, 16).double(), torch.ones(1, 8).double())
        else:
            inputs = (torch.rand(1, 8, 12, 16).double(), torch.rand(1, 1, 12, 16).double())
        yield f"{settings}", model, inputs
        yield f"{settings} converted", model.converted()[0], inputs


if __name__ == "__main__":
    torch.manual_seed(0)
    for case in CASES:
        layer, x, context = case.make()
        check(case.name, layer, (x, context))
    for cell in CELLS:
        check(cell.name, *cell.make())
    for name, build, inputs in MACHINES:
        check(name, build(), inputs())
    if "--burst" in sys.argv:
        for name, model, inputs in burst_networks():
            check(name, model, inputs)
