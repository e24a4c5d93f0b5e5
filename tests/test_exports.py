"""ONNX for a batch of any size: exported once, run in onnxruntime at other batches, equal to torch.

FASTWEIGHTS_EVERY_EXPORT=1 exports every case; by default one of each way in which a product is written.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import CASES
from torch import nn
from torch.utils._pytree import tree_leaves
from zoo_cells import CELLS, MACHINES

from fastweights import HyperNetwork, convert, zoo
from fastweights.exports import EXPORTS

ROOT = Path(__file__).parents[1]
# Parts of the others, and what needs no graph of its own: its weights are baked (see test_network_compile.py).
NO_ROW = {"HyperHead", "SirenHyperNetwork"}
# One of each kind; an export takes seconds.
SHOWN = {
    "KernelPrediction half",
    "GatedKernelPrediction",
    "CondConv",
    "CondConv, converted",
    "DynamicConvolution2015",
    "HDRNet",
    "attention",
    "FactorizationMachine of ids",
    "FastWeightsRNNCell",
    "burst denoiser of gates",
}


def drawn(module):
    """Without the zeros that parameters start with."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def of_case(name):
    (case,) = (case for case in CASES if case.name == name)
    layer, x, context = case.make()
    return layer, (x,) if case.context is None else (x, context)


def converted(name):
    layer, inputs = of_case(name)
    return convert.layer(layer), inputs


def burst(**settings):
    pytest.importorskip("cv2", reason="the extra 'burst'")
    from fastweights.burst.models import ModelConfig, build

    model = build(ModelConfig(width=4, post=6, **settings))
    if model.config.task == "camera":
        return model, (torch.rand(2, 8, 3, 12, 16), torch.ones(2, 8))
    return model, (torch.rand(2, 8, 12, 16), torch.rand(2, 1, 12, 16))


def hyper_network():
    primary = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))
    return HyperNetwork(primary, nn.Linear(4, 3)), (torch.randn(6, 5), torch.randn(6, 4))


GATED = {"unit_sum": True, "kind": "gated", "maps": 24, "out_kernel_size": 1}
SUBJECTS = {
    **{case.name: lambda name=case.name: of_case(name) for case in CASES},
    **{cell.name: cell.make for cell in CELLS},
    **{name: lambda build=build, inputs=inputs: (drawn(build()), inputs()) for name, build, inputs in MACHINES},
    "KernelPrediction, converted": lambda: converted("KernelPrediction"),
    "CondConv, converted": lambda: converted("CondConv"),
    "burst denoiser of kernels": lambda: burst(task="paper"),
    "burst denoiser of gates": lambda: burst(task="camera", **GATED),
    "HyperNetwork": hyper_network,
}


class Flat(nn.Module):
    """Outputs of any nesting as a list, as ONNX has them."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return tree_leaves(self.module(*inputs))


def of_batch(x, count):
    """Another batch of other numbers, of the same signs; whole numbers stay ids."""
    repeated = x[torch.arange(count) % len(x)]
    return repeated * (0.5 + torch.rand_like(repeated)) if x.is_floating_point() else repeated


@pytest.mark.parametrize("name", SUBJECTS if os.environ.get("FASTWEIGHTS_EVERY_EXPORT") else sorted(SHOWN))
def test_it_is_the_same_in_onnxruntime_for_any_batch(name, unchecked_shapes):
    pytest.importorskip("onnxscript", reason="the extra 'export'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export'")
    module, inputs = SUBJECTS[name]()
    module = Flat(module).float().eval()
    inputs = tuple(torch.cat([x, x]) if len(x) == 1 else x for x in inputs)
    inputs = tuple(x.float() if x.is_floating_point() else x for x in inputs)
    shapes = (tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),)
    file = io.BytesIO()
    torch.onnx.export(module, inputs, dynamo=True, dynamic_shapes=shapes, verbose=False).save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    for count in (5, 1):
        others = tuple(of_batch(x, count) for x in inputs)
        named = {one.name: x.numpy() for one, x in zip(session.get_inputs(), others, strict=True)}
        with torch.no_grad():
            expected = module(*others)
        for found, wanted in zip(session.run(None, named), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-5, atol=1e-5)


def test_every_layer_of_the_zoo_has_a_row_and_every_row_a_case():
    rows, layers = [row.name for row in EXPORTS], {name for name in zoo.__all__ if isinstance(getattr(zoo, name), type)}
    assert len(rows) == len(set(rows))
    assert layers - NO_ROW <= set(rows) <= set(SUBJECTS)
    assert set(SUBJECTS) >= SHOWN


def test_the_page_is_up_to_date():
    command = [sys.executable, ROOT / "docs" / "make_onnx.py", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
