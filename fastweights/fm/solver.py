"""Learns a factorization machine by sweeps: alternating least squares, or Gibbs sampling with learned priors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import sparse, special

from fastweights.fm import sweeps


@dataclass(frozen=True)
class Settings:
    """What a fit is; the estimators' parameters, checked.

    Args:
        rank: r.
        solver: "mcmc" or "als".
        sweeps: passes over all weights, at most.
        burn_in: sweeps whose draws are not kept ("mcmc").
        l2: penalties of linear weights and of factors ("als"), `sum e^2 + l2_w |w|^2 + l2_v |v|^2`.
        tol: stop when a sweep lowers that objective by less than this part of it ("als").
        init_scale: standard deviation of the first factors.
    """

    rank: int
    solver: Literal["mcmc", "als"]
    sweeps: int
    burn_in: int
    l2: tuple[float, float]
    tol: float
    init_scale: float


class Machines(NamedTuple):
    """S machines whose predictions are averaged: intercepts (S), linear (S, n), factors (S, n, r); sweeps made."""

    intercepts: NDArray
    linear: NDArray
    factors: NDArray
    sweeps: int


def fit(
    x: sparse.csc_matrix, y: NDArray, groups: NDArray, settings: Settings, random: RandomState, *, probit: bool = False
) -> Machines:
    """Learn y (rows) from x (rows, n).

    Args:
        x: features by columns.
        y: targets of about unit variance; with probit -1 or 1.
        groups: (n) of 0..g-1; the features of a group share a prior, for linear weights and for each factor.
        settings: see there.
        random: source of every draw.
        probit: y is the sign of the prediction plus standard normal noise (Albert and Chib 1993).

    Source: Rendle 2012 (libFM: ALS and MCMC); Freudenthaler et al. 2011 (grouped priors and their hyperpriors).
    """
    rows, n = x.shape
    sampled = settings.solver == "mcmc"
    draw = _draws(random, sampled)
    w0, w, v = 0.0, np.zeros(n), settings.init_scale * random.standard_normal((settings.rank, n))
    e = y - predict(x, w0, w, v.T)
    penalties = [settings.l2[0]] + [settings.l2[1]] * settings.rank
    alpha, objective, latent, kept, sweep = 1.0, np.inf, y, [], 0
    for sweep in range(1, settings.sweeps + 1):
        if probit:
            prediction = latent - e
            latent = _completed(prediction, y, random, sampled)
            e = latent - prediction
        elif sampled:
            alpha = random.gamma((1 + rows) / 2) * 2 / (1 + e @ e)
        new = (e.mean() + w0) + draw(1)[0] / np.sqrt(alpha * rows)
        e -= new - w0
        w0 = new
        columns = (x.indptr, x.indices, x.data)
        sweeps.linear(*columns, e, w, _prior(w, groups, penalties[0], random, sampled, draw), alpha)
        for f in range(settings.rank):
            prior = _prior(v[f], groups, penalties[1 + f], random, sampled, draw)
            sweeps.factor(*columns, e, v[f], x @ v[f], prior, alpha)
        if sampled and sweep > settings.burn_in:
            kept.append((w0, w.copy(), v.T.copy()))
        elif not sampled:
            before, objective = objective, e @ e + penalties[0] * w @ w + penalties[-1] * np.sum(v * v)
            if not probit and sweep > 1 and before - objective <= settings.tol * before:
                break
    kept = kept or [(w0, w, v.T)]
    intercepts, linear, factors = (np.stack(parts) for parts in zip(*kept, strict=True))
    return Machines(intercepts, linear, factors, sweep)


def predict(x: sparse.spmatrix, intercept: float, linear: NDArray, factors: NDArray) -> NDArray:
    """Eq. 2 for all rows of x: one machine, factors (n, r)."""
    sums = x @ factors
    squares = x.multiply(x) @ np.square(factors).sum(1)
    return intercept + x @ linear + 0.5 * (np.square(sums).sum(1) - squares)


def _draws(random: RandomState, sampled: bool) -> Callable[[int], NDArray]:
    return random.standard_normal if sampled else np.zeros


def _prior(
    theta: NDArray, groups: NDArray, l2: float, random: RandomState, sampled: bool, draw: Callable[[int], NDArray]
) -> NDArray:
    """mu, lambda and noise (3, n) for the next sweep; mu and lambda of a group are drawn given its weights.

    Hyperpriors as in libFM and myFM: lambda ~ Gamma(1/2, 1/2), mu ~ N(0, 1 / lambda).
    """
    if not sampled:
        return np.stack([np.zeros_like(theta), np.full_like(theta, l2), draw(len(theta))])
    count, total = np.bincount(groups), np.bincount(groups, theta)
    spread = np.bincount(groups, theta * theta) - total**2 / (1 + count)  # mu integrated out
    lam = random.gamma((1 + count) / 2) * 2 / (1 + spread)
    mu = total / (1 + count) + random.standard_normal(len(count)) / np.sqrt((1 + count) * lam)
    return np.stack([mu[groups], lam[groups], draw(len(theta))])


def _completed(prediction: NDArray, sign: NDArray, random: RandomState, sampled: bool) -> NDArray:
    """The latent target z ~ N(prediction, 1), z of the given sign: a draw of it, or its expectation."""
    margin = sign * prediction
    below = special.log_ndtr(margin)
    if sampled:
        uniform = 1 - random.random_sample(len(sign))
        return prediction - sign * special.ndtri_exp(np.log(uniform) + below)
    return prediction + sign * np.exp(-0.5 * margin**2 - below) / np.sqrt(2 * np.pi)
