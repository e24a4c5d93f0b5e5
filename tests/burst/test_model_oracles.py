"""The burst networks written out a second time, from the fact that is published (C.1) and from their docstrings."""

import pytest
import torch
import torch.nn.functional as F

from fastweights.burst.models import ModelConfig, build


def conv(x, weights, name):
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)


def trunk(x, weights):
    """3 convs; mean of 2 x 2, 3 convs; mean of 2 x 2, 3 convs; x2, beside the middle maps, 2 convs; ReLU after each."""

    def level(x, name, count):
        for layer in range(count):
            x = conv(x, weights, f"trunk.{name}.{2 * layer}").clamp(min=0)
        return x

    def halve(x):
        return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3))

    middle = level(halve(level(x, "fine", 3)), "middle", 3)
    coarse = level(halve(middle), "coarse", 3)
    raised = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return level(torch.cat([raised, middle], 1), "merge", 2)


def apply_kernels(kernels, frames, mode):
    """(B, 200, h, w) at half resolution on (B, 8, H, W), by unfold."""
    full = F.interpolate(kernels, scale_factor=2, mode="bilinear", align_corners=False)
    padded = F.pad(frames, (2, 2, 2, 2), mode=mode)
    columns = F.unfold(padded, 5).unflatten(-1, frames.shape[-2:])
    return (full * columns).sum(1, keepdim=True)


def box(x, size):
    ones = torch.ones(1, 1, size, size, dtype=x.dtype)
    planes = x.flatten(0, 1).unsqueeze(1)
    total = F.conv2d(planes, ones, padding=size // 2)
    return (total / F.conv2d(torch.ones_like(planes), ones, padding=size // 2)).view_as(x)


def camera_inputs(frames, counts):
    n = counts[:, :, None, None, None]
    mean = (n * frames).sum(1) / n.sum(1)
    filled = (counts > 0).sum(1).view(-1, 1, 1, 1)
    variance = sum(n[:, t] * (frames[:, t] - mean) ** 2 for t in range(8)) / (filled - 1)
    sd = (box(variance, 7) + 1e-8) ** 0.5
    total = n.sum(1)
    deviations = [(frames[:, t] - mean) / (sd / n[:, t] ** 0.5) if counts[0, t] else 0 * mean for t in range(8)]
    contrasts = [(mean - box(mean, size)) / (sd / total**0.5) for size in (3, 9)]
    scaled = [x.sign() * (1 + x.abs()).log() for x in deviations + contrasts]
    energy = (box(contrasts[1] ** 2, 7) + 0.1).log() / 2
    return mean, torch.cat([*scaled, energy, sd.log() / 2 + 2.5, (mean.clamp(min=0) + 0.003).log() / 2 + 1], 1)


@pytest.fixture
def small():
    return {"width": 3, "post": 5}


def awake(config):
    torch.manual_seed(3)
    model = build(config).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model, dict(model.state_dict())


def test_the_released_network(small):
    model, weights = awake(ModelConfig(**small))
    frames, noise = torch.rand(2, 8, 12, 16, dtype=torch.float64), torch.rand(2, 1, 12, 16, dtype=torch.float64)
    kernels = conv(trunk(torch.cat([frames, noise], 1), weights), weights, "weight.predictor.0")
    torch.testing.assert_close(model(frames, noise), apply_kernels(kernels, frames, "constant"))


def test_the_gated_network_of_the_paper(small):
    model, weights = awake(ModelConfig(**small, kind="gated", maps=4))
    frames, noise = torch.rand(2, 8, 12, 16, dtype=torch.float64), torch.rand(2, 1, 12, 16, dtype=torch.float64)
    gates = conv(trunk(torch.cat([frames, noise], 1), weights), weights, "weight.predictor.0")
    gates = F.interpolate(gates, scale_factor=2, mode="bilinear", align_corners=False)
    first = weights["weight.structure.v"].view(4, 8, 5, 5)
    second = weights["weight.structure.u"].view(1, 5, 5, 4).permute(0, 3, 1, 2).flip(-1, -2)
    hidden = F.conv2d(frames, first, padding=2) * gates
    torch.testing.assert_close(model(frames, noise), F.conv2d(hidden, second, padding=2))


def test_the_basis_network(small):
    model, weights = awake(ModelConfig(**small, kind="basis", maps=4, kernel_size=5))
    frames, noise = torch.rand(2, 8, 12, 16, dtype=torch.float64), torch.rand(2, 1, 12, 16, dtype=torch.float64)
    features = trunk(torch.cat([frames, noise], 1), weights)
    name = "weight.predictor"
    blend = conv(features, weights, f"{name}.coefficients").exp()
    blend = blend / blend.sum(1, keepdim=True)
    blend = F.interpolate(blend, scale_factor=2, mode="bilinear", align_corners=False)
    # Each output of the first layer sees one pixel: 4 x 4 numbers of every channel.
    first = torch.einsum("bc,cdhw->bdhw", features.mean((2, 3)), weights[f"{name}.first.weight"])
    x = (first + weights[f"{name}.first.bias"][:, None, None]).clamp(min=0)
    x = F.interpolate(x, size=(8, 8), mode="bilinear", align_corners=False)
    x = conv(x, weights, f"{name}.second").clamp(min=0)
    x = conv(F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=False), weights, f"{name}.last").exp()
    basis = x.unflatten(1, (4, 8))
    basis = basis / basis.sum((2, 3, 4), keepdim=True)
    kernels = torch.einsum("brhw,brtuv->btuvhw", blend, basis)
    windows = F.unfold(F.pad(frames, (2, 2, 2, 2), mode="reflect"), 5).unflatten(-1, (12, 16))
    torch.testing.assert_close(model(frames, noise), (kernels.flatten(1, 3) * windows).sum(1, keepdim=True))


def test_glorot_bounds_of_the_released_network(small):
    model = build(ModelConfig(**small))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert p.abs().max() == 0
        else:
            bound = (6 / (9 * (p.shape[0] + p.shape[1]))) ** 0.5
            assert 0.8 * bound < p.abs().max() <= bound


@pytest.mark.parametrize("kind", ["kpn", "gated"])
def test_the_camera_network(small, kind):
    one_side = {"out_kernel_size": 1, "maps": 24} if kind == "gated" else {}
    model, weights = awake(ModelConfig(**small, task="camera", unit_sum=True, kind=kind, **one_side))
    frames = 0.4 + 0.05 * torch.randn(1, 8, 3, 12, 16, dtype=torch.float64)
    counts = torch.tensor([[1.0, 2, 2, 1, 1, 1, 0, 1]], dtype=torch.float64)
    mean, inputs = camera_inputs(frames, counts)
    features = trunk(inputs, weights)
    red, green, blue = frames.unbind(2)
    planes = {"luma": [(red + 2 * green + blue) / 4], "chroma": [red - green, blue - green]}
    added = {}
    for name, images in planes.items():
        code = conv(features, weights, f"{name}.predictor.0")
        if kind == "kpn":
            kernels = 0.03 * (code - code.mean(1, keepdim=True))
        else:
            filters = weights[f"{name}.structure.parametrizations.v.original"]
            kernels = torch.einsum("bmhw,mn->bnhw", code, filters - filters.mean(1, keepdim=True))
        added[name] = [apply_kernels(kernels, image, "replicate") for image in images]
    (luma,), (cr, cb) = added["luma"], added["chroma"]
    green = luma - cr / 4 - cb / 4  # Y = G + (Cr + Cb) / 4
    expected = mean + torch.cat([green + cr, green, green + cb], 1)
    torch.testing.assert_close(model(frames, counts), expected)
