"""local_conv against a third writing (F.unfold and an interpolation by indices), on every way it can be computed."""

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastweights.ops import _local_conv_strips, local_conv
from fastweights.ops._local_conv_operator import _to_frames, _to_kernels, compiled_loops
from fastweights.ops.local_conv import local_conv_reference

operator = torch.ops.fastweights.local_conv.default


def oracle(frames, kernels, *, upsample=1, per_frame=False, padding="zeros", rule="half_pixel"):
    """Gather both neighbours by index, interpolate, unfold, multiply, sum."""
    images = frames if frames.ndim == 5 else frames[:, :, None]
    B, T, C, H, W = images.shape
    k = kernels.shape[2]
    for dim, length in ((4, H), (5, W)):
        destination = torch.arange(length, dtype=torch.float64)
        source = (destination + 0.5) / upsample - 0.5 if rule == "half_pixel" else destination / upsample
        source = source.clamp(0, kernels.shape[dim] - 1)
        low = source.floor().long()
        high = (low + 1).clamp(max=kernels.shape[dim] - 1)
        share = (source - low).to(kernels.dtype).reshape([-1] + [1] * (5 - dim))
        kernels = kernels.index_select(dim, low) * (1 - share) + kernels.index_select(dim, high) * share
    mode = "constant" if padding == "zeros" else "replicate"
    columns = F.unfold(F.pad(images.reshape(B * T, C, H, W), [k // 2] * 4, mode=mode), k)
    products = (kernels.reshape(B, T, 1, k * k, H, W) * columns.reshape(B, T, C, k * k, H, W)).sum(3)
    return products if per_frame else products.sum(1)


def inputs(B=2, T=3, C=2, *, size=(9, 14), k=3, upsample=1, layout="planes", dtypes=(torch.float64, torch.float64)):
    """Leaves: frames, and kernels as they come, as a channels_last head leaves them, or every second column."""
    h, w = (-(-n // upsample) for n in size)
    frames = torch.randn(B, T, *([C] if C else []), *size, dtype=dtypes[0])
    head = torch.randn(B, T * k * k, h, 2 * w if layout == "strided" else w, dtype=dtypes[1])
    if layout == "taps last":
        head = head.contiguous(memory_format=torch.channels_last)
    kernels = head[..., : 2 * w : 2] if layout == "strided" else head
    kernels = kernels.unflatten(1, (T, k, k))
    return frames.requires_grad_(), kernels.detach().requires_grad_()


@pytest.fixture(params=["loops", "strips"])
def way(request, monkeypatch):
    if request.param == "loops":
        pytest.importorskip("numba")
        assert compiled_loops() is not None
    monkeypatch.setenv("FASTWEIGHTS_NUMBA", "1" if request.param == "loops" else "0")
    # several strips even for the small images of these tests
    monkeypatch.setattr(_local_conv_strips, "_STRIP", 2000)
    return request.param


def assert_equal(frames, kernels, **options):
    """Values and both gradients of local_conv, the reference and the oracle, in float64."""
    results = [function(frames, kernels, **options) for function in (oracle, local_conv, local_conv_reference)]
    cotangent = torch.randn_like(results[0])
    wanted, *others = ((y, *torch.autograd.grad(y, (frames, kernels), cotangent)) for y in results)
    for other in others:
        for a, b in zip(wanted, other, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-11)


def side_by_side(B, T, C, size, upsample, dtypes=(torch.float64, torch.float64)):
    """Leaves with one tap, the T numbers of a pixel side by side, as channels_last maps and gates have them."""
    h, w = (-(-n // upsample) for n in size)
    frames = torch.randn(B, C, *size, T, dtype=dtypes[0]).movedim(-1, 1)
    kernels = torch.randn(B, h, w, T, dtype=dtypes[1]).movedim(-1, 1).unflatten(1, (T, 1, 1))
    return frames.requires_grad_(), kernels.detach().requires_grad_()


LAYOUTS = ["planes", "taps last", "strided"]
RULES = [(1, "half_pixel"), (2, "half_pixel"), (2, "legacy"), (3, "half_pixel"), (3, "legacy"), (4, "half_pixel")]


@pytest.mark.parametrize(("upsample", "rule"), RULES)
@pytest.mark.parametrize(("C", "size"), [(1, (9, 14)), (2, (5, 7)), (1, (1, 3))])
def test_maps_side_by_side_are_summed_where_they_lie(way, upsample, rule, C, size, monkeypatch):
    frames, kernels = side_by_side(2, 6, C, size, upsample)
    assert_equal(frames, kernels, upsample=upsample, rule=rule)
    if way == "loops":
        # no other loop has to be asked
        monkeypatch.setattr(compiled_loops().loops, "product", None)
        monkeypatch.setattr(compiled_loops().loops, "product_of_neighbours", None)
        with torch.no_grad():
            local_conv(frames, kernels, upsample=upsample, rule=rule)


@pytest.mark.parametrize("dtypes", itertools.product((torch.float32, torch.bfloat16), repeat=2))
def test_maps_side_by_side_in_low_precision(way, dtypes):
    frames, kernels = (x.detach() for x in side_by_side(1, 33, 2, (6, 9), 2, dtypes))
    wanted = oracle(frames.double(), kernels.double(), upsample=2)
    tolerance = 1e-5 if dtypes[0] is torch.float32 else 2e-2
    torch.testing.assert_close(local_conv(frames, kernels, upsample=2).double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("upsample", "rule"), RULES)
@pytest.mark.parametrize(("padding", "per_frame"), [("zeros", False), ("replicate", True)])
def test_equals_unfold_multiply_sum(way, layout, upsample, rule, padding, per_frame):
    for k, C, size in [(3, 2, (9, 14)), (5, 0, (7, 6))]:
        frames, kernels = inputs(C=C, size=size, k=k, upsample=upsample, layout=layout)
        assert_equal(frames, kernels, upsample=upsample, rule=rule, padding=padding, per_frame=per_frame)


@given(data=st.data())
def test_any_shape(data):
    draw = data.draw
    small = st.integers(1, 3)
    upsample = draw(small)
    frames, kernels = inputs(
        draw(small),
        draw(small),
        draw(st.integers(0, 3)),
        size=(draw(st.integers(1, 12)), draw(st.integers(1, 12))),
        k=draw(st.sampled_from([1, 3, 5, 7, 9])),
        upsample=upsample,
        layout=draw(st.sampled_from(LAYOUTS)),
    )
    options = {"padding": draw(st.sampled_from(["zeros", "replicate"])), "per_frame": draw(st.booleans())}
    assert_equal(frames, kernels, upsample=upsample, rule=draw(st.sampled_from(["half_pixel", "legacy"])), **options)


@pytest.mark.parametrize(("layout", "upsample"), itertools.product(LAYOUTS, [1, 2]))
def test_more_pixels_than_a_tile_has(way, layout, upsample):
    """Rows and columns beyond the blocks that the loops and strips work on at once."""
    frames, kernels = inputs(1, 2, 2, size=(43, 301), k=3, upsample=upsample, layout=layout)
    assert_equal(frames, kernels, upsample=upsample, padding="replicate")


@pytest.mark.parametrize("upsample", [1, 2])
def test_one_kernel_for_all_pixels(way, upsample):
    """Expanded kernels, stride 0 along the pixels."""
    frames, kernels = inputs(1, 2, 2, size=(6, 7), k=5)
    shared = kernels[..., :1, :1].expand(-1, -1, -1, -1, -(-6 // upsample), -(-7 // upsample))
    assert_equal(frames, shared, upsample=upsample)


@pytest.mark.parametrize("upsample", [1, 2])
def test_half_pixel_rule_is_interpolate(way, upsample):
    frames, kernels = inputs(size=(9, 13), upsample=upsample)
    full = F.interpolate(kernels.flatten(1, 3), scale_factor=upsample, mode="bilinear", align_corners=False)
    full = full[..., :9, :13].unflatten(1, (3, 3, 3))
    torch.testing.assert_close(local_conv(frames, kernels, upsample=upsample), local_conv(frames, full))


@pytest.mark.parametrize(
    ("layout", "upsample", "dtype", "kernel_dtype"),
    [
        (layout, upsample, *dtypes)
        for layout, upsample in itertools.product(LAYOUTS, [1, 2])
        for dtypes in [
            (torch.float32, torch.float32),
            (torch.float32, torch.bfloat16),
            (torch.bfloat16, torch.bfloat16),
        ]
    ],
)
def test_low_precision_at_most_twice_plain_torch(way, layout, upsample, dtype, kernel_dtype):
    frames, kernels = inputs(size=(17, 33), k=5, upsample=upsample, layout=layout, dtypes=(dtype, kernel_dtype))
    exact_leaves = [x.detach().double().requires_grad_() for x in (frames, kernels)]
    exact = oracle(*exact_leaves, upsample=upsample)
    cotangent = torch.randn_like(exact).to(dtype)
    wanted = (exact, *torch.autograd.grad(exact, exact_leaves, cotangent.double()))

    def errors(function):
        y = function(frames, kernels, upsample=upsample)
        assert y.dtype == dtype
        found = (y, *torch.autograd.grad(y, (frames, kernels), cotangent))
        assert [x.dtype for x in found] == [dtype, dtype, kernel_dtype]
        return [(a - b.double()).square().mean().item() ** 0.5 for a, b in zip(wanted, found, strict=True)]

    for ours, plain in zip(errors(local_conv), errors(local_conv_reference), strict=True):
        assert ours <= 2 * plain


@pytest.mark.parametrize("layout", LAYOUTS)
def test_not_a_number_and_infinity_stay_where_they_are(way, layout):
    dtypes = (torch.float32, torch.bfloat16)
    frames, kernels = inputs(1, 1, 1, size=(1, 4), k=1, layout=layout, dtypes=dtypes)
    odd = torch.tensor([float("nan"), 1.0, float("inf"), 3e38]).reshape(1, 1, 1, 1, 4)
    with torch.no_grad():
        frames.fill_(1)
        kernels.copy_(odd.unsqueeze(0))
    y = local_conv(frames, kernels)
    torch.testing.assert_close(y, kernels.detach().float().flatten(0, 3).reshape(y.shape), equal_nan=True)
    to_frames, to_kernels = torch.autograd.grad(y, (frames, kernels), torch.ones_like(y), retain_graph=True)
    torch.testing.assert_close(to_frames, y.detach().reshape(frames.shape), equal_nan=True)
    # the largest float32 lies beyond the largest bfloat16
    largest = torch.finfo(torch.float32).max
    (to_kernels,) = torch.autograd.grad(y, kernels, odd.clamp(max=largest).masked_fill(odd == 3e38, largest)[0])
    expected = torch.tensor([float("nan"), 1.0, float("inf"), float("inf")])
    expected[2] = torch.tensor(largest).bfloat16().float()
    torch.testing.assert_close(to_kernels.flatten().float(), expected, equal_nan=True)


@pytest.mark.parametrize("upsample", [1, 2])
@pytest.mark.parametrize("per_frame", [False, True])
def test_gradients_to_second_order(way, upsample, per_frame):
    frames, kernels = inputs(1, 2, 1, size=(3, 5), upsample=upsample)

    def function(frames, kernels):
        return local_conv(frames, kernels, upsample=upsample, per_frame=per_frame, padding="replicate")

    assert torch.autograd.gradcheck(function, (frames, kernels), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (frames, kernels), fast_mode=True)


@pytest.mark.parametrize("upsample", [1, 2])
def test_same_result_on_any_number_of_threads(way, upsample):
    frames, kernels = inputs(size=(40, 37), k=5, upsample=upsample, dtypes=(torch.float32, torch.float32))

    def run():
        y = local_conv(frames, kernels, upsample=upsample)
        return (y, *torch.autograd.grad(y.square().sum(), (frames, kernels)))

    threads = torch.get_num_threads()
    once = run()
    try:
        torch.set_num_threads(3)
        again = run()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_gradient_keeps_the_memory_format(way):
    for layout in ("planes", "taps last"):
        frames, kernels = inputs(layout=layout, upsample=2)
        (grad,) = torch.autograd.grad(local_conv(frames, kernels, upsample=2).sum(), kernels)
        assert grad.stride() == kernels.stride()


def test_kernels_are_not_kept_for_frames_that_are_data(way):
    frames, kernels = inputs()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        local_conv(frames.detach(), kernels)
    assert saved == [frames.shape]


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


def test_without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastweights.ops._local_conv_cpu", None)
    compiled_loops.cache_clear()
    try:
        assert compiled_loops() is None
        frames, kernels = inputs()
        torch.testing.assert_close(local_conv(frames, kernels), oracle(frames, kernels))
    finally:
        compiled_loops.cache_clear()


def test_cache_that_cannot_be_written(monkeypatch):
    pytest.importorskip("numba")
    from fastweights.ops import _local_conv_compiled

    compiler = _local_conv_compiled.njit

    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compiler(function, **options)

    monkeypatch.setattr(_local_conv_compiled, "njit", njit)
    assert _local_conv_compiled.compiled(lambda x: x + 1)(1) == 2


def test_numba_is_not_imported_before_it_is_needed():
    code = "import sys, fastweights.ops; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


KERNELS = (1, 2, 3, 3, 4, 5)


@pytest.mark.parametrize(
    ("shape", "kernels", "options", "message"),
    [
        ((2, 4, 5), KERNELS, {}, r"got frames \(2, 4, 5\) and kernels .*, expected \(B, T, H, W\)"),
        ((1, 2, 4, 5), KERNELS[:5], {}, r"expected .* \(B, T, k, k, h, w\)"),
        ((1, 3, 4, 5), KERNELS, {}, "differ in their first axes"),
        ((2, 2, 4, 5), KERNELS, {}, "differ in their first axes"),
        ((1, 2, 4, 5), (1, 2, 2, 2, 4, 5), {}, "square and odd"),
        ((1, 2, 4, 5), (1, 2, 3, 5, 4, 5), {}, "square and odd"),
        ((1, 2, 4, 6), KERNELS, {}, "need kernels of 4 x 6 pixels"),
        ((1, 2, 4, 5), KERNELS, {"upsample": 2}, "upsample=2 need kernels of 2 x 3 pixels"),
        ((1, 2, 4, 5), KERNELS, {"upsample": 0}, "upsample is 0, expected a whole number"),
        ((1, 2, 4, 5), KERNELS, {"upsample": 2.0}, "upsample is 2.0, expected a whole number"),
        ((1, 2, 4, 5), KERNELS, {"padding": "reflect"}, "padding is 'reflect', expected 'zeros' or 'replicate'"),
        ((1, 2, 4, 5), KERNELS, {"rule": "nearest"}, "rule is 'nearest', expected 'half_pixel' or 'legacy'"),
        ((1, 2, 0, 5), (1, 2, 3, 3, 0, 5), {}, "are empty"),
    ],
)
def test_bad_input_is_one_clear_sentence(shape, kernels, options, message, unchecked_shapes):
    with pytest.raises(ValueError, match=message):
        local_conv(torch.zeros(shape), torch.zeros(kernels), **options)


def test_bad_dtype_and_device(unchecked_shapes):
    with pytest.raises(TypeError, match=r"expected floating-point tensors, got torch\.uint8 frames"):
        local_conv(torch.zeros(1, 2, 4, 5, dtype=torch.uint8), torch.zeros(KERNELS))
    with pytest.raises(ValueError, match="frames are on cpu, kernels on meta"):
        local_conv(torch.zeros(1, 2, 4, 5), torch.zeros(KERNELS, device="meta"))
