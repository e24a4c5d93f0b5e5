"""SimpleGate with its gate removed, or an activation added: rows for `layers_that_learn`.

A photo under noise between two 3 x 3 convolutions; in the middle 32 channels, the first half of which the second half
gates in NAFNet's way, through an activation, or not at all.
"""

from __future__ import annotations

from torch import Tensor, nn

from experiments.mueller2024.small_networks import Row, restorer
from experiments.mueller2024.small_tasks import NOISY
from fastweights import zoo


class Activated(nn.Module):
    """`x_1 . s(x_2)`: SimpleGate with an activation on the gates."""

    def __init__(self, channels: int, activation: nn.Module):
        super().__init__()
        self.gate = zoo.Gating(channels, activation, dim=-3, predictor=nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return self.gate(first, second)


def middle(*layers: nn.Module, left: int = 16) -> nn.Module:
    """The network with these layers in the middle, a 3 x 3 convolution before them as well."""
    return restorer(nn.Conv2d(32, 32, 3, padding=1), *layers, channels=32, after=left)


GATES = [
    Row("nothing", NOISY, lambda: middle(left=32), steps=100),
    Row("ReLU on all channels", NOISY, lambda: middle(nn.ReLU(), left=32), steps=100),
    Row("SimpleGate", NOISY, lambda: middle(zoo.SimpleGate(16)), steps=100),
    Row("SimpleGate, GELU on the gates", NOISY, lambda: middle(Activated(16, nn.GELU())), steps=100),
    Row("SimpleGate, sigmoid on the gates", NOISY, lambda: middle(Activated(16, nn.Sigmoid())), steps=100),
    Row("SimpleGate, ReLU behind it", NOISY, lambda: middle(zoo.SimpleGate(16), nn.ReLU()), steps=100),
]
