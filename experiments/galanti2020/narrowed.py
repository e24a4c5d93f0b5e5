"""The embedding method at the least embedding size that trains the same."""

import torch
from torch import nn

from experiments.galanti2020.merged import Merged
from fastweights.embedding import EmbeddingNetwork


def narrowed(network: nn.Module) -> nn.Module:
    """The same function from an embedding of h + u + 1 numbers, and the same after every step of gradient descent.

    Nothing but two linear layers stand around the embedding: `W_e (V u + v) + b`, with h hidden units of q and u inputs
    of e's last layer. Let C = [W_e^T V v], whose h + u + 1 columns have the embedding's size. Outputs depend on C^T C
    alone, and each gradient is C times a small matrix that depends on C^T C alone. So with C = Q R, Q^T Q = 1, at the
    start, descent (with momentum or without) moves R and leaves Q: R may be trained in the place of C. A network whose
    embedding is not larger than that, and one of another kind, is returned as it is.

    So the embedding's size neither adds functions beyond h numbers nor changes training but by C^T C at the start:
    there V^T V grows with the size and acts as a learning rate.

    Example
    -------
    >>> from experiments.galanti2020.batched import embedding_method
    >>> network = embedding_method((7, 5, 3), (6, 9, 1000))
    >>> narrowed(network).network.encoder[-1].out_features
    15
    """
    if not isinstance(network, Merged):
        return network
    before, last, first, after = network.parts()
    inputs, units = first.in_features - last.out_features, first.out_features
    columns = torch.cat([first.weight[:, inputs:].mT, last.weight, last.bias.unsqueeze(1)], 1).detach()
    size = columns.shape[1]
    if last.out_features <= size:
        return network
    factor = torch.linalg.qr(columns.double(), mode="r").R.to(columns)
    small = nn.Linear(last.in_features, size).to(columns), nn.Linear(inputs + size, units).to(columns)
    with torch.no_grad():
        small[0].weight.copy_(factor[:, units:-1])
        small[0].bias.copy_(factor[:, -1])
        small[1].weight.copy_(torch.cat([first.weight[:, :inputs], factor[:, :units].mT], 1))
        small[1].bias.copy_(first.bias)
    same = EmbeddingNetwork(nn.Sequential(small[1], *list(after)), nn.Sequential(*list(before), small[0]))
    return Merged(same)
