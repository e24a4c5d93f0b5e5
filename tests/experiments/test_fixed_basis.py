"""Dimensions and gates of families of matrices whose answer is known; features and their classifiers."""

import torch
from torch.utils.data import default_collate

from experiments.mueller2024 import attention_gates, cifar_features, fixed_basis


def moment(matrices):
    flat = matrices.flatten(1)
    return flat.T @ flat / len(flat)


def test_span_and_gates_of_a_family_made_by_gates():
    torch.manual_seed(0)
    u, v = torch.randn(4, 6, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    found, held_out = (
        moment(torch.einsum("jk,bk,ki->bji", u, torch.randn(n, 6, dtype=torch.float64), v)) for n in (400, 200)
    )
    exact, dimension = fixed_basis.span(found, held_out)
    assert exact == 6
    gates, errors = fixed_basis.fewest_gates(found, held_out, 4, dimension, 20)
    assert dimension <= gates <= 7
    assert errors[gates] <= fixed_basis.ALLOWED
    assert fixed_basis.fit(found, held_out, 4, 1) > fixed_basis.ALLOWED


def test_low_rank_of_each_matrix_does_not_make_few_gates():
    torch.manual_seed(0)
    p, q = torch.randn(2, 3000, 6, dtype=torch.float64)
    found = moment(p[:, :, None] * q[:, None])  # every matrix has rank 1
    assert fixed_basis.span(found, found) == (36, 36)


def test_the_error_of_a_fit_is_that_of_least_squares():
    torch.manual_seed(0)
    matrices = torch.randn(50, 3, 4, dtype=torch.float64)
    found = moment(matrices)
    assert fixed_basis.fit(found, found, 3, 12) < 100 * fixed_basis.RIDGE
    power = torch.linalg.eigvalsh(found).flip(0)
    for gates in (3, 8):
        assert fixed_basis.fit(found, found, 3, gates) >= 1 - (power[:gates].sum() / power.sum()).item()


def test_rows_of_one_sum_need_fewer_gates_than_entries():
    torch.manual_seed(0)
    for size in (2, 5):
        gated = attention_gates.rows_of_one_sum(size)
        assert gated.code_features == size * (size - 1) + 1
        maps = torch.randn(7, size, size, dtype=torch.float64).softmax(-1)
        torch.testing.assert_close(gated.materialize(attention_gates.gates_of_rows(maps)), maps)
        products = (gated.u[:, None] * gated.v.T).flatten(0, 1)
        assert torch.linalg.matrix_rank(products) == gated.code_features


def test_an_epoch_of_features_has_every_image_once():
    train, test = torch.arange(12.0)[:, None], torch.arange(6.0)[:, None]
    features = cifar_features.Features(train, test, torch.zeros(12).long(), torch.zeros(6).long())
    epochs = [torch.cat([features(0, 3 * epoch + n, 4) for n in range(3)]) for epoch in range(2)]
    assert all(torch.equal(epoch.sort(0).values, train) for epoch in epochs)
    assert not torch.equal(*epochs)
    tests = torch.cat([features(5, n, 2) for n in range(3)])
    assert torch.equal(tests.sort(0).values, test)
    assert torch.equal(features(0, 1, 4), train[features.rows(1, 4)])


def test_one_classifier_of_each_length_is_normalised():
    torch.manual_seed(0)
    network = cifar_features.Extractor()
    images = torch.randint(256, (32, 3, 32, 32), dtype=torch.uint8)
    found = network(default_collate(list(images)))
    for length in cifar_features.LENGTHS:
        features = found[str(length)]
        assert features.shape == (32, length)
        torch.testing.assert_close(features.mean(0), torch.zeros(length), atol=1e-5, rtol=0)
