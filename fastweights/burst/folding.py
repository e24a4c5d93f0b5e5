"""A kernel prediction network as a gated one: the same picture, or fewer gates for the pictures of real bursts.

A folded network is an ordinary gated network, `ModelConfig(kind="gated", out_kernel_size=1, maps=gates)`: nothing new
to load, train or denoise with.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.burst import models
from fastweights.burst.errors import BurstError
from fastweights.burst.models import CameraDenoiser, Denoiser, ModelConfig, PaperDenoiser, to_luma_chroma
from fastweights.burst.trunk import ZeroSum
from fastweights.codes import Upsampled
from fastweights.kernel_heads import GatedHead, kernel_head, window_moment
from fastweights.layer import PredictedWeight
from fastweights.structures import Mixture


@dataclasses.dataclass(frozen=True)
class FoldedWeight:
    """One predicted weight of a folded network.

    kernel: numbers of its kernels; gates: their number now; exact: the number that loses nothing. The Frobenius error
    of a kernel is at most `bound` times the norm of the features that its head sees, a 1 for the bias among them;
    `measured` is the root mean square error on the bursts that were seen, relative to what the weight adds to the
    picture (None without any, or where nothing is lost).
    """

    name: str
    kernel: int
    gates: int
    exact: int
    bound: float
    measured: float | None


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one predicted weight saw of bursts: the features before its kernels, and the moment of its frames' windows.

    Without the metric gates are chosen for kernels, with it for pictures (see `convert.kernel_head`).
    """

    features: Float[Tensor, "b c h w"]
    metric: Float[Tensor, "i i"] | None


@torch.no_grad()
def observe(network: Denoiser, inputs: Sequence[tuple[Tensor, ...]]) -> dict[str, Seen]:
    """What each weight of a kernel network sees of bursts, given as the network is called; nothing without any.

    Raises BurstError for a gated network.
    """
    heads = _heads(network)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in heads}
    weights = predicted_weights(network)
    for one in inputs:
        features: dict[str, Tensor] = {}

        def remember(name: str, seen: Upsampled, features: dict[str, Tensor] = features) -> None:
            features[name] = heads[name].before(seen.code)

        hooks = [
            weight.predictor.register_forward_pre_hook(lambda _, arguments, name=name: remember(name, *arguments))
            for name, weight in weights.items()
        ]
        try:
            network(*one)
        finally:
            for hook in hooks:
                hook.remove()
        for name, frames in _planes(network, one[0]).items():
            parts[name].append((features[name], window_moment(frames, network.config.kernel_size)))
    return {
        name: Seen(torch.cat([features for features, _ in part]), torch.stack([moment for _, moment in part]).mean(0))
        for name, part in parts.items()
        if part
    }


@torch.no_grad()
def fold(
    network: Denoiser, rank: int | None = None, seen: Mapping[str, Seen] | None = None
) -> tuple[Denoiser, list[FoldedWeight]]:
    """A gated network with a kernel network's trunk, and what became of each of its weights.

    Args:
        network: of kind "kpn", with a 3 x 3 head or a 1 x 1 head behind a bottleneck; it is left as it is.
        rank: gates of each weight; None keeps as many as give the same picture.
        seen: of real bursts (see `observe`). With rank, the pictures that the network makes of them say what is kept;
            without, the largest singular values of the heads are.

    Raises BurstError for a network of another kind and a rank that is not possible.

    Example
    -------
    >>> kernels = models.build(ModelConfig(width=4, post=6, features=3))  # its base starts at zero
    >>> gated, (weight,) = fold(kernels)
    >>> weight.kernel, weight.gates, gated.config.kind
    (200, 3, 'gated')
    """
    heads = _heads(network)
    whole = {name: head.folded(network.config, None, None) for name, head in heads.items()}
    exact = {name: head.gates.out_channels for name, head in whole.items()}
    most = max(exact.values())
    if rank is not None and not 1 <= rank <= most:
        raise BurstError(f"rank is {rank}: this network has {most} gates without any loss, give 1 to {most}")
    of = seen or {}
    found = {name: head.folded(network.config, rank, of.get(name)) for name, head in heads.items()} if rank else whole
    maps = max(head.gates.out_channels for head in found.values())
    config = dataclasses.replace(network.config, kind="gated", out_kernel_size=1, maps=maps)
    with torch.random.fork_rng(devices=[]):
        target = models.build(config).to(next(network.parameters())).eval()
    target.get_submodule("trunk").load_state_dict(network.get_submodule("trunk").state_dict())
    for name, weight in predicted_weights(target).items():
        heads[name].fill(weight, found[name])
    taps = config.frames * config.kernel_size**2
    return target, [
        FoldedWeight(name, taps, head.gates.out_channels, exact[name], head.bound, head.measured)
        for name, head in found.items()
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

    def folded(self, config: ModelConfig, rank: int | None, seen: Seen | None) -> GatedHead:
        sizes = (config.frames, config.kernel_size)
        features, metric = (None, None) if seen is None else (seen.features, seen.metric)
        return kernel_head(self.kernels, *sizes, after=self.after, rank=rank, features=features, metric=metric)

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


def _heads(network: Denoiser) -> dict[str, _Head]:
    if network.config.kind == "gated":
        raise BurstError(f"the network is gated already, with {network.config.maps} gates a weight")
    if network.config.kind == "basis":
        raise BurstError("the network predicts a basis for each image: no fixed filters hold its kernels")
    return {name: _Head.of(weight) for name, weight in predicted_weights(network).items()}


def _planes(network: Denoiser, frames: Tensor) -> dict[str, Float[Tensor, "b t h w"]]:
    """What each weight is applied to; planes that share one stand one after another."""
    if not isinstance(network, CameraDenoiser):
        return {"weight": frames}
    planes = to_luma_chroma(frames.movedim(2, 1), dim=1)
    return {"luma": planes[:, 0], "chroma": planes[:, 1:].flatten(0, 1)}
