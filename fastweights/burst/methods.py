"""Ways from a burst to a clean picture, under the names of an evaluation's table."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst import baselines
from fastweights.burst.cases import Case
from fastweights.burst.models import Denoiser, PaperDenoiser
from fastweights.burst.pipeline import denoise
from fastweights.burst.synthesis.paper import noise_map
from fastweights.burst.transfer import srgb_encode

Method = Callable[[Case], Float[Tensor, "c h w"]]
# Of BM3D, for white noise and for a measured spectrum: what served it best on held-back training photos, never on a
# test set (`python -m experiments.denoiser.bm3d_strength`). A camera's noise is estimated, and demosaicing spreads it.
_KNOWN_NOISE = {"white": 1.25, "spectrum": 1.0}
_CAMERA_NOISE = {"white": 1.75, "spectrum": 1.25}


def classical(bm3d: bool = True) -> dict[str, Method]:
    """What needs no network, by name; BM3D needs the extra `baselines`."""
    found: dict[str, Method] = {
        "one frame": lambda case: case.frames[0],
        "mean": lambda case: case.frames.mean(0),
        "align + mean": lambda case: baselines.align(case.frames, case.noise).mean(0),
        "HDR+ merge": lambda case: baselines.hdr_plus(case.frames, case.noise),
        "align + NLM": lambda case: baselines.nlm(case.frames, case.noise),
    }
    if bm3d:
        found["align + BM3D"] = lambda case: _bm3d(case, "white")
        found["align + BM3D, spectrum"] = lambda case: _bm3d(case, "spectrum")
    return found


def _bm3d(case: Case, noise: str) -> Float[Tensor, "c h w"]:
    strength = (_CAMERA_NOISE if case.sensor is None else _KNOWN_NOISE)[noise]
    return baselines.bm3d(case.frames, case.noise, spectrum=noise == "spectrum", strength=strength)


def network_method(network: Denoiser) -> Method:
    """A network as a method: with alignment for bursts of photos, and the known noise for the papers'."""

    def camera(case: Case) -> Tensor:
        return denoise(srgb_encode(case.frames).clamp(0, 1), model=network, reference=0).image

    def paper(case: Case) -> Tensor:
        assert case.sensor is not None
        read, shot = (torch.tensor(value) for value in case.sensor)
        with torch.no_grad():
            return network(case.frames[None, :, 0], noise_map(case.frames[0, 0], read, shot)[None, None])[0]

    return paper if isinstance(network, PaperDenoiser) else camera


def fits(network: Denoiser, name: str) -> bool:
    """Whether a network is for the bursts of a set."""
    return isinstance(network, PaperDenoiser) == name.startswith("paper")
