"""Sweeps: compiled = reference = Eq. 2 from scratch, and draws that have the distribution they should."""

import numpy as np
import oracles
import pytest
import torch
from scipy import sparse, special

from fastweights.fm import solver, sweeps


def problem(rows=11, n=6, density=0.6):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, n)) * (random.random((rows, n)) < density)
    x[:, 2] = 0  # a feature that never occurs
    draw = np.stack([random.normal(size=n), random.random(n), random.normal(size=n)])
    return x, random.normal(size=rows), random.normal(size=(n, 2)), draw


def machine(x, w0, w, v):
    """Eq. 2 by loops."""
    bias, weight, v, x = (torch.as_tensor(part) for part in (np.array([w0]), w[None], v[None], x))
    return torch.cat([oracles.factorization_machine(bias, weight, v, row) for row in x]).numpy()


def columns(x):
    x = sparse.csc_matrix(x)
    return x.indptr, x.indices, x.data


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_compiled_sweeps_are_the_reference_and_keep_the_residuals(noise, prior):
    x, y, v, draw = problem()
    draw *= np.array([1.0, prior, noise])[:, None]
    w = np.random.default_rng(1).normal(size=len(v))
    e = y - machine(x, 0.0, w, v)
    w_, v_, e_ = w.copy(), v.copy(), e.copy()
    factors, factors_ = np.ascontiguousarray(v.T), np.ascontiguousarray(v_.T)
    sweeps.linear_reference(x, e, w, draw, 1.7)
    sweeps.linear(*columns(x), e_, w_, draw, 1.7)
    np.testing.assert_allclose(w_, w, rtol=1e-10, atol=1e-12)
    for f in range(2):
        sweeps.factor_reference(x, e, factors[f], draw, 1.7)
        q = x @ factors_[f]
        sweeps.factor(*columns(x), e_, factors_[f], q, draw, 1.7)
        np.testing.assert_allclose(q, x @ factors_[f], atol=1e-12)
    np.testing.assert_allclose(factors_, factors, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(e_, e, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(e, y - machine(x, 0.0, w, factors.T), atol=1e-10)
    if not prior:
        assert w[2] == w_[2]  # nothing is known of it


def test_each_weight_is_set_to_its_best_value():
    """No other value of the weight set last lowers the penalised squared error."""
    x, y, v, _ = problem()
    w, factors = np.zeros(len(v)), np.ascontiguousarray(v.T)
    e = y - machine(x, 0.0, w, v)
    draw = np.stack([np.zeros(len(v)), np.full(len(v), 0.3), np.zeros(len(v))])
    sweeps.factor(*columns(x), e, factors[0], x @ factors[0], draw, 1.0)
    last = len(v) - 1

    def objective(value):
        moved = factors.copy()
        moved[0, last] = value
        return np.sum((y - machine(x, 0.0, w, moved.T)) ** 2) + 0.3 * np.sum(moved**2)

    best = objective(factors[0, last])
    assert all(objective(factors[0, last] + step) > best for step in (-1e-3, 1e-3, 0.5))


def test_gibbs_sweeps_draw_from_the_posterior():
    """Bayesian linear regression has a closed form: N(A^-1 (alpha X^T y + lambda mu), A^-1)."""
    x, y, _, _ = problem(n=3, density=1.0)
    x[:, 2] = x[:, 0] + np.random.default_rng(1).normal(size=len(x))
    alpha, lam, mu = 2.0, 0.5, 0.3
    random, w, e = np.random.default_rng(2), np.zeros(3), y.copy()
    draws = []
    for _ in range(20000):
        draw = np.stack([np.full(3, mu), np.full(3, lam), random.normal(size=3)])
        sweeps.linear(*columns(x), e, w, draw, alpha)
        draws.append(w.copy())
    precision = alpha * x.T @ x + lam * np.eye(3)
    covariance = np.linalg.inv(precision)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.mean(draws, 0) / scale, covariance @ (alpha * x.T @ y + lam * mu) / scale, atol=0.05)
    np.testing.assert_allclose(
        np.cov(np.transpose(draws)) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.06
    )


def test_hyperparameters_are_drawn_given_their_weights():
    """Many weights leave no doubt about their mean and precision; groups are kept apart."""
    random = np.random.RandomState(0)
    groups = np.repeat([0, 1], 40000)
    theta = np.where(groups == 0, 2 + 0.5 * random.standard_normal(80000), 0.1 * random.standard_normal(80000))
    mu, lam, _ = solver._prior(theta, groups, 9.0, random, True, random.standard_normal)
    np.testing.assert_allclose([mu[0], mu[-1]], [2, 0], atol=0.02)
    np.testing.assert_allclose([lam[0], lam[-1]], [4, 100], rtol=0.03)


def test_latent_targets_have_the_sign_of_their_label_and_the_right_mean():
    random = np.random.RandomState(0)
    for prediction in (-40.0, -3.0, 0.0, 2.0):
        for sign in (-1.0, 1.0):
            many = np.full(50000, prediction), np.full(50000, sign)
            expected = solver._completed(*many, random, False)[0]
            draws = solver._completed(*many, random, True)
            assert (draws * sign >= 0).all()
            assert draws.mean() == pytest.approx(expected, abs=0.02)
    ratio = np.exp(-0.5) / np.sqrt(2 * np.pi) / special.ndtr(-1)
    assert solver._completed(np.array([1.0]), np.array([-1.0]), random, False)[0] == pytest.approx(1 - ratio)


def test_predictions_are_eq_2():
    x, _, v, _ = problem()
    w = np.arange(6.0)
    np.testing.assert_allclose(solver.predict(sparse.csr_matrix(x), 0.5, w, v), machine(x, 0.5, w, v), atol=1e-12)
