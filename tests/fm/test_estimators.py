"""The estimators: scikit-learn's own checks, predictions by Eq. 2, sparse = dense, and MovieLens."""

import numpy as np
import oracles
import pytest
import torch
from scipy import sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastweights.fm import FactorizationMachineClassifier, FactorizationMachineRegressor

QUICK = {"rank": 2, "max_iter": 30}


@parametrize_with_checks(
    [
        FactorizationMachineRegressor(**QUICK),
        FactorizationMachineRegressor(solver="als", **QUICK),
        FactorizationMachineClassifier(**QUICK),
        FactorizationMachineClassifier(solver="als", **QUICK),
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def interacting(rows=300):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 4)) * (random.random((rows, 4)) < 0.7)
    return x, 3 + x[:, 0] - 2 * x[:, 1] * x[:, 2] + 0.1 * random.normal(size=rows)


@pytest.mark.parametrize("solver", ["mcmc", "als"])
def test_predictions_are_eq_2_averaged(solver):
    x, y = interacting()
    model = FactorizationMachineRegressor(2, solver=solver, max_iter=20, l2=(0.1, 0.1), random_state=0).fit(x, y)
    assert len(model.intercepts_) == (10 if solver == "mcmc" else 1)
    rows = []
    for machine in zip(model.intercepts_, model.linear_, model.factors_, strict=True):
        bias, weight, v = (torch.as_tensor(np.asarray(part))[None] for part in machine)
        rows.append([oracles.factorization_machine(bias, weight, v, torch.as_tensor(row)).item() for row in x[:20]])
    np.testing.assert_allclose(model.predict(x[:20]), np.mean(rows, 0), rtol=1e-9)
    assert model.score(x, y) > 0.98


def test_the_module_predicts_the_same():
    x, y = interacting()
    model = FactorizationMachineRegressor(3, max_iter=14, random_state=0).fit(x, y)
    module = model.module()
    assert module.rank == 4 * 3
    np.testing.assert_allclose(module(torch.as_tensor(x)).detach()[:, 0], model.predict(x), rtol=1e-9)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array])
def test_sparse_is_dense(kind):
    x, y = interacting()
    models = [FactorizationMachineRegressor(2, max_iter=15, random_state=0).fit(z, y) for z in (x, kind(x))]
    np.testing.assert_allclose(models[1].predict(kind(x)), models[0].predict(x), rtol=1e-6)


def test_entries_stored_twice_add_up_and_the_callers_matrix_is_left_alone():
    x, y = interacting(40)
    once = sparse.csr_matrix(x)
    rows, columns = once.nonzero()
    halves = np.repeat(once.data / 2, 2)
    twice = sparse.csr_matrix((halves, np.repeat(once.indices, 2), 2 * once.indptr), shape=once.shape)
    assert not twice.has_canonical_format
    models = [FactorizationMachineRegressor(2, solver="als", random_state=0).fit(z, y) for z in (once, twice)]
    np.testing.assert_allclose(models[1].predict(twice), models[0].predict(once), rtol=1e-6)
    assert twice.nnz == 2 * once.nnz == 2 * len(rows)


def test_the_same_seed_draws_the_same():
    x, y = interacting()
    first, same, other = (
        FactorizationMachineRegressor(2, max_iter=12, random_state=seed).fit(x, y).predict(x) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_fields_shrink_each_on_its_own():
    """A field of many useless features must not teach its small weights to the field that counts."""
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 105))
    y = x[:, :5] @ [3.0, -3.0, 3.0, -3.0, 3.0] + random.normal(size=150)
    unseen = random.normal(size=(500, 105))
    truth = unseen[:, :5] @ [3.0, -3.0, 3.0, -3.0, 3.0]

    def error(fields):
        model = FactorizationMachineRegressor(1, fields=fields, random_state=0).fit(x, y)
        return np.mean((model.predict(unseen) - truth) ** 2)

    assert error((5, 100)) < 0.7 * error(None)


@pytest.mark.parametrize("solver", ["mcmc", "als"])
def test_probabilities_are_right(solver):
    """Probabilities of a known probit model are found again: calibration, not accuracy."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 3))
    chance = 0.5 + x[:, 0] * x[:, 1]
    y = np.where(chance + random.normal(size=3000) > 0, "yes", "no")
    model = FactorizationMachineClassifier(2, solver=solver, max_iter=60, random_state=0).fit(x, y)
    found = model.predict_proba(x)[:, list(model.classes_).index("yes")]
    from scipy.special import ndtr

    assert np.abs(found - ndtr(chance)).mean() < 0.04


def test_movielens(data):
    """Users and items alone, nothing tuned: below 0.914, the best that tuned gradient descent reached elsewhere."""
    ratings = np.loadtxt(data / "movielens" / "ml-100k" / "u.data", dtype=np.int64)
    ids = np.stack([ratings[:, 0] - 1, 942 + ratings[:, 1]], 1)
    x = sparse.csr_matrix((np.ones(ids.size), ids.ravel(), 2 * np.arange(len(ids) + 1)), shape=(len(ids), 943 + 1682))
    order = np.random.default_rng(0).permutation(len(ids))
    train, test = order[:80000], order[80000:]
    model = FactorizationMachineRegressor(fields=(943, 1682), random_state=0)
    predicted = model.fit(x[train], ratings[train, 2]).predict(x[test])
    assert np.sqrt(np.mean((predicted - ratings[test, 2]) ** 2)) < 0.914


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rank": 0}, "rank is 0, expected a whole number >= 1"),
        ({"max_iter": 2.5}, "max_iter is 2.5"),
        ({"solver": "sgd"}, "solver is 'sgd', expected 'mcmc' or 'als'"),
        ({"burn_in": 100}, "burn_in is 100, expected less than max_iter=100"),
        ({"l2": (1.0, -1.0)}, "expected two penalties >= 0"),
        ({"fields": (1, 2)}, "add up to the 4 features"),
    ],
)
def test_mistakes_are_named(parameters, message):
    x, y = interacting(20)
    with pytest.raises(ValueError, match=message):
        FactorizationMachineRegressor(**parameters).fit(x, y)
    with pytest.raises(ValueError, match=message):
        FactorizationMachineClassifier(**parameters).fit(x, y > 3)
