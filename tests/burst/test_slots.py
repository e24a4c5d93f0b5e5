import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from fastweights.burst.errors import BurstError
from fastweights.burst.slots import to_slots

sizes = st.integers(1, 40), st.integers(1, 9)


def burst(n):
    return torch.randn(n, 3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


@given(*sizes)
def test_the_weighted_mean_of_the_slots_is_the_mean_of_the_burst(n, slots):
    frames = burst(n)
    packed, counts = to_slots(frames, slots)
    assert packed.shape == (slots, 3, 3, 2)
    assert counts.sum() == n
    torch.testing.assert_close((packed * counts[:, None, None, None]).sum(0) / n, frames.mean(0))


@given(*sizes)
def test_frames_are_spread_evenly_and_the_reference_stays_pure_longest(n, slots):
    frames = burst(n)
    packed, counts = to_slots(frames, slots)
    if n >= slots:
        assert counts.max() - counts.min() <= 1
        assert counts[0] == counts.min()
    if n < 2 * slots:
        assert torch.equal(packed[0], frames[0])


@given(st.integers(1, 7))
def test_empty_slots_hold_the_mean_with_count_zero(n):
    frames = burst(n)
    packed, counts = to_slots(frames, 8)
    assert counts.tolist() == [1.0] * n + [0.0] * (8 - n)
    assert torch.equal(packed[:n], frames)
    torch.testing.assert_close(packed[n:], frames.mean(0).expand(8 - n, -1, -1, -1))


def test_every_slot_is_the_mean_of_frames_assigned_one_by_one():
    frames = burst(21)
    packed, counts = to_slots(frames, 8)
    owners = {slot: [slot] for slot in range(8)}
    for i in range(8, 21):
        owners[[1, 2, 3, 4, 5, 6, 7, 0][(i - 8) % 8]].append(i)
    for slot, members in owners.items():
        assert counts[slot] == len(members)
        torch.testing.assert_close(packed[slot], frames[members].mean(0))


def test_gradients_reach_every_frame():
    frames = burst(11).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: to_slots(x, 4)[0], frames[:, :, :2, :2].detach().requires_grad_())
    (gradient,) = torch.autograd.grad(to_slots(frames)[0].sum(), frames)
    assert (gradient > 0).all()


@pytest.mark.parametrize(("n", "slots"), [(0, 8), (3, 0)])
def test_an_empty_burst_or_no_slot_is_refused(n, slots):
    with pytest.raises(BurstError, match=f"cannot spread {n} frames over {slots} slots"):
        to_slots(torch.zeros(n, 3, 2, 2), slots)
