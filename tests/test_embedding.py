"""The embedding method: against a loop, as a hypernetwork of biases, and in a hypernetwork's place."""

import pytest
import torch
from torch import nn

from fastweights import EmbeddingNetwork, HyperNetwork, embedding


def q(inputs):
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def random(*size):
    return torch.randn(size, dtype=torch.float64)


def test_a_loop_gives_the_same():
    network = EmbeddingNetwork(q(5 + 3), nn.Linear(7, 3).double())
    x, context = random(4, 9, 5), random(4, 7)
    e = network.encoder(context)
    rows = [[network.primary(torch.cat([x[b, n], e[b]])) for n in range(9)] for b in range(4)]
    expected = torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(network(x, context, grouped=True), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network(x, context), expected, rtol=1e-10, atol=1e-10)  # q acts on the last axis only
    torch.testing.assert_close(network(x[:, 0], context), expected[:, 0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network(x[1], context[1]), expected[1], rtol=1e-10, atol=1e-10)


def test_grouped_samples_are_samples_to_the_primary():
    primary = nn.Sequential(nn.Flatten(), nn.Linear(4 * 8, 2)).double()
    network = EmbeddingNetwork(primary, nn.Linear(7, 3).double())
    assert network(random(2, 9, 4, 5), random(2, 7), grouped=True).shape == (2, 9, 2)


def test_images_get_the_embedding_at_every_pixel():
    network = EmbeddingNetwork(nn.Conv2d(2 + 3, 4, 1).double(), nn.Linear(7, 3).double(), dim=-3)
    x, context = random(2, 2, 5, 6), random(2, 7)
    e = network.encoder(context)
    expected = network.primary(torch.cat([x, e[:, :, None, None].expand(2, 3, 5, 6)], 1))
    torch.testing.assert_close(network(x, context), expected)


def test_a_set_of_images_is_averaged():
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 4 * 5, 3)).double()
    encoder = embedding.MeanEncoder(inner, element_ndim=3)
    images = random(2, 4, 1, 6, 7)
    expected = torch.stack([sum(inner(images[b, d : d + 1])[0] for d in range(4)) / 4 for b in range(2)])
    torch.testing.assert_close(encoder(images), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(encoder(images[1]), expected[1], rtol=1e-10, atol=1e-10)
    assert torch.allclose(encoder(images[:, [2, 0, 3, 1]]), expected)  # a set has no order
    network = EmbeddingNetwork(q(5 + 3), encoder)
    assert network(random(2, 5), images).shape == (2, 2)
    with pytest.raises(ValueError, match=r"context has shape \(6, 7\), expected a set \(d, ...\) or a batch of sets"):
        encoder(images[0, 0, 0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("alone", [False, True])
def test_it_is_a_hypernetwork_of_first_layer_biases(bias, alone):
    first = nn.Linear(5 + 3, 6, bias=bias)
    primary = first if alone else nn.Sequential(nn.Sequential(first, nn.Tanh()), nn.Linear(6, 2))
    network = EmbeddingNetwork(primary, nn.Sequential(nn.Linear(7, 3), nn.Tanh())).double()
    converted = embedding.to_hypernetwork(network, embedding_features=3)
    assert list(converted.shapes) == ["bias" if alone else "0.0.bias"]
    x, context = random(4, 9, 5).requires_grad_(), random(4, 7).requires_grad_()
    for grouped, part in ((True, x), (False, x[:, 0])):
        expected, got = network(part, context, grouped=grouped), converted(part, context, grouped=grouped)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        cotangent = torch.randn_like(expected)
        wanted = torch.autograd.grad(expected, [x, context], cotangent)
        for one, other in zip(torch.autograd.grad(got, [x, context], cotangent), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(converted(x[0], context[0]), network(x[0], context[0]), rtol=1e-12, atol=1e-12)


def test_one_line_apart_from_a_hypernetwork():
    encoder = nn.Linear(7, 3)
    for build in (
        lambda: HyperNetwork(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)), encoder),
        lambda: EmbeddingNetwork(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), encoder),
    ):
        h = build()
        assert h(torch.randn(4, 5), torch.randn(4, 7)).shape == (4, 2)
        assert h(torch.randn(4, 9, 5), torch.randn(4, 7), grouped=True).shape == (4, 9, 2)
        assert h(torch.randn(9, 5), torch.randn(7)).shape == (9, 2)
        with pytest.raises(ValueError, match=r"3 contexts for x of shape \(4, 5\), expected 3 samples on axis 0"):
            h(torch.randn(4, 5), torch.randn(3, 7))


def test_what_does_not_convert():
    with pytest.raises(TypeError, match=r"the primary starts with Conv2d, expected nn\.Linear"):
        embedding.to_hypernetwork(EmbeddingNetwork(nn.Conv2d(5, 4, 3), nn.Linear(7, 3)))
    with pytest.raises(ValueError, match="the embedding stands on axis -3, expected -1"):
        embedding.to_hypernetwork(EmbeddingNetwork(nn.Conv2d(5, 4, 3), nn.Linear(7, 3), dim=-3))
    with pytest.raises(ValueError, match="3 embedding features for a first layer of 3 inputs"):
        embedding.to_hypernetwork(EmbeddingNetwork(nn.Linear(3, 4), nn.Linear(7, 3)))
    with pytest.raises(ValueError, match=r"the encoder gave \(4, 2, 3\), expected \(E\) or \(B, E\)"):
        EmbeddingNetwork(nn.Linear(8, 4), nn.Linear(7, 3))(torch.randn(4, 5), torch.randn(4, 2, 7))
    with pytest.raises(ValueError, match=r"the encoder gave tuple, expected \(E\) or \(B, E\)"):
        EmbeddingNetwork(nn.Linear(8, 4), nn.GRU(7, 3))(torch.randn(4, 5), torch.randn(4, 7))
    with pytest.raises(ValueError, match="to_hypernetwork: the number of features that Tanh emits is unknown; pass e"):
        embedding.to_hypernetwork(EmbeddingNetwork(nn.Linear(8, 4), nn.Tanh()))
