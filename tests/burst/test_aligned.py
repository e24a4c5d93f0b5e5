import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastweights.burst.aligned import Aligned
from fastweights.burst.frames import load
from fastweights.burst.motion import STILL, Motion, Registration


def shifted(down, right, **more):
    return Motion(np.array([[1.0, 0.0, right], [0.0, 1.0, down]]), **more)


def aligned(frames, motions):
    number = len(motions)
    nothing = torch.zeros(number)
    registration = Registration(list(range(number)), motions, torch.zeros(number, 2), *[nothing] * 4)
    return Aligned(load(frames, "linear"), registration)


def window(height, width):
    return slice(0, height), slice(0, width)


moves = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5)


@given(moves, st.integers(16, 20), st.integers(16, 20))
def test_every_value_comes_from_a_frame_that_saw_the_place(moves, height, width):
    moves = [(0, 0), *moves]
    frames = torch.rand(len(moves), 3, height, width)
    found = aligned(frames, [shifted(*move) for move in moves]).light(*window(height, width))
    for t in range(len(moves)):
        for y in range(0, height, 3):
            for x in range(width):
                turn = [(t + step) % len(moves) for step in range(len(moves))]
                places = [(index, y + moves[index][0], x + moves[index][1]) for index in turn]
                index, row, column = next(p for p in places if 0 <= p[1] < height and 0 <= p[2] < width)
                assert torch.equal(found[t, :, y, x], frames[index, :, row, column])


@given(moves, st.data())
def test_a_window_is_a_part_of_the_whole(moves, data):
    frames = torch.rand(len(moves) + 1, 3, 24, 30)
    turned = Motion(np.array([[0.999, -0.04, 1.3], [0.04, 0.999, -0.6]]))
    here = aligned(torch.cat([frames, frames[:1]]), [Motion(STILL), *(shifted(*move) for move in moves), turned])
    top, left = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 26))
    part = slice(top, data.draw(st.integers(top + 1, 24))), slice(left, data.draw(st.integers(left + 1, 30)))
    torch.testing.assert_close(here.light(*part), here.light(*window(24, 30))[..., part[0], part[1]], atol=2e-3, rtol=0)


def test_the_noise_at_the_border_stays_what_it_is():
    frames = 0.5 + 0.02 * torch.randn(8, 3, 64, 64)
    motions = [shifted((-1) ** t * t, t) for t in range(8)]
    found = aligned(frames, motions).light(*window(64, 64))
    # Seen by frame 0 and some others only; repeated values keep their variance, up to (n - 1) / n.
    assert 0.6 < found[..., 3:61, 58:61].var(0).mean().sqrt() / 0.02 < 1.05


def test_what_does_not_fit_comes_from_the_next_frame_and_light_is_scaled():
    frames = torch.rand(3, 3, 16, 20)
    fits = torch.ones(16, 20, dtype=torch.bool)
    fits[4:9, 5:12] = False
    motions = [Motion(STILL), Motion(STILL, fits=fits, gain=0.5), Motion(STILL)]
    found = aligned(frames, motions).light(*window(16, 20))
    torch.testing.assert_close(found[1], torch.where(fits, 0.5 * frames[1], frames[2]))


def test_flow_is_followed_where_it_is_believed():
    frames = torch.rand(2, 3, 20, 24)
    flows = torch.zeros(20, 24, dtype=torch.bool)
    flows[5:15] = True
    flow = torch.tensor([2.0, -1.0])[:, None, None].expand(2, 20, 24)
    motion = Motion(STILL, flow, flows, torch.ones_like(flows))
    found = aligned(frames, [Motion(STILL), motion]).light(slice(4, 16), slice(3, 20))
    torch.testing.assert_close(found[1, :, 1:11], frames[1, :, 4:14, 5:22], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1, :, 0], frames[1, :, 4, 3:20])


def test_maps_of_a_smaller_copy_serve_the_whole():
    frames = torch.rand(2, 3, 21, 33)
    fits = torch.zeros(5, 8, dtype=torch.bool)
    fits[:, 4:] = True
    found = aligned(frames, [Motion(STILL), Motion(STILL, fits=fits, step=4)]).light(*window(21, 33))
    torch.testing.assert_close(found[1, ..., :16], frames[0, ..., :16])
    torch.testing.assert_close(found[1, ..., 16:], frames[1, ..., 16:])


@pytest.mark.parametrize("offset", [(0.05, 0.0), (3.0, -7.04)])
def test_hardly_a_fraction_is_not_interpolated(offset):
    frames = torch.rand(2, 3, 20, 24)
    found = aligned(frames, [Motion(STILL), shifted(*offset)]).light(slice(8, 12), slice(9, 14))
    down, right = round(offset[0]), round(offset[1])
    assert torch.equal(found[1], frames[1, :, 8 + down : 12 + down, 9 + right : 14 + right])
