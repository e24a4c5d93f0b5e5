"""Where the networks start: the papers say nothing, and the results depend on it."""

import torch
from torch import Tensor, nn

from fastweights.init import hyperfan_in
from fastweights.network import HyperNetwork
from fastweights.structures import Mixture

STARTS = ("default", "he", "hyperfan-in", "anchored")


def apply(network: nn.Module, start: str, contexts: Tensor) -> None:
    """Draws a network's parameters anew, in place.

    default: every layer as torch.nn.Linear starts, the last one of f too.
    he: He-uniform weights and zero biases, in every layer.
    hyperfan-in: as he, but the last layer of f by Chang 2020, with the mean square of its inputs on `contexts`.
    anchored: the library's own start, f's last layer near one ordinary network, all else as torch.nn.Linear starts.

    The embedding method has no predicted weights: for it hyperfan-in is he, and anchored is default.
    """
    if start not in STARTS:
        raise ValueError(f"start={start!r}: expected one of {', '.join(STARTS)}")
    if start in ("he", "hyperfan-in"):
        # A hypernetwork's primary has no weights of its own.
        trained = network.predictor if isinstance(network, HyperNetwork) else network
        for module in trained.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    if not isinstance(network, HyperNetwork):
        return
    if start == "hyperfan-in":
        with torch.no_grad():
            hyperfan_in(network, network.predictor(contexts).square().mean().item())
    for mixture in network.head.structures:
        assert isinstance(mixture, Mixture)
        fan_in = mixture.code_features
        with torch.no_grad():
            assert mixture.base is not None
            if start == "default":
                mixture.templates.uniform_(-(fan_in**-0.5), fan_in**-0.5)
                mixture.base.uniform_(-(fan_in**-0.5), fan_in**-0.5)
            elif start == "he":
                mixture.templates.uniform_(-((6 / fan_in) ** 0.5), (6 / fan_in) ** 0.5)
                mixture.base.zero_()
