"""Kernel heads of networks written by hand, with F.unfold as people write it, become gates."""

import itertools
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastweights import PredictedWeight, convert
from fastweights.axes import Patches
from fastweights.kernel_heads import window_moment

T, K = 3, 5
ORDERS = [" ".join(letters) for letters in itertools.permutations("tuv")]


class HandWritten(nn.Module):
    """A kernel prediction network in plain PyTorch; its head's channels come in any order."""

    def __init__(self, features, kernel, order="t u v", after=None):
        super().__init__()
        self.trunk = nn.Conv2d(T, features, 3, padding=1)
        self.head = nn.Conv2d(features, T * K * K, kernel, padding=kernel // 2)
        self.order, self.after = order.split(), after or nn.Identity()

    def features(self, frames):
        return torch.relu(self.trunk(frames))

    def forward(self, frames):
        sizes = {"t": T, "u": K, "v": K}
        kernels = self.after(self.head(self.features(frames))).unflatten(1, [sizes[letter] for letter in self.order])
        kernels = kernels.permute(0, *(1 + self.order.index(letter) for letter in "tuv"), 4, 5).flatten(1, 3)
        columns = F.unfold(frames, K, padding=K // 2).unflatten(2, frames.shape[-2:])
        return (kernels * columns).sum(1, keepdim=True)


class Normalised(nn.Module):
    def forward(self, kernels):
        return kernels / kernels.sum(1, keepdim=True)


class Projection(nn.Module):
    def forward(self, kernels):
        return 0.3 * (kernels - kernels.mean(1, keepdim=True)) + 1 / (T * K * K)


def network(*arguments, **named):
    torch.manual_seed(0)
    return HandWritten(*arguments, **named).double(), torch.randn(2, T, 9, 7, dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("features", "kernel", "gates"), [(6, 1, 7), (6, 3, 55), (20, 3, 75)])
def test_the_picture_is_the_same(order, features, kernel, gates):
    model, frames = network(features, kernel, order)
    gated = convert.kernel_head(model.head, T, K, order=order)
    assert gated.gates.out_channels == gates
    assert gated.bound == 0
    torch.testing.assert_close(gated(model.features(frames), frames), model(frames), rtol=1e-10, atol=1e-10)


def test_the_parts_are_a_gated_structure_and_the_report_says_what_was_saved():
    model, frames = network(6, 1)
    gated = convert.kernel_head(model.head, T, K)
    layer = PredictedWeight(gated.structure, Patches(K), gated.gates)
    features = model.features(frames)
    torch.testing.assert_close(layer(frames, features), model(frames), rtol=1e-10, atol=1e-10)
    kernels = model.head(features).movedim(1, -1).unsqueeze(-2)
    torch.testing.assert_close(layer.weight(features), kernels, rtol=1e-10, atol=1e-10)
    assert str(gated.report) == (
        "kernel head: 75 kernel numbers -> 7 gates, 10.7x fewer (singular vectors of the head; exact)"
    )
    cut = convert.kernel_head(model.head, T, K, rank=4, features=features).report
    assert (cut.before, cut.after) == (75, 4)
    assert cut.bound.slope > 0
    assert f"measured on the inputs: {cut.measured:.1e}" in str(cut)


def test_what_is_affine_behind_the_head_is_taken_in():
    model, frames = network(6, 1, after=Projection())
    gated = convert.kernel_head(model.head, T, K, after=Projection())
    assert gated.gates.out_channels == 7
    torch.testing.assert_close(gated(model.features(frames), frames), model(frames), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "after",
    [
        nn.Softmax(dim=1),
        nn.Softmax(dim=-1),
        nn.GroupNorm(1, T * K * K),
        nn.Conv2d(T * K * K, T * K * K, 3, padding=1),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.Dropout(),
        Normalised(),
    ],
    ids=lambda after: str(after).partition("(")[0],
)
def test_what_is_not_affine_in_the_numbers_of_a_pixel_is_refused(after):
    """Spatial layers among it: on a single pixel they look affine."""
    model, _ = network(6, 1)
    with pytest.raises(TypeError, match="not affine in the numbers of a pixel"):
        convert.kernel_head(model.head, T, K, after=after)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (nn.Upsample(scale_factor=2), r"75 numbers at 1 x 1 pixels into shape \(76, 75, 2, 2\)"),
        (nn.PixelShuffle(5), r"75 numbers at 1 x 1 pixels into shape \(76, 3, 5, 5\)"),
        (nn.Conv2d(T * K * K, 7, 1), r"75 numbers at 1 x 1 pixels into shape \(76, 7, 1, 1\)"),
        (nn.InstanceNorm2d(T * K * K), "InstanceNorm2d.* fails on kernels of 75 numbers: Expected more than 1 spatial"),
    ],
    ids=lambda value: str(value).partition("(")[0],
)
def test_what_changes_the_shape_of_the_kernels_is_refused(after, message):
    model, _ = network(6, 1)
    with pytest.raises(ValueError, match=message):
        convert.kernel_head(model.head, T, K, after=after)


def test_batch_normalisation_is_taken_in_once_it_has_learned():
    model, frames = network(6, 1, after=nn.BatchNorm2d(T * K * K))
    with pytest.raises(TypeError, match=r"not affine .*, call \.eval\(\) first"):
        convert.kernel_head(model.head, T, K, after=model.after)
    model(frames)
    model.eval()
    gated = convert.kernel_head(model.head, T, K, after=model.after)
    torch.testing.assert_close(gated(model.features(frames), frames), model(frames), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["replicate", "reflect", "circular"])
def test_other_borders_by_the_structure_on_patches(mode):
    model, frames = network(6, 1)
    gated = convert.kernel_head(model.head, T, K)
    columns = F.unfold(F.pad(frames, (K // 2,) * 4, mode=mode), K).unflatten(2, frames.shape[-2:])
    features = model.features(frames)
    expected = (model.head(features) * columns).sum(1, keepdim=True)
    layer = PredictedWeight(gated.structure, Patches(K, padding_mode=mode), gated.gates)
    torch.testing.assert_close(layer(frames, features), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 4, 6])
def test_the_bound_holds_when_gates_are_left_out(rank):
    model, frames = network(6, 1)
    gated = convert.kernel_head(model.head, T, K, rank=rank)
    assert gated.gates.out_channels == rank
    features = model.features(frames)
    kernels = torch.einsum("bnhw,ntuv->btuvhw", gated.gates(features), gated.filters.weight).flatten(1, 3)
    error = (kernels - model.head(features)).norm(dim=1)
    seen = torch.cat([features, torch.ones_like(features[:, :1])], dim=1).norm(dim=1)
    assert (error <= gated.bound * seen * (1 + 1e-9)).all()
    assert error.max() > 1e-3


def test_half_resolution_gates_are_interpolated_as_kernels_are():
    model, frames = network(6, 1)
    small = model.features(F.avg_pool2d(frames[..., :8, :6], 2))
    frames = frames[..., :8, :6]

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    columns = F.unfold(frames, K, padding=K // 2).unflatten(2, (8, 6))
    expected = (up(model.head(small)) * columns).sum(1, keepdim=True)
    gated = convert.kernel_head(model.head, T, K)
    torch.testing.assert_close(gated.combine(up(gated.gates(small)), frames), expected, rtol=1e-10, atol=1e-10)


def spoilt():
    head = nn.Conv2d(6, T * K * K, 1)
    head.weight.data[3] = torch.nan
    return head


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 4}, "expected one group, an odd kernel size and 100 output channels"),
        ({"order": "t u u"}, "expected the letters t, u and v"),
        ({"rank": 0}, "rank is 0"),
        ({"metric": torch.eye(9)}, r"metric has shape \(9, 9\), expected \(75, 75\)"),
        ({"metric": torch.zeros(75, 75)}, "metric is zero or not finite"),
        ({"metric": torch.full((75, 75), torch.nan)}, "metric is zero or not finite"),
        ({"frames": -3}, "for -3 frames"),
        ({"kernel_size": -5}, "kernels of -5 x -5"),
        ({"features": torch.rand(1, 7, 4, 4)}, r"features have shape \(1, 7, 4, 4\), expected \(b, 6, h, w\)"),
        ({"features": torch.rand(6, 4, 4)}, r"features have shape \(6, 4, 4\), expected \(b, 6, h, w\)"),
        ({"features": torch.rand(0, 6, 4, 4)}, r"expected \(b, 6, h, w\) of at least one image"),
        ({"features": torch.full((1, 6, 4, 4), torch.inf)}, "features are not finite"),
        ({"head": spoilt()}, "the head's weight or bias is not finite"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_one_sentence(changes, message):
    settings = {"head": nn.Conv2d(6, T * K * K, 1), "frames": T, "kernel_size": K, "rank": 3} | changes
    with pytest.raises(ValueError, match=message):
        convert.kernel_head(**settings)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("head", [nn.Linear(6, 75), nn.Conv3d(6, 75, 1), nn.Sequential(nn.Conv2d(6, 75, 1))])
def test_other_heads_are_refused_by_their_type(head):
    with pytest.raises(TypeError, match=rf"the head is {type(head).__name__}, expected nn.Conv2d"):
        convert.kernel_head(head, T, K)


@pytest.mark.usefixtures("unchecked_shapes")
def test_sizes_that_do_not_fit_are_named_in_use():
    gated = convert.kernel_head(nn.Conv2d(6, T * K * K, 1), T, K)
    frames = torch.randn(2, T, 9, 7)
    with pytest.raises(ValueError, match=r"gates of \(2, 7, 5, 4\) for frames of \(2, 3, 9, 7\).* interpolate"):
        gated(torch.randn(2, 6, 5, 4), frames)
    with pytest.raises(ValueError, match=r"for frames of \(2, 4, 9, 7\), expected \(b, 7, h, w\) and \(b, 3, h, w\)"):
        gated(torch.randn(2, 6, 9, 7), torch.randn(2, 4, 9, 7))
    with pytest.raises(ValueError, match=r"for frames of \(2, 3, 9, 7\)"):
        gated(torch.randn(3, 6, 9, 7), frames)
    with pytest.raises(ValueError, match=r"frames have shape \(3, 9, 7\), expected \(b, t, h, w\)"):
        window_moment(frames[0], K)
    with pytest.raises(ValueError, match=r"frames have shape \(2, 3, 4, 7\), expected .* at least 5 pixels a side"):
        window_moment(frames[..., :4, :], K)
    with pytest.raises(ValueError, match=r"frames have shape \(0, 3, 9, 7\)"):
        window_moment(frames[:0], K)


def test_real_features_say_which_gates_are_kept():
    """The kernels of features in a subspace of 2 dimensions need 2 gates, wherever the head is large."""
    model, frames = network(6, 1)
    model.head.bias = None
    with torch.no_grad():
        model.head.weight[:, 2:] *= 100
    features = torch.cat([torch.rand(1, 2, 9, 7), torch.zeros(1, 4, 9, 7)], dim=1).double()
    kept = convert.kernel_head(model.head, T, K, rank=2, features=features)
    blind = convert.kernel_head(model.head, T, K, rank=2)
    exact = convert.kernel_head(model.head, T, K)(features, frames[:1])
    torch.testing.assert_close(kept(features, frames[:1]), exact, rtol=1e-9, atol=1e-9)
    assert (blind(features, frames[:1]) - exact).abs().max() > 1e-3
    assert blind.bound < kept.bound  # for other features singular values are the safer choice


@pytest.mark.parametrize("after", [None, Projection()])
@pytest.mark.parametrize("by_pictures", [False, True])
def test_no_other_gates_lose_less_of_what_was_seen(by_pictures, after):
    """Eckart and Young, in the metric: what is left is what singular values of R K leave, for any root R of it."""
    model, frames = network(6, 1, after=after)
    features = model.features(torch.randn(4, T, 9, 7, dtype=torch.float64))
    metric = window_moment(frames + 3, K)
    kept = {"features": features, "metric": metric if by_pictures else None}
    gated = convert.kernel_head(model.head, T, K, after=after, rank=3, **kept)
    exact = convert.kernel_head(model.head, T, K, after=after)
    wanted, found = (
        torch.einsum("bnhw,ntuv->tuvbhw", one.gates(features), one.filters.weight).flatten(3).flatten(0, 2)
        for one in (exact, gated)
    )
    root = torch.linalg.cholesky(metric + 1e-12 * torch.eye(len(metric))).T if by_pictures else torch.eye(T * K * K)
    root = root.double()
    energy = torch.linalg.svdvals(root @ wanted).square()
    error = (root @ (found - wanted)).square().sum()
    torch.testing.assert_close(error, energy[3:].sum(), rtol=1e-4, atol=0)
    assert gated.measured == pytest.approx((error / energy.sum()).sqrt().item(), rel=1e-4)
    torch.testing.assert_close(gated.filters.weight.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_pictures_lose_less_by_their_own_metric_and_kernels_by_theirs():
    """On real windows: brightness is most of them, and an error of a kernel's sum is all that one sees."""
    model, _ = network(20, 3)
    features = model.features(torch.randn(2, T, 9, 7, dtype=torch.float64))
    frames = 3 + torch.randn(2, T, 9, 7, dtype=torch.float64)
    moment = window_moment(frames, K)
    heads = [convert.kernel_head(model.head, T, K, rank=8, features=features, metric=m) for m in (None, moment)]
    exact = convert.kernel_head(model.head, T, K)

    def errors(gated):
        kernels = [torch.einsum("bnhw,ntuv->btuvhw", h.gates(features), h.filters.weight) for h in (gated, exact)]
        pictures = gated(features, frames) - exact(features, frames)
        return (kernels[0] - kernels[1]).norm().item(), pictures.norm().item()

    (by_kernels, of_kernels), (by_pictures, of_pictures) = (errors(gated) for gated in heads)
    assert by_kernels < by_pictures
    assert of_pictures < 0.9 * of_kernels


def test_the_moment_of_windows_is_their_mean_product_whatever_the_brightness():
    frames = torch.rand(2, T, 5, 5)
    windows = frames.flatten(1).double()
    expected = sum(len(w) * torch.outer(w, w) / w.square().sum() for w in windows) / 2
    torch.testing.assert_close(window_moment(frames, 5), expected)
    torch.testing.assert_close(window_moment(torch.cat([frames[:1], 7 * frames[1:]]), 5), expected, rtol=1e-6, atol=0)
    assert (window_moment(torch.zeros(1, T, 5, 5), 5) == 0).all()


def test_the_page_runs_and_says_what_it_prints(capsys):
    page = (Path(__file__).parents[1] / "docs" / "kernel_networks.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    torch.manual_seed(0)
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/kernel_networks.md", "exec"), names)
    assert f"`{capsys.readouterr().out.strip()}`" in page
    assert 0 < names["few"].measured < 1
    assert names["picture"].shape == (2, 1, 37, 50)
    assert names["colours"].shape == (2, 3, 1, 37, 50)
    features, frames = names["features"], names["frames"]
    kernels = names["three"](features)[:, 200:400]
    windows = F.unfold(frames, 5, padding=2).view_as(kernels)
    torch.testing.assert_close(names["green"](features, frames), (kernels * windows).sum(1, keepdim=True))
