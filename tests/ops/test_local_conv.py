"""local_conv against a third writing (F.unfold and an interpolation by indices), on every way it can be computed."""

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from local_conv_cases import LAYOUTS, RULES, assert_equal, inputs, oracle, side_by_side

from fastweights.ops import local_conv
from fastweights.ops._local_conv_operator import compiled_loops
from fastweights.ops.local_conv import local_conv_reference

operator = torch.ops.fastweights.local_conv.default


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
