"""What a network costs on given inputs: parameters, multiply-adds, largest tensor. Counted, not timed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

import fastweights.ops.local_conv  # noqa: F401  registers the operation counted below


@dataclass(frozen=True)
class Cost:
    """Counts of one call.

    parameters: trained numbers. multiply_adds: of matrix products, convolutions and local convolutions; elementwise
    operations are not counted. largest: shape of the largest tensor made on the way, and its bytes.
    """

    parameters: int
    multiply_adds: int
    largest: tuple[int, ...]
    largest_bytes: int

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.largest))
        return (
            f"{self.parameters:,} parameters, {self.multiply_adds / 1e6:,.1f} M multiply-adds, "
            f"largest tensor {shape} ({self.largest_bytes / 2**20:.1f} MiB)"
        )


def measure(module: nn.Module, *inputs: Tensor) -> Cost:
    """Run a network once without gradients and count.

    >>> print(measure(nn.Linear(10, 20), torch.zeros(3, 10)))
    220 parameters, 0.0 M multiply-adds, largest tensor 3 x 20 (0.0 MiB)
    """
    parameters = sum(p.numel() for p in module.parameters())
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.fastweights.local_conv: _local_conv_flops})
    held = (*inputs, *module.parameters(), *module.buffers())
    with torch.no_grad(), counter, _LargestTensor(held) as largest:
        module(*inputs)
    return Cost(parameters, counter.get_total_flops() // 2, largest.shape, largest.bytes)


def _local_conv_flops(frames: tuple[int, ...], kernels: tuple[int, ...], *args, **kwargs) -> int:
    b, t, c, h, w = frames if len(frames) == 5 else (*frames[:2], 1, *frames[2:])
    return 2 * b * t * kernels[2] * kernels[3] * c * h * w


class _LargestTensor(TorchDispatchMode):
    """Remembers the largest storage that an operation made; what was there before does not count."""

    def __init__(self, held: tuple[Tensor, ...]):
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in held}
        self.shape: tuple[int, ...] = ()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                size = tensor.untyped_storage().nbytes()
                if size > self.bytes and func.namespace != "prim":
                    self.shape, self.bytes = tuple(tensor.shape), size
        return out
