"""The embedding method, the hypernetwork's rival: an ordinary network that reads x and an embedding side by side."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.network import HyperNetwork, last_size


class EmbeddingNetwork(nn.Module):
    """`h(x, I) = q([x ; e(I)])`: the embedding of the context stands beside x, and q's weights are ordinary ones.

    Called as `HyperNetwork` is, so that either takes the other's place in one line.

    Shapes: the encoder emits (E) for one context or (B, E) for a batch; x is one tensor.
        one context: x (..., d), with the same embedding beside each.
        a context a sample: x (B, ..., d); a context a group, `grouped=True`: x (B, N, ..., d).

    Args:
        primary: q, which takes d + E features on axis dim.
        encoder: e, any module; a set of images is averaged by `MeanEncoder`.
        dim: x's axis of features: -1, or -3 for images (the embedding is then repeated at every pixel).

    Raises:
        ValueError: contexts and x of different numbers, or an encoder's output of another shape.

    Source: Galanti and Wolf 2020, Sec. 2; Garnelo 2018 for sets.

    >>> network = EmbeddingNetwork(nn.Linear(5 + 3, 2), nn.Linear(7, 3))
    >>> network(torch.randn(4, 5), torch.randn(4, 7)).shape
    torch.Size([4, 2])
    """

    def __init__(self, primary: nn.Module, encoder: nn.Module, *, dim: int = -1):
        super().__init__()
        self.primary, self.encoder, self.dim = primary, encoder, dim

    def forward(self, x: Tensor, context: Any, *, grouped: bool = False) -> Any:
        """q([x ; e(context)])."""
        embedding = self.encoder(context)
        if not isinstance(embedding, Tensor) or embedding.ndim not in (1, 2):
            found = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
            raise ValueError(f"EmbeddingNetwork: the encoder gave {found}, expected (E) or (B, E)")
        batched = embedding.ndim == 2
        if batched and embedding.shape[0] != x.shape[0]:
            what = "groups" if grouped else "samples"
            raise ValueError(
                f"EmbeddingNetwork: {embedding.shape[0]} contexts for x of shape {tuple(x.shape)}, expected "
                f"{embedding.shape[0]} {what} on axis 0; for one context for all of x give it without a batch axis"
            )
        beside = embedding.view(*embedding.shape[:-1], *(1,) * (x.ndim - embedding.ndim), embedding.shape[-1])
        size = list(x.shape)
        size[self.dim] = embedding.shape[-1]
        joined = torch.cat([x, beside.movedim(-1, self.dim).expand(size)], self.dim)
        if not (grouped and batched):
            return self.primary(joined)
        return self.primary(joined.flatten(0, 1)).unflatten(0, tuple(x.shape[:2]))


class MeanEncoder(nn.Module):
    """The embedding of a set: the mean of its elements' embeddings, as in conditional neural processes.

    Shapes: context (d, *element) for one set of d elements, (B, d, *element) for a batch; result (E) or (B, E).

    Args:
        encoder: the network of one element; it sees (n, *element).
        element_ndim: number of axes of an element, 3 for images (C, H, W).

    Source: Garnelo 2018; Galanti and Wolf 2020, Sec. 2.

    >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16))
    >>> MeanEncoder(encoder, element_ndim=3)(torch.randn(2, 5, 3, 8, 8)).shape
    torch.Size([2, 16])
    """

    def __init__(self, encoder: nn.Module, element_ndim: int = 1):
        super().__init__()
        self.encoder, self.element_ndim = encoder, element_ndim

    def forward(self, context: Tensor) -> Float[Tensor, "*b e"]:
        """The mean over the axis before the elements'."""
        lead = context.ndim - self.element_ndim
        if lead not in (1, 2):
            raise ValueError(
                f"MeanEncoder: context has shape {tuple(context.shape)}, expected a set (d, ...) or a batch of sets "
                f"(B, d, ...) of elements with {self.element_ndim} axes"
            )
        embeddings = self.encoder(context.flatten(0, lead - 1))
        return embeddings.unflatten(0, tuple(context.shape[:lead])).mean(-2)


def to_hypernetwork(network: EmbeddingNetwork, embedding_features: int | None = None) -> HyperNetwork:
    """The same function as a hypernetwork that predicts only the biases of the first layer, exactly.

    `W [x ; e] + b = W_x x + (W_e e + b)`: the predictor is the encoder and a linear layer (W_e, b), copies of what is
    there; all other weights stay ordinary ones.

    Args:
        network: its primary starts with an nn.Linear and dim is -1.
        embedding_features: E; default `out_features` of the encoder's last layer that has one.

    Raises:
        TypeError: another first layer. ValueError: dim other than -1, or more embedding features than inputs.

    Source: Galanti and Wolf 2020, Sec. 4.1.

    >>> network = EmbeddingNetwork(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), nn.Linear(7, 3))
    >>> to_hypernetwork(network).shapes
    {'0.bias': (4,)}
    """
    if network.dim != -1:
        raise ValueError(
            f"to_hypernetwork: the embedding stands on axis {network.dim}, expected -1, a linear first layer"
        )
    encoder = copy.deepcopy(network.encoder)
    features = (
        last_size(encoder, "to_hypernetwork", "embedding_features")
        if embedding_features is None
        else embedding_features
    )
    primary = copy.deepcopy(network.primary)
    name, first = "", primary
    while isinstance(first, nn.Sequential):
        child, first = next(iter(first.named_children()))
        name = f"{name}.{child}" if name else child
    if type(first) is not nn.Linear:
        raise TypeError(f"to_hypernetwork: the primary starts with {type(first).__name__}, expected nn.Linear")
    inputs = first.in_features - features
    if inputs < 1:
        raise ValueError(
            f"to_hypernetwork: {features} embedding features for a first layer of {first.in_features} inputs"
        )
    weight, bias = first.weight.detach(), first.bias
    kept = nn.Linear(inputs, first.out_features, device=weight.device, dtype=weight.dtype)
    beside = nn.Linear(features, first.out_features, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        kept.weight.copy_(weight[:, :inputs])
        beside.weight.copy_(weight[:, inputs:])
        beside.bias.copy_(torch.zeros_like(beside.bias) if bias is None else bias)
    if name:
        primary.set_submodule(name, kept)
    else:
        primary = kept
    return HyperNetwork(primary, nn.Sequential(encoder, beside), f"{name}.bias" if name else "bias", head=None)
