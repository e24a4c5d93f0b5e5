"""A burst scaled by its own noise: what the camera denoiser sees.

Scaling by the noise decides whether the network learns at all: raw frames as inputs gave no better a picture than
their mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.precision import lowered


@dataclass(frozen=True)
class BurstStatistics:
    """Mean and noise of a burst in linear light.

    Args:
        frames: slots, aligned.
        counts: real frames averaged in each slot.
        mean: of all real frames.
        sd: standard deviation of one real frame around the mean, pooled over 7 x 7 pixels.
    """

    frames: Float[Tensor, "b t 3 h w"]
    counts: Float[Tensor, "b t"]
    mean: Float[Tensor, "b 3 h w"]
    sd: Float[Tensor, "b 3 h w"]

    REACH: ClassVar[int] = 3 + 7

    @staticmethod
    def channels(slots: int) -> int:
        """Number of planes of `inputs` for a number of slots."""
        return 3 * slots + 15

    def inputs(self) -> Float[Tensor, "b n h w"]:
        """Network inputs of unit scale.

        Deviations of the slots in units of their noise; the mean's contrast to its surroundings at two sizes in
        units of the mean's noise, and the energy of that contrast; level of noise and of light, in logarithms.
        """
        count, _, height, width = self.mean.shape
        dtype = lowered(self.mean.new_empty(0)).dtype
        stacked = self.mean.new_empty(count, self.channels(self.frames.shape[1]), height, width, dtype=dtype)
        for index, plane in enumerate(self._planes()):
            stacked[:, 3 * index : 3 * index + 3] = plane
        # As the convolutions want it.
        return stacked.contiguous(memory_format=torch.channels_last)

    def _planes(self) -> Iterator[Float[Tensor, "b 3 h w"]]:
        # Slot by slot and in place: passes over fresh memory took most of the time.
        rate = 1 / self.sd
        for frame, weight in _by_slot(self.frames, self.counts.sqrt()):
            yield _compress((frame - self.mean).mul_(rate).mul_(weight))
        rate_of_mean = rate * self.counts.sum(1).sqrt()[:, None, None, None]
        fine, coarse = ((self.mean - _box(self.mean, size)).mul_(rate_of_mean) for size in (3, 9))
        yield _compress(fine)
        yield _compress(coarse)
        yield torch.log(_box(coarse.square(), 7) + 0.1) / 2
        yield torch.log(self.sd) / 2 + 2.5
        yield torch.log(self.mean.clamp(min=0) + 0.003) / 2 + 1


def burst_statistics(frames: Float[Tensor, "b t 3 h w"], counts: Float[Tensor, "b t"]) -> BurstStatistics:
    """Mean and noise of a burst from its own slots; a slot of n frames deviates by 1 / sqrt(n) as much as one frame."""
    # A compiled graph cannot look at the counts.
    if not torch.compiler.is_compiling() and bool((counts.count_nonzero(1) < 2).any()):
        raise ValueError(f"burst_statistics: counts are {counts.tolist()}, expected at least two slots with frames")
    mean = torch.zeros_like(frames[:, 0])
    for frame, share in _by_slot(frames, counts / counts.sum(1, keepdim=True)):
        mean = mean.addcmul_(frame, share)
    variance = torch.zeros_like(mean)
    freedom = (counts.count_nonzero(1) - 1)[:, None]
    for frame, share in _by_slot(frames, counts / freedom):
        deviation = frame - mean
        variance = variance.addcmul_(deviation.square(), share)
    # The smallest step of an 8-bit file near black is 3e-4 in linear light.
    return BurstStatistics(frames, counts, mean, (_box(variance, 7) + 1e-8).sqrt())


def _by_slot(
    frames: Float[Tensor, "b t 3 h w"], values: Float[Tensor, "b t"]
) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 1 1"]]]:
    return zip(frames.unbind(1), values.to(frames.dtype)[:, :, None, None, None].unbind(1), strict=True)


def _compress(x: Tensor) -> Tensor:
    # asinh in spirit; torch's asinh takes four times as long.
    size = x.abs().log1p_()
    return size * x.sign() if torch.onnx.is_in_onnx_export() else size.copysign_(x)  # ONNX has no copysign


def _box(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c h w"]:
    """Means over the size x size pixels around each, of those that lie in the picture."""
    if x.is_cpu and not x.requires_grad and not torch.compiler.is_compiling():
        # OpenCV's take a tenth of the time.
        planes = [*x.flatten(0, 1).numpy(), np.ones(x.shape[-2:], x.numpy().dtype)]
        *sums, number = (
            cv2.boxFilter(plane, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT) for plane in planes
        )
        return torch.from_numpy(np.stack(sums)).div_(torch.from_numpy(number)).view_as(x)
    # Axis by axis: the same means for a fraction of the sums.
    across = F.avg_pool2d(x, (1, size), stride=1, padding=(0, size // 2), count_include_pad=False)
    return F.avg_pool2d(across, (size, 1), stride=1, padding=(size // 2, 0), count_include_pad=False)
