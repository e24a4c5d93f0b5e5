"""The embedding method in an order that never forms its huge embedding."""

from torch import Tensor, nn

from fastweights.embedding import EmbeddingNetwork


class Merged(nn.Module):
    """An `EmbeddingNetwork` in a cheaper order: `W [x ; V u + v] + b = W_x x + (W_e V) u + (W_e v + b)`.

    Nothing stands between e's last layer and q's first, so W_e V is formed once a batch (10 x 100 numbers in Fig. 1)
    and the embedding of 10,000 numbers never. Same parameters, same function, same gradients.
    """

    def __init__(self, network: EmbeddingNetwork):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """q([x ; e(context)]); x (B, i), or (B, N, i) with the same context for N of them."""
        before, last, first, after = self.parts()
        of_x, of_embedding = first.weight[:, : x.shape[-1]], first.weight[:, x.shape[-1] :]
        beside = before(context) @ (of_embedding @ last.weight).mT + (of_embedding @ last.bias + first.bias)
        return after(x @ of_x.mT + (beside if x.ndim == beside.ndim else beside.unsqueeze(-2)))

    def parts(self) -> tuple[nn.Sequential, nn.Linear, nn.Linear, nn.Sequential]:
        """e before its last layer, that layer, q's first layer, and q after it."""
        encoder, primary = self.network.encoder, self.network.primary
        assert isinstance(encoder, nn.Sequential)
        assert isinstance(primary, nn.Sequential)
        last, first = encoder[-1], primary[0]
        assert isinstance(last, nn.Linear)
        assert isinstance(first, nn.Linear)
        return nn.Sequential(*list(encoder)[:-1]), last, first, nn.Sequential(*list(primary)[1:])
