"""One case of the equalities: a layer small and awkward in size, its inputs, and its equation from `oracles`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastweights import PredictedWeight


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], PredictedWeight]
    x: tuple[int, ...]
    context: tuple[int, ...] | None
    oracle: Callable[[PredictedWeight, Tensor, Tensor], Tensor]

    def make(self) -> tuple[PredictedWeight, Tensor, Tensor]:
        torch.manual_seed(0)
        layer = self.build().double()
        x = torch.randn(self.x, dtype=torch.float64)
        return layer, x, x if self.context is None else torch.randn(self.context, dtype=torch.float64)
