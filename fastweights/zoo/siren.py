"""The sine network whose weights a hypernetwork predicts, of Sitzmann 2020."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from fastweights.heads import PerTensor
from fastweights.network import HyperNetwork
from fastweights.structures import Mixture


class Sine(nn.Module):
    """`sin(omega x)`; omega multiplies what the linear layer before it gives, bias and all."""

    def __init__(self, omega: float = 30.0):
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sin(self.omega * x)

    def extra_repr(self) -> str:
        return f"omega={self.omega}"


def siren(
    in_features: int, out_features: int, hidden_features: int = 256, hidden_layers: int = 3, omega: float = 30.0
) -> nn.Sequential:
    """A sine network: linear, `sin(30 .)`, ..., linear, with its initialisation.

    Weights of the first layer are U(+-1 / in), of the others U(+-sqrt(6 / in) / omega), so that they feed every sine
    with a standard deviation of one; biases are torch.nn.Linear's.

    Args:
        hidden_layers: besides the first.

    Source: Sitzmann 2020, Sec. 3.2.

    >>> siren(2, 3)(torch.rand(10, 2)).shape
    torch.Size([10, 3])
    """
    sizes = [in_features, *[hidden_features] * (hidden_layers + 1), out_features]
    layers: list[nn.Module] = []
    for number, (i, j) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(i, j)
        bound = 1 / i if number == 0 else (6 / i) ** 0.5 / omega
        nn.init.uniform_(linear.weight, -bound, bound)
        layers += [linear, Sine(omega)]
    return nn.Sequential(*layers[:-1])


class SirenHyperNetwork(HyperNetwork):
    """A sine network for every context: a small network of its own predicts each tensor of the SIREN.

    Decomposition: `HyperNetwork` of `siren` with the head `PerTensor`. The published code's networks have two hidden
    ReLU layers (its argument says one).

    Shapes: x (B, N, in) with context (B, ...): N coordinates of B signals; the predictor emits an embedding (B, k).

    Args:
        in_features: coordinates, in [-1, 1].
        out_features: channels of the signal.
        predictor: context to embedding; default nn.Identity(), the context is then the embedding itself.
        embedding_features: k.
        hidden_features, hidden_layers: of the SIREN; hidden layers besides the first.
        hyper_hidden: width of the predicting networks.

    Source: Sitzmann 2020, Sec. 4.4 and its supplement; initialisation as its published code.

    >>> network = SirenHyperNetwork(2, 3, hidden_features=16, embedding_features=8, hyper_hidden=8)
    >>> network(torch.rand(4, 100, 2), torch.randn(4, 8)).shape
    torch.Size([4, 100, 3])
    """

    def __init__(
        self,
        in_features: int = 2,
        out_features: int = 3,
        predictor: nn.Module | None = None,
        *,
        embedding_features: int = 256,
        hidden_features: int = 256,
        hidden_layers: int = 3,
        hyper_hidden: int = 256,
    ):
        primary = siren(in_features, out_features, hidden_features, hidden_layers)
        head = PerTensor(hidden=hyper_hidden, layers=2)
        predictor = nn.Identity() if predictor is None else predictor
        super().__init__(primary, predictor, head=head, features=embedding_features)
        for name, structure, coder in zip(self.shapes, self.head.structures, self.head.coders, strict=True):  # type: ignore[arg-type]
            _initialise(structure, coder, bias=name.endswith("bias"))


def _initialise(structure: Mixture, coder: nn.Sequential, *, bias: bool) -> None:
    for module in coder:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    assert structure.base is not None
    hidden = structure.code_features
    bound = 1 / (hidden if bias else structure.in_features)
    nn.init.uniform_(structure.base, -bound, bound)
    nn.init.normal_(structure.templates, std=(2 / hidden) ** 0.5 / 100)
