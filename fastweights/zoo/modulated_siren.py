"""Modulated periodic activations: a SIREN whose activations are gated by a second network."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Channels
from fastweights.layer import PredictedWeight
from fastweights.structures import Gated


class ModulatedSiren(nn.Module):
    """A coordinate network for many signals: `h_l = alpha_l . sin(omega (W_l h_(l-1) + b_l))`, alpha from a latent z.

    `alpha_0 = relu(W' z + b')`, `alpha_l = relu(W' [alpha_(l-1) ; z] + b')`, and a last linear layer. Parts: `gates`,
    one gating layer a hidden layer, whose predictors are the modulator's layers. Each gate together with the linear
    layer behind it is a gated double layer, `W diag(alpha)`.

    Shapes: x (*b, N, in_features) coordinates, in [-1, 1]; z (*b, latent_features); result (*b, N, out_features).

    Args:
        in_features, out_features: of the signal, e.g. 2 and 3.
        latent_features: numbers of z; 256 as published.
        hidden, layers: width and number of hidden layers; 256 and 4 as published.
        omega: frequency factor; 30 as in SIREN.

    Source: Mehta et al. 2021, Eq. 4 and 5; initialisation of Sitzmann et al. 2020.

    >>> ModulatedSiren(2, 3)(torch.rand(4, 10, 2), torch.randn(4, 256)).shape
    torch.Size([4, 10, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        latent_features: int = 256,
        hidden: int = 256,
        layers: int = 4,
        omega: float = 30.0,
    ):
        super().__init__()
        if layers < 1:
            raise ValueError(f"ModulatedSiren: layers is {layers}, expected at least 1")
        self.omega, self.sizes = omega, (in_features, latent_features)
        self.linears = nn.ModuleList([nn.Linear(in_features if n == 0 else hidden, hidden) for n in range(layers)])
        self.gates = nn.ModuleList(
            [
                PredictedWeight(
                    Gated(None, None, gates=hidden),
                    Channels(),
                    nn.Sequential(nn.Linear(latent_features + (n > 0) * hidden, hidden), nn.ReLU()),
                )
                for n in range(layers)
            ]
        )
        self.last = nn.Linear(hidden, out_features)
        siren_init(self.linears[0], 1 / in_features)
        for linear in (*self.linears[1:], self.last):
            siren_init(linear, (6 / hidden) ** 0.5 / omega)

    def forward(self, x: Float[Tensor, "*b n i"], z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b n j"]:
        if (x.shape[-1], z.shape[-1]) != self.sizes:
            raise ValueError(
                f"ModulatedSiren: x has shape {tuple(x.shape)} and z {tuple(z.shape)}, expected {self.sizes[0]} "
                f"coordinates and {self.sizes[1]} latent features last"
            )
        context = z
        for linear, gate in zip(self.linears, self.gates, strict=True):
            layer = cast(PredictedWeight, gate)
            alpha = cast(Tensor, layer.code(context))
            x = layer.product(alpha, torch.sin(self.omega * linear(x)))
            context = torch.cat([alpha, z], dim=-1)
        return self.last(x)


def siren_init(linear: nn.Module, bound: float) -> None:
    """Weights of a sine layer drawn from U(+-bound): 1 / n in the first layer, sqrt(6 / n) / omega behind it."""
    nn.init.uniform_(cast(nn.Linear, linear).weight, -bound, bound)
