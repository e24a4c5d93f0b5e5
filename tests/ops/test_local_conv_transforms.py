"""local_conv under opcheck, compile, export, ONNX, vmap and grad, and as the table of operations rearranges it."""

import pytest
import torch
import torch.nn.functional as F
from local_conv_cases import LAYOUTS, inputs, oracle

from fastweights.ops import local_conv
from fastweights.ops._local_conv_operator import _to_frames, _to_kernels

operator = torch.ops.fastweights.local_conv.default


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operators_obey_their_contracts(way, layout):
    frames, kernels = inputs(1, 2, 2, size=(5, 6), upsample=2, layout=layout)
    grad = torch.randn(1, 1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rest = (2, "replicate", "half_pixel")
    torch.library.opcheck(operator, (frames, kernels, 2, True, "zeros", "legacy"))
    torch.library.opcheck(_to_frames._opoverload, (grad, kernels, *rest))
    torch.library.opcheck(_to_kernels._opoverload, (grad, frames, 3, kernels.dtype, layout == "taps last", *rest))


class Head(torch.nn.Module):
    """A network that predicts its kernels, as users have it."""

    def __init__(self, upsample, padding="replicate", rule="half_pixel"):
        super().__init__()
        self.head = torch.nn.Conv2d(2, 2 * 9, 3, padding=1, stride=upsample)
        self.options = {"upsample": upsample, "padding": padding, "rule": rule}

    def forward(self, frames):
        return local_conv(frames, self.head(frames).unflatten(1, (2, 3, 3)), **self.options)


@pytest.mark.parametrize("upsample", [1, 2])
def test_compile_in_one_graph(way, upsample, unchecked_shapes):
    torch.compiler.reset()
    model, frames = Head(upsample), torch.randn(2, 2, 7, 8)
    # aot_eager: traced through autograd without a C++ compiler
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for module in (model, compiled):
        y = module(frames)
        results.append((y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_compile_of_a_transform(way, unchecked_shapes):
    torch.compiler.reset()
    frames, kernels = inputs(C=0)

    def energy(kernels):
        return local_conv(frames.detach(), kernels).square().sum()

    compiled = torch.compile(torch.func.grad(energy), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(kernels.detach()), torch.func.grad(energy)(kernels.detach()))


@pytest.mark.parametrize("strict", [False, True])
def test_export(way, strict, unchecked_shapes):
    model, frames = Head(2), torch.randn(2, 2, 7, 8)
    program = torch.export.export(model, (frames,), strict=strict)
    assert any(node.target is operator for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(frames), model(frames))


@pytest.mark.parametrize(
    ("upsample", "padding", "rule"),
    [(1, "zeros", "half_pixel"), (2, "replicate", "half_pixel"), (2, "zeros", "legacy")],
)
def test_onnx(upsample, padding, rule, tmp_path, unchecked_shapes):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, frames = Head(upsample, padding, rule).eval(), torch.randn(1, 2, 7, 8)
    torch.onnx.export(model, (frames,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: frames.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(frames).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (3, 4), (2, None), (None, 6)])
@pytest.mark.parametrize("per_frame", [False, True])
def test_vmap_and_grad(way, in_dims, per_frame):
    frames, kernels = (x.detach() for x in inputs(2, 3, 2, size=(5, 6), upsample=2))
    batched = [
        x if dim is None else torch.stack([x, 2 * x, x - 1, x.flip(0)], dim)
        for x, dim in zip((frames, kernels), in_dims, strict=True)
    ]

    def function(frames, kernels):
        return local_conv(frames, kernels, upsample=2, per_frame=per_frame)

    def energy(frames, kernels):
        return function(frames, kernels).pow(3).sum()

    def slices(x, dim):
        return [x] * 4 if dim is None else x.unbind(dim)

    pairs = list(zip(*map(slices, batched, in_dims), strict=True))
    found = torch.func.vmap(function, in_dims)(*batched)
    torch.testing.assert_close(found, torch.stack([function(*pair) for pair in pairs]))
    found = torch.func.vmap(torch.func.grad(energy, argnums=(0, 1)), in_dims)(*batched)
    for n, pair in enumerate(pairs):
        leaves = [x.clone().requires_grad_() for x in pair]
        wanted = torch.autograd.grad(energy(*leaves), leaves)
        torch.testing.assert_close((found[0][n], found[1][n]), wanted)


def test_grad_of_grad_and_jacobian(way):
    frames, kernels = (x.detach() for x in inputs(1, 2, 1, size=(2, 3)))

    def energy(kernels):
        return local_conv(frames, kernels).pow(4).sum()

    hessian = torch.func.jacrev(torch.func.grad(energy))(kernels)
    wanted = torch.autograd.functional.hessian(lambda kernels: oracle(frames, kernels).pow(4).sum(), kernels)
    torch.testing.assert_close(hessian, wanted)


def test_rearrangements_of_other_orders(way):
    """The lines of the docstring, against each project's own formula."""
    B, T, k, C, H, W = 2, 3, 3, 2, 4, 5
    frames = torch.randn(B, T, H, W, dtype=torch.float64)
    flat = torch.randn(B, T * k * k, H, W, dtype=torch.float64)
    columns = F.unfold(frames, k, padding=1).reshape(B, T * k * k, H, W)
    torch.testing.assert_close(local_conv(frames, flat.unflatten(1, (T, k, k)))[:, 0], (columns * flat).sum(1))

    colours = torch.randn(B, T, C, H, W, dtype=torch.float64)
    core = torch.randn(B, T * k * k * C, H, W, dtype=torch.float64)
    padded = F.pad(colours, [1] * 4)
    stack = torch.stack([padded[..., i : i + H, j : j + W] for i in range(k) for j in range(k)], 2)
    wanted = (core.view(B, T, k * k, C, H, W) * stack).sum(2).mean(1)
    kernels = core.unflatten(1, (T, k, k, C)).movedim(4, 1).flatten(0, 1)
    found = local_conv(colours.transpose(1, 2).flatten(0, 1), kernels) / T
    torch.testing.assert_close(found.reshape(B, C, H, W), wanted)

    predicted = torch.randn(B, H, W, k * k * T, dtype=torch.float64)
    padded = F.pad(frames, [1] * 4)
    shifted = [padded[:, t, i : i + H, j : j + W] for i in range(k) for j in range(k) for t in range(T)]
    wanted = (predicted * torch.stack(shifted, -1)).sum(-1)
    kernels = predicted.unflatten(-1, (k, k, T)).permute(0, 5, 3, 4, 1, 2)
    torch.testing.assert_close(local_conv(frames, kernels)[:, 0], wanted)
