"""A kernel prediction network as a gated one: the same picture, or fewer gates for the kernels that real bursts need.

A folded network is an ordinary gated network, `ModelConfig(kind="gated", out_kernel_size=1, maps=gates)`: nothing new
to load, train or denoise with.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastweights.burst import models
from fastweights.burst.errors import BurstError
from fastweights.burst.models import CameraDenoiser, Denoiser, ModelConfig, PaperDenoiser
from fastweights.burst.trunk import ZeroSum
from fastweights.codes import Upsampled
from fastweights.kernel_heads import GatedHead, kernel_head
from fastweights.layer import PredictedWeight
from fastweights.structures import Mixture


@dataclasses.dataclass(frozen=True)
class FoldedWeight:
    """One predicted weight of a folded network.

    kernel: numbers of its kernels; gates: their number now; exact: the number that loses nothing. The Frobenius error
    of a kernel is at most `bound` times the norm of the features that its head sees, a 1 for the bias among them.
    """

    name: str
    kernel: int
    gates: int
    exact: int
    bound: float


@torch.no_grad()
def fold(
    network: Denoiser, rank: int | None = None, inputs: Sequence[tuple[Tensor, ...]] = ()
) -> tuple[Denoiser, list[FoldedWeight]]:
    """A gated network with a kernel network's trunk, and what became of each of its weights.

    Args:
        network: of kind "kpn", with a 3 x 3 head or a 1 x 1 head behind a bottleneck; it is left as it is.
        rank: gates of each weight; None keeps as many as give the same picture.
        inputs: real bursts, as the network is called with them. With rank, the kernels that it predicts for them say
            what is kept (see `convert.kernel_head`); without, the largest singular values of the heads are.

    Raises BurstError for a gated network and a rank that is not possible.

    Example
    -------
    >>> kernels = models.build(ModelConfig(width=4, post=6, features=3))  # its base starts at zero
    >>> gated, (weight,) = fold(kernels)
    >>> weight.kernel, weight.gates, gated.config.kind
    (200, 3, 'gated')
    """
    if network.config.kind == "gated":
        raise BurstError(f"the network is gated already, with {network.config.maps} gates a weight")
    weights = predicted_weights(network)
    heads = {name: _Head.of(weight) for name, weight in weights.items()}
    seen = _features(network, heads, inputs) if rank is not None else dict.fromkeys(heads)
    whole = {name: head.folded(network.config, None, None) for name, head in heads.items()}
    exact = {name: head.gates.out_channels for name, head in whole.items()}
    most = max(exact.values())
    if rank is not None and not 1 <= rank <= most:
        raise BurstError(f"rank is {rank}: this network has {most} gates without any loss, give 1 to {most}")
    found = {name: head.folded(network.config, rank, seen[name]) for name, head in heads.items()} if rank else whole
    maps = max(head.gates.out_channels for head in found.values())
    config = dataclasses.replace(network.config, kind="gated", out_kernel_size=1, maps=maps)
    with torch.random.fork_rng(devices=[]):
        target = models.build(config).to(next(network.parameters())).eval()
    target.get_submodule("trunk").load_state_dict(network.get_submodule("trunk").state_dict())
    for name, weight in predicted_weights(target).items():
        heads[name].fill(weight, found[name])
    taps = config.frames * config.kernel_size**2
    return target, [
        FoldedWeight(name, taps, head.gates.out_channels, exact[name], head.bound) for name, head in found.items()
    ]


def predicted_weights(network: Denoiser) -> dict[str, PredictedWeight]:
    """The weights of a network by name: one in grey, luma and chroma in colour."""
    if isinstance(network, CameraDenoiser):
        return {"luma": network.luma, "chroma": network.chroma}
    assert isinstance(network, PaperDenoiser)
    return {"weight": network.weight}


@dataclasses.dataclass(frozen=True)
class _Head:
    """The layers that stay, the convolution that emits kernels, and what is behind it."""

    before: nn.Sequential
    kernels: nn.Conv2d
    after: nn.Module | None

    @staticmethod
    def of(weight: PredictedWeight) -> "_Head":
        layers, structure = list(weight.predictor.children()), weight.structure
        if not isinstance(structure, Mixture):
            assert isinstance(layers[0], nn.Conv2d)
            after = next((layer for layer in layers if isinstance(layer, ZeroSum)), None)
            return _Head(nn.Sequential(), layers[0], after)
        assert structure.base is not None
        kernels = nn.Conv2d(structure.code_features, structure.in_features, 1).to(structure.templates)
        kernels.weight.copy_(structure.templates.squeeze(1).T[..., None, None])
        assert kernels.bias is not None
        kernels.bias.copy_(structure.base[0])
        return _Head(nn.Sequential(*layers), kernels, None)

    def folded(self, config: ModelConfig, rank: int | None, features: Tensor | None) -> GatedHead:
        sizes = (config.frames, config.kernel_size)
        return kernel_head(self.kernels, *sizes, after=self.after, rank=rank, features=features)

    def fill(self, weight: PredictedWeight, found: GatedHead) -> None:
        """Write what was found into a fresh gated weight; gates that are not needed are zero."""
        *before, gates = weight.predictor.children()
        nn.Sequential(*before).load_state_dict(self.before.state_dict())
        assert isinstance(gates, nn.Conv2d)
        assert isinstance(gates.bias, Tensor)
        assert isinstance(found.gates.bias, Tensor)
        ours = [gates.weight, gates.bias, _stored(weight.structure, "v")]
        theirs = [found.gates.weight, found.gates.bias, found.filters.weight.flatten(1)]
        for mine, value in zip(ours, theirs, strict=True):
            mine.zero_()
            mine[: len(value)] = value
        _stored(weight.structure, "u").fill_(1)


def _stored(structure: nn.Module, name: str) -> Tensor:
    """A tensor of a structure, or what its projection is made from: values of zero sum pass the projection."""
    parametrized = getattr(structure, "parametrizations", {})
    value = parametrized[name].original if name in parametrized else getattr(structure, name)
    assert isinstance(value, Tensor)
    return value


def _features(
    network: Denoiser, heads: dict[str, _Head], inputs: Sequence[tuple[Tensor, ...]]
) -> dict[str, Tensor | None]:
    """What each kernel convolution sees of the inputs; None without any."""
    seen: dict[str, list[Tensor]] = {name: [] for name in heads}
    weights = predicted_weights(network)

    def remember(name: str, features: Upsampled) -> None:
        seen[name].append(heads[name].before(features.code))

    hooks = [
        weight.predictor.register_forward_pre_hook(lambda _, arguments, name=name: remember(name, *arguments))
        for name, weight in weights.items()
    ]
    try:
        for one in inputs:
            network(*one)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) if parts else None for name, parts in seen.items()}
