"""Burst denoisers built from predicted weights: kernels (KPN), gates or a basis, as published in grey; in colour."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fastweights import convert, zoo
from fastweights.axes import Patches
from fastweights.burst.basis import BasisHead
from fastweights.burst.precision import lowered
from fastweights.burst.statistics import BurstStatistics, burst_statistics
from fastweights.burst.trunk import REACH, Head, UNet, ZeroSum, initialise
from fastweights.codes import Code
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated, Mixture


@dataclass(frozen=True)
class ModelConfig:
    """Settings of a burst denoiser; the defaults are the released kernel prediction network.

    Args:
        task: "paper" for grey bursts with known noise, "camera" for colour bursts of finished photos.
        kind: "kpn" predicts kernels, "gated" gates between fixed filters, "basis" (grey only) kernels for the image and
            how each pixel blends them.
        frames: T, frames (camera: slots) of a burst.
        kernel_size: taps of the kernels, or of the gated network's first filters.
        width, post: channels of the U-Net; 64 and 200 as published, 32 and 100 for half width.
        maps: number of gates M (128 and 64 in the paper), or of kernels in the basis (90 in Xia 2020).
        out_kernel_size: taps of the gated network's second filters; None takes kernel_size, as the paper.
        features: a bottleneck of this many features before a 1 x 1 head; None is the published 3 x 3 head. With "kpn"
            the head is then a mixture and converts to features + 1 gates.
        unit_sum: kernels that sum to one and start at the mean of the frames, with repeated borders.
        rule: interpolation of the half-resolution code, "half_pixel" or "legacy" (TensorFlow 1).
    """

    task: Literal["paper", "camera"] = "paper"
    kind: Literal["kpn", "gated", "basis"] = "kpn"
    frames: int = 8
    kernel_size: int = 5
    width: int = 64
    post: int = 200
    maps: int = 128
    out_kernel_size: int | None = None
    features: int | None = None
    unit_sum: bool = False
    rule: Literal["half_pixel", "legacy"] = "half_pixel"

    def __post_init__(self):
        if self.task not in ("paper", "camera") or self.kind not in ("kpn", "gated", "basis"):
            raise ValueError(f"ModelConfig: no model of task {self.task!r} and kind {self.kind!r}")
        for name in ("frames", "kernel_size", "width", "post", "maps"):
            if getattr(self, name) < 1:
                raise ValueError(f"ModelConfig: {name} is {getattr(self, name)}, expected at least 1")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"ModelConfig: kernel_size is {self.kernel_size}, expected an odd number")
        if self.rule not in ("half_pixel", "legacy"):
            raise ValueError(f"ModelConfig: rule is {self.rule!r}, expected 'half_pixel' or 'legacy'")
        if self.features is not None and self.features < 1:
            raise ValueError(
                f"ModelConfig: features is {self.features}, expected at least 1, or None for no bottleneck"
            )
        if self.kind == "basis" and (self.task == "camera" or self.unit_sum or self.features is not None):
            raise ValueError(
                "ModelConfig: a basis prediction network needs task='paper', unit_sum=False (its kernels sum to one as "
                "they are) and features=None"
            )
        if self.task == "camera" and self.frames < 2:
            raise ValueError(f"ModelConfig: frames is {self.frames}, a camera network needs at least 2 slots")
        if self.task == "camera" and not self.unit_sum:
            raise ValueError("ModelConfig: a camera model needs unit_sum=True, or brightness would drift")
        if self.unit_sum and self.kind == "gated" and self.out_kernel_size != 1:
            raise ValueError(
                f"ModelConfig: out_kernel_size is {self.out_kernel_size} with unit_sum=True; filters on both sides "
                "have no projection on kernels that sum to one, set out_kernel_size=1"
            )


def build(config: ModelConfig) -> Denoiser:
    """The network of a config, freshly initialised from torch's default generator.

    Networks with unit_sum hold torch parametrisations, which pickle refuses: keep them by their state_dict.

    >>> model = build(ModelConfig())
    >>> sum(p.numel() for p in model.parameters())
    3335256
    """
    return CameraDenoiser(config) if config.task == "camera" else PaperDenoiser(config)


class Denoiser(nn.Module, abc.ABC):
    """Abstract: a burst network. Its picture at a pixel depends on pixels at most `reach` away, and on its basis."""

    config: ModelConfig
    reach: int

    def converted(self, inputs: tuple[Tensor, ...] = ()) -> tuple[Denoiser, convert.Report]:
        """A copy with gates in place of its kernels, the same picture, and a report (see `convert.model`)."""
        network, report = convert.model(self, inputs=inputs)
        return cast(Denoiser, network), report


class PaperDenoiser(Denoiser):
    """The denoiser of Mildenhall 2018 (kernels), Müller 2024 (gates) or Xia 2020 (a basis): grey, of known noise.

    `Y = W(NN(frames, noise)) frames`: one predicted weight on patches over the frames.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.reach = REACH + config.kernel_size
        self.trunk = UNet(config.frames + 1, config.width, config.post, config.rule)
        initialise(self.trunk, "he" if config.unit_sum else "glorot")
        self.weight = predicted_weight(config)

    def forward(
        self,
        frames: Float[Tensor, "b t h w"],
        noise: Float[Tensor, "b 1 h w"],
        per_frame: bool = False,
        estimate: int | None = None,
    ) -> Tensor:
        """The clean reference frame (B, 1, H, W); with per_frame=True the estimates (B, T, 1, H, W) of the frames.

        Estimate t is T times the contribution of frame t, so the mean of the estimates is the picture.

        Args:
            frames: linear light; frame 0 is the reference.
            noise: standard deviation of the noise in frame 0.
            per_frame: whether the estimates are wanted in place of the picture.
            estimate: a frame's number t, for the picture and the estimate t, (B, 2, 1, H, W); less work than all.
        """
        code = self.code(frames, noise)
        if estimate is not None:
            alone = torch.zeros_like(frames)
            alone[:, estimate] = frames[:, estimate]
            return torch.stack([self.product(code, frames), self.product(code, alone) * frames.shape[1]], 1)
        y = self.product(code, frames, per_frame)
        return y * frames.shape[1] if per_frame else y

    def code(self, frames: Float[Tensor, "b t h w"], noise: Float[Tensor, "b 1 h w"]) -> Code:
        """Kernels or gates of the burst at half resolution, or coefficients and basis."""
        b, h, w = frames.shape[0], *frames.shape[-2:]
        if frames.shape != (b, self.config.frames, h, w) or noise.shape != (b, 1, h, w):
            raise ValueError(
                f"PaperDenoiser: frames are {tuple(frames.shape)} and noise {tuple(noise.shape)}, expected "
                f"(B, {self.config.frames}, H, W) and (B, 1, H, W)"
            )
        return self.weight.code(self.trunk(torch.cat([frames, noise], dim=1)))

    def product(self, code: Code, frames: Float[Tensor, "b t h w"], per_frame: bool = False) -> Tensor:
        """`W(code) frames` (B, 1, H, W), or the frames' contributions (B, T, 1, H, W)."""
        y = self.weight.product(code, frames, per_frame=per_frame)
        if self.config.unit_sum:
            share = frames / frames.shape[1]
            y = y + (share.unsqueeze(2) if per_frame else share.sum(1, keepdim=True))
        return y


class CameraDenoiser(Denoiser):
    """A denoiser for colour bursts as a camera's files have them, blind to the camera: no noise level is given.

    The picture is the mean of the burst plus a predicted weight of zero sum applied to its frames, once for luma and
    once for both chroma planes; both weights come from one trunk, which sees the burst scaled by its own noise.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.reach = REACH + config.kernel_size + BurstStatistics.REACH
        self.trunk = UNet(BurstStatistics.channels(config.frames), config.width, config.post, config.rule)
        initialise(self.trunk, "he")
        self.luma = predicted_weight(config)
        self.chroma = predicted_weight(config)

    def forward(self, frames: Float[Tensor, "b t 3 h w"], counts: Float[Tensor, "b t"]) -> Float[Tensor, "b 3 h w"]:
        """The clean picture in linear light.

        Args:
            frames: linear light, aligned to frame 0; slots of the burst, see `fastweights.burst.slots`.
            counts: number of real frames averaged in each slot, 0 for an empty one; at least two slots are not empty.
        """
        t = self.config.frames
        if frames.ndim != 5 or frames.shape[1:3] != (t, 3) or counts.shape != (frames.shape[0], t):
            raise ValueError(
                f"CameraDenoiser: frames are {tuple(frames.shape)} and counts {tuple(counts.shape)}, expected "
                f"(B, {t}, 3, H, W) and (B, {t}); `fastweights.burst.slots.to_slots` makes both of any number of frames"
            )
        statistics = burst_statistics(frames, counts)
        features = self.trunk(statistics.inputs())
        planes = lowered(to_luma_chroma(frames.transpose(1, 2), dim=1))
        luma = self.luma.product(self.luma.code(features), planes[:, :1])
        chroma = self.chroma.product(self.chroma.code(features), planes[:, 1:])
        return statistics.mean + from_luma_chroma(torch.cat([luma, chroma], dim=1).squeeze(2), dim=1)


KERNEL_SCALE = 0.03  # of the numbers of a kernel that blends some tens of pixels


def predicted_weight(config: ModelConfig) -> PredictedWeight:
    """The predicted weight of a config, with its head as predictor: context is the trunk's features."""
    if config.kind == "basis":
        sizes = (config.frames, config.kernel_size, config.maps)
        decoder = BasisHead(config.post, *sizes)
        initialise(decoder, "glorot")
        return zoo.BasisPrediction(*sizes, predictor=decoder)
    axes = Patches(config.kernel_size, padding_mode="replicate" if config.unit_sum else "zeros")
    taps = config.frames * config.kernel_size**2
    outputs = config.features or (config.maps if config.kind == "gated" else taps)
    last = nn.Conv2d(config.post, outputs, 3, padding=1)
    head = Head(last)
    if config.features is not None:
        head.append(nn.ReLU())
        if config.kind == "gated":
            head.append(last := nn.Conv2d(config.features, config.maps, 1))
    initialise(head, "he" if config.unit_sum else "glorot")
    if config.unit_sum:
        with torch.no_grad():
            last.weight.mul_(0.005)  # a start at the mean of the frames
    if config.kind == "gated" and not config.unit_sum:
        sizes = (config.frames, config.kernel_size, config.maps)
        return zoo.GatedKernelPrediction(*sizes, out_kernel_size=config.out_kernel_size, predictor=head)
    if config.kind == "gated":
        filters = nn.Parameter(starting_filters(config.maps, config.frames, config.kernel_size))
        gated = Gated(torch.ones(1, config.maps), filters)
        parametrize.register_parametrization(gated, "v", ZeroSum())
        return PredictedWeight(gated, axes, head)
    if config.features is None:
        if config.unit_sum:
            head.append(ZeroSum(scale=KERNEL_SCALE))
        return zoo.KernelPrediction(config.frames, config.kernel_size, predictor=head, padding_mode=axes.padding_mode)
    templates = nn.Parameter(torch.randn(config.features, 1, taps) / config.features**0.5 / taps**0.5)
    mixture = Mixture(templates, nn.Parameter(torch.zeros(1, taps)))
    if config.unit_sum:
        parametrize.register_parametrization(mixture, "templates", ZeroSum(dim=-1))
        parametrize.register_parametrization(mixture, "base", ZeroSum(dim=-1))
    return PredictedWeight(mixture, axes, head)


def starting_filters(maps: int, frames: int, kernel_size: int) -> Float[Tensor, "m i"]:
    """First filters worth blending: each frame, four blurs and eight directional blurs of the mean, small noise."""
    r = (kernel_size - 1) / 2
    grid = torch.arange(kernel_size) - r
    v, u = torch.meshgrid(grid, grid, indexing="xy")
    single = [torch.zeros(frames, kernel_size, kernel_size) for _ in range(frames)]
    for t, filters in enumerate(single):
        filters[t, kernel_size // 2, kernel_size // 2] = 1
    blurs = [torch.exp(-(u**2 + v**2) / (2 * sigma**2)) for sigma in (0.5, 0.8, 1.3, 2.5)]
    for angle in range(8):
        cos, sin = math.cos(math.pi * angle / 8), math.sin(math.pi * angle / 8)
        along, across = cos * v + sin * u, cos * u - sin * v
        blurs.append(torch.exp(-(along**2) / (2 * 1.8**2) - across**2 / (2 * 0.5**2)))
    blurs = [(blur / blur.sum()).expand(frames, -1, -1) / frames for blur in blurs]
    filters = torch.stack(single + blurs)[:maps]
    rest = torch.randn(max(0, maps - len(filters)), *filters.shape[1:]) / math.sqrt(frames) / kernel_size
    return torch.cat([filters, 0.3 * rest]).flatten(1)


def to_luma_chroma(rgb: Tensor, dim: int) -> Tensor:
    """Planes Y = (R + 2 G + B) / 4, R - G, B - G along an axis: luma as a Bayer sensor counts its pixels."""
    red, green, blue = rgb.unbind(dim)
    red, blue = red - green, blue - green
    return torch.stack([(red + blue).div_(4).add_(green), red, blue], dim)


def from_luma_chroma(planes: Tensor, dim: int) -> Tensor:
    """The inverse of `to_luma_chroma`."""
    luma, red, blue = planes.unbind(dim)
    green = luma - (red + blue).div_(4)
    return torch.stack([red + green, green, blue + green], dim)
