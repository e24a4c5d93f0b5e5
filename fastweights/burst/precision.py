"""Lower precision: whether this processor's own bfloat16 arithmetic makes a network faster, and its use."""

import platform
import time
import timeit
from functools import cache, partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Precision: TypeAlias = Literal["float32", "bfloat16"]
# Below this the rounding is not worth it, and a busy machine would change its mind from run to run.
_WORTH = 1.5


@cache
def fastest() -> Precision:
    """The precision for a network's convolutions on this processor: "bfloat16" where it is native and pays.

    Native: the processor says that it multiplies bfloat16 itself (AVX512_BF16 or AMX on x86). Pays: a convolution as
    the networks have them takes at most two thirds of its time in float32, measured once a process in some 50 ms. An
    emulated bfloat16, or one that a library does not use, is slower than float32 and never chosen.

    Example
    -------
    >>> fastest() in ("float32", "bfloat16")
    True
    """
    return "bfloat16" if native() and speed() >= _WORTH else "float32"


def lowered(x: Tensor) -> Tensor:
    """A tensor in the precision of torch.autocast, where that is on: what is moved first takes half the time."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if on else x


def native() -> bool:
    """Whether the processor says that it multiplies bfloat16 itself."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    # Private names of torch: a version without them is treated as a processor without them.
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(ask() for ask in asked if ask is not None)


def speed() -> float:
    """How many times as fast as in float32 a convolution of the networks' kind is in bfloat16, measured.

    In processor time of one thread: other programs on the machine change nothing.
    """
    times = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            picture = torch.ones(1, 64, 96, 96).to(dtype, memory_format=torch.channels_last)
            kernels = torch.ones(64, 64, 3, 3).to(dtype, memory_format=torch.channels_last)
            convolution = partial(torch.conv2d, picture, kernels)
            convolution()
            times[dtype] = min(timeit.repeat(convolution, timer=time.process_time, number=1, repeat=4))
    finally:
        torch.set_num_threads(threads)
    return times[torch.float32] / times[torch.bfloat16]
