"""Tiles join to what one application to the whole picture gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastweights.burst.errors import BurstError
from fastweights.burst.models import ModelConfig, build
from fastweights.burst.tiles import by_tiles


class Blur(nn.Module):
    """Mean of the frames, a 5 x 5 box around each pixel, on the grid of 4 x 4 cells as a U-Net's pooling."""

    reach = 8

    def forward(self, frames, counts):
        mean = (frames * counts[:, :, None, None, None]).sum(1) / counts.sum()
        cells = nn.functional.avg_pool2d(mean, 4, ceil_mode=True).repeat_interleave(4, 2).repeat_interleave(4, 3)
        cells = cells[..., : mean.shape[2], : mean.shape[3]]
        return nn.functional.avg_pool2d(mean, 5, 1, 2, count_include_pad=False) + cells


def tiled(network, frames, counts, tile, window=None, done=lambda *_: None):
    size = frames.shape[-2:]
    window = window or (slice(0, size[0]), slice(0, size[1]))
    return by_tiles(
        lambda y, x: network(frames[None, :, :, y, x], counts[None])[0], tuple(size), window, tile, network.reach, done
    )


@given(st.integers(16, 70), st.integers(16, 70), st.integers(8, 80), st.data())
@settings(max_examples=40)
def test_tiles_join_without_seams(height, width, tile, data):
    frames, counts = torch.rand(3, 3, height, width), torch.tensor([1.0, 2.0, 0.0])
    whole = Blur()(frames[None], counts[None])[0]
    assert torch.allclose(tiled(Blur(), frames, counts, tile), whole, atol=1e-6)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    part = tiled(Blur(), frames, counts, tile, (slice(top, bottom), slice(left, right)))
    assert torch.allclose(part, whole[:, top:bottom, left:right], atol=1e-6)


@pytest.mark.parametrize("kind", ["kpn", "gated"])
def test_the_networks_reach_is_enough(kind):
    network = build(ModelConfig("camera", kind, width=4, post=6, maps=6, out_kernel_size=1, unit_sum=True))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        frames = 0.3 + 0.05 * torch.randn(8, 3, 131, 170)
        whole = network(frames[None], torch.ones(1, 8))[0]
        joined = tiled(network, frames, torch.ones(8), 48)
        part = tiled(network, frames, torch.ones(8), 40, (slice(21, 90), slice(63, 170)))
    assert (whole - frames.mean(0)).abs().max() > 0.01
    assert (joined - whole).abs().max() < 1e-5 * whole.abs().max()
    assert (part - whole[:, 21:90, 63:]).abs().max() < 1e-5 * whole.abs().max()


def test_progress_ends_at_the_whole_picture():
    told = []
    tiled(Blur(), torch.rand(2, 3, 40, 60), torch.ones(2), 16, None, lambda *done: told.append(done))
    assert told[-1] == (2400, 2400)
    assert told == sorted(told)


def test_a_tile_below_the_grid_is_refused():
    with pytest.raises(BurstError, match="tile is 4"):
        tiled(Blur(), torch.rand(2, 3, 16, 16), torch.ones(2), 4)
