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


@given(st.integers(16, 70), st.integers(16, 70), st.integers(8, 80))
@settings(max_examples=30)
def test_tiles_join_without_seams(height, width, tile):
    frames, counts = torch.rand(3, 3, height, width), torch.tensor([1.0, 2.0, 0.0])
    whole = Blur()(frames[None], counts[None])[0]
    assert torch.allclose(by_tiles(Blur(), frames, counts, tile), whole, atol=1e-6)


@pytest.mark.parametrize("kind", ["kpn", "gated"])
def test_the_networks_reach_is_enough(kind):
    network = build(ModelConfig("camera", kind, width=4, post=6, maps=6, out_kernel_size=1, unit_sum=True))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        frames = 0.3 + 0.05 * torch.randn(8, 3, 131, 170)
        whole = network(frames[None], torch.ones(1, 8))[0]
        tiled = by_tiles(network, frames, torch.ones(8), 48)
    assert (whole - frames.mean(0)).abs().max() > 0.01
    assert (tiled - whole).abs().max() < 1e-5 * whole.abs().max()


def test_progress_ends_at_the_whole_picture():
    told = []
    by_tiles(Blur(), torch.rand(2, 3, 40, 60), torch.ones(2), 16, lambda *done: told.append(done))
    assert told[-1] == (2400, 2400)
    assert told == sorted(told)


def test_a_network_has_to_tell_its_reach():
    with pytest.raises(BurstError, match="reach"):
        by_tiles(nn.Identity(), torch.rand(2, 3, 16, 16), torch.ones(2), 16)
    with pytest.raises(BurstError, match="tile is 4"):
        by_tiles(Blur(), torch.rand(2, 3, 16, 16), torch.ones(2), 4)
