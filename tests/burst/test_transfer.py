"""The transfer curves: inverses, continuity, the standard's own numbers, finite gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastweights.burst.transfer import kpn_encode, srgb_decode, srgb_encode


def standard(linear: float) -> float:
    """IEC 61966-2-1 as written, one number at a time."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * math.pow(linear, 1 / 2.4) - 0.055


def kpn(linear: float) -> float:
    """The three pieces of the kernel prediction paper's code, with its constants."""
    a = 0.0557169508
    if linear <= 0.0031308:
        return 12.71171 * linear
    return (1 + a) * math.pow(linear, 1 / 2.4) - a if linear <= 1 else 1 + (1 + a) / 2.4 * (linear - 1)


@given(st.floats(-2, 4))
def test_curves_equal_their_definitions(value: float) -> None:
    linear = torch.tensor(value, dtype=torch.float64)
    assert srgb_encode(linear).item() == pytest.approx(standard(value), abs=1e-12)
    assert kpn_encode(linear).item() == pytest.approx(kpn(value), abs=1e-6)


@given(st.floats(-2, 4))
def test_decode_inverts_encode(value: float) -> None:
    linear = torch.tensor(value, dtype=torch.float64)
    # The standard's two rounded thresholds leave a gap of 3e-8 between the pieces.
    assert srgb_decode(srgb_encode(linear)).item() == pytest.approx(value, abs=1e-8, rel=1e-12)


def test_every_8_bit_value_survives() -> None:
    values = torch.arange(256) / 255
    assert torch.equal((srgb_encode(srgb_decode(values)) * 255).round().int(), torch.arange(256).int())


def test_kpn_curve_is_smooth_where_its_pieces_meet() -> None:
    for joint in (0.0031308, 1.0):
        around = torch.tensor([joint - 1e-7, joint + 1e-7], dtype=torch.float64, requires_grad=True)
        encoded = kpn_encode(around)
        slopes = torch.autograd.grad(encoded.sum(), around)[0]
        assert encoded[1].item() == pytest.approx(encoded[0].item(), abs=1e-5)
        assert slopes[1].item() == pytest.approx(slopes[0].item(), rel=1e-3)


@pytest.mark.parametrize("curve", [srgb_encode, srgb_decode, kpn_encode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_positive(curve, dtype) -> None:
    values = torch.tensor([-1e6, -1.0, -1e-8, 0.0, 1e-8, 0.0031308, 0.04045, 0.5, 1.0, 3.0], dtype=dtype)
    values.requires_grad_()
    slopes = torch.autograd.grad(curve(values).sum(), values)[0]
    assert slopes.isfinite().all()
    assert (slopes > 0).all()


@pytest.mark.parametrize("curve", [srgb_encode, srgb_decode, kpn_encode])
def test_gradients_agree_with_differences(curve) -> None:
    values = torch.tensor([-0.3, 0.001, 0.02, 0.1, 0.5, 0.9, 1.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(curve, values)
