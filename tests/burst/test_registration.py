import cv2
import numpy as np
import pytest
import torch

from fastweights.burst import images
from fastweights.burst.aligned import Aligned
from fastweights.burst.frames import load
from fastweights.burst.registration import register
from fastweights.burst.transfer import srgb_decode, srgb_encode

SIDE = 160


@pytest.fixture(scope="module")
def photo():
    light = srgb_decode(images.read(images.SAMPLE)).permute(1, 2, 0).numpy()
    return cv2.GaussianBlur(light, (0, 0), 0.7)


def seen(photo, down=0.0, right=0.0, turn=0.0):
    """What a camera sees that looks `down`, `right` farther and is turned by degrees around the middle."""
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (SIDE - 1) / 2
    place = np.array([180 + right, 60 + down]) + middle - rotation @ [middle, middle]
    matrix = np.hstack([rotation, place[:, None]]).astype(np.float32)
    return cv2.warpAffine(photo, matrix, (SIDE, SIDE), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP)


def burst(pictures, noise=0.01, seed=0):
    clean = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    noisy = clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return srgb_encode(noisy.clamp(0, 1)).float(), clean


def moved(frames, found):
    height, width = frames.shape[-2:]
    return Aligned(load(frames), found).light(slice(0, height), slice(0, width))


def error(frames, found, clean):
    return (moved(frames, found).mean(0) - clean)[:, 4:-4, 4:-4].abs().mean().item()


def test_shifts_turns_and_light_are_found(photo):
    moves = [(0, 0, 0), (5, -3, 0), (-4.5, 6.25, 1.2), (2, 2, -1.5)]
    pictures = [seen(photo, *move) for move in moves]
    pictures[3] = pictures[3] * 0.9
    frames, clean = burst(pictures)
    found = register(load(frames))
    assert found.kept == [0, 1, 2, 3]
    torch.testing.assert_close(found.shifts, -torch.tensor([m[:2] for m in moves]).to(found.shifts), atol=0.2, rtol=0)
    assert found.turns.tolist() == pytest.approx([-m[2] for m in moves], abs=0.1)
    assert found.gains.tolist() == pytest.approx([1, 1, 1, 1 / 0.9], abs=0.01)
    assert error(frames, found, clean[0]) < (srgb_decode(frames[0]) - clean[0]).abs().mean()


def test_another_reference_comes_first(photo):
    frames, clean = burst([seen(photo, 3, 1), seen(photo), seen(photo, -2, 4)])
    found = register(load(frames), reference=1)
    assert found.kept == [1, 0, 2]
    torch.testing.assert_close(moved(frames, found)[0], srgb_decode(frames[1]))
    assert error(frames, found, clean[1]) < (srgb_decode(frames[1]) - clean[1]).abs().mean()


def test_a_static_burst_is_left_alone(photo):
    frames, _ = burst([seen(photo)] * 4, noise=0.03)
    found = register(load(frames))
    torch.testing.assert_close(moved(frames, found), found.gains[:, None, None, None] * srgb_decode(frames))
    assert found.gains.tolist() == pytest.approx([1] * 4, abs=0.01)
    assert found.fitting.tolist() == [1] * 4


def test_a_thing_that_moves_leaves_no_ghost(photo):
    still = seen(photo)
    pictures = []
    for number in range(5):
        picture = still.copy()
        picture[60:100, 20 + 12 * number : 60 + 12 * number] = 0.9 * still[10:50, 60:100][::-1]
        pictures.append(picture)
    frames, clean = burst(pictures)
    found = register(load(frames))
    assert len(found.kept) == 5
    plain = (srgb_decode(frames).mean(0) - clean[0]).abs()[:, 55:105, 15:150].mean()
    assert (moved(frames, found).mean(0) - clean[0]).abs()[:, 55:105, 15:150].mean() < 0.25 * plain


@pytest.mark.parametrize("bad", ["black", "white", "blurred", "another scene"])
def test_a_bad_frame_is_left_out(photo, bad):
    good = [seen(photo, 0.3 * n, -0.2 * n) for n in range(4)]
    wrong = {
        "black": np.zeros_like(good[0]),
        "white": np.ones_like(good[0]),
        "blurred": cv2.GaussianBlur(good[0], (0, 0), 2.5),
        "another scene": np.ascontiguousarray(seen(photo, 200, 100)[::-1]),
    }[bad]
    frames, _ = burst([*good[:2], wrong, *good[2:]])
    assert register(load(frames)).kept == [0, 1, 3, 4]


def test_where_no_other_frame_fits_the_reference_stays(photo):
    frames, _ = burst([seen(photo), np.zeros((SIDE, SIDE, 3), np.float32)])
    found = register(load(frames))
    assert found.kept == [0, 1]
    assert found.fitting[1] == 0
    torch.testing.assert_close(moved(frames, found), srgb_decode(frames[:1]).expand(2, -1, -1, -1))


@pytest.mark.parametrize("size", [(16, 16), (40, 23)])
def test_small_and_flat_pictures(size):
    frames = (0.5 + 0.02 * torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    found = moved(frames, register(load(frames)))
    assert found.shape == frames.shape
    assert found.isfinite().all()


def test_a_large_burst_is_registered_on_smaller_copies(photo, monkeypatch):
    frames, clean = burst([seen(photo), seen(photo, 4.5, -3.25, 1.0), seen(photo, -2, 5)])
    monkeypatch.setattr("fastweights.burst.registration._PIXELS", SIDE * SIDE / 4)
    found = register(load(frames))
    assert found.motions[1].step == 2 or found.motions[1].fits is None
    torch.testing.assert_close(found.shifts[1], torch.tensor([-4.5, 3.25]), atol=0.2, rtol=0)
    assert found.turns[1].item() == pytest.approx(-1, abs=0.15)
    assert error(frames, found, clean[0]) < (srgb_decode(frames[0]) - clean[0]).abs().mean()
