"""The estimators: scikit-learn's conventions around `solver.fit`."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse, special
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fastweights.fm.solver import Machines, Settings, fit, predict
from fastweights.zoo import FactorizationMachine


class _FactorizationMachine(BaseEstimator):
    """Abstract: parameters and checks of both estimators."""

    rank: int
    solver: Literal["mcmc", "als"]
    max_iter: int
    burn_in: int
    fields: Sequence[int] | None
    l2: tuple[float, float]
    random_state: Any

    # scikit-learn wants __init__ to take anything, and `fit` to refuse it.
    @no_type_check
    def __init__(
        self,
        rank: int = 8,
        *,
        solver: Literal["mcmc", "als"] = "mcmc",
        max_iter: int = 100,
        burn_in: int = 10,
        fields: Sequence[int] | None = None,
        l2: tuple[float, float] = (1.0, 10.0),
        random_state: Any = None,
    ):
        self.rank = rank
        self.solver = solver
        self.max_iter = max_iter
        self.burn_in = burn_in
        self.fields = fields
        self.l2 = l2
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _settings(self) -> Settings:
        name = type(self).__name__
        for parameter, least in (("rank", 1), ("max_iter", 1), ("burn_in", 0)):
            value = getattr(self, parameter)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name}: {parameter} is {value!r}, expected a whole number >= {least}")
        if self.solver not in ("mcmc", "als"):
            raise ValueError(f"{name}: solver is {self.solver!r}, expected 'mcmc' or 'als'")
        if self.solver == "mcmc" and self.burn_in >= self.max_iter:
            raise ValueError(f"{name}: burn_in is {self.burn_in}, expected less than max_iter={self.max_iter}")
        if np.shape(self.l2) != (2,) or min(self.l2) < 0:
            raise ValueError(
                f"{name}: l2 is {self.l2!r}, expected two penalties >= 0, of linear weights and of factors"
            )
        l2 = (float(self.l2[0]), float(self.l2[1]))
        return Settings(self.rank, self.solver, self.max_iter, self.burn_in, l2, tol=1e-5, init_scale=0.1)

    def _groups(self, features: int) -> NDArray:
        if self.fields is None:
            return np.zeros(features, dtype=np.intp)
        if sum(self.fields) != features or min(self.fields) < 1:
            raise ValueError(
                f"{type(self).__name__}: fields are {tuple(self.fields)}, expected sizes >= 1 that add up to the "
                f"{features} features of X"
            )
        return np.repeat(np.arange(len(self.fields)), self.fields)

    def _inputs(self, x: Any) -> sparse.csr_matrix:
        check_is_fitted(self)
        x = validate_data(self, x, accept_sparse="csr", dtype=np.float64, reset=False)
        return _canonical(sparse.csr_matrix(x))


def _canonical(x):
    """A sparse matrix in which no entry is stored twice; the caller's is left as it is."""
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x


class FactorizationMachineRegressor(RegressorMixin, _FactorizationMachine):
    """A factorization machine for numbers: `y = w + sum_i w_i x_i + sum_(i<k) <v_i, v_k> x_i x_k` (Eq. 2).

    Learned by whole sweeps over the weights, each in closed form: there is no learning rate. By default Gibbs sampling
    with a learned normal prior for every field and factor, and the mean prediction of the draws kept; "als" sets each
    weight to its best value instead and keeps one machine. Targets are standardised within, features are not.

    Args:
        rank: r, the length of a feature's vector.
        solver: "mcmc" or "als".
        max_iter: sweeps over all weights, at most ("als" may stop earlier).
        burn_in: sweeps before the first draw that is kept ("mcmc").
        fields: sizes of groups of neighbouring features, such as (943, 1682) for one-hot users and items; each has a
            prior of its own ("mcmc"). None is one group for all.
        l2: penalties of the linear weights and of the factors ("als"): `sum e^2 + l2_w |w|^2 + l2_v |v|^2`, e the error
            of the standardised target.
        random_state: seed of the first factors and of every draw.

    Attributes:
        intercepts_: (S), one for each draw kept; "als" keeps one.
        linear_: (S, n).
        factors_: (S, n, r).
        n_iter_: sweeps made.

    Raises:
        ValueError: a parameter out of range, or fields that do not add up to the features.

    Source: Rendle 2010 and 2012; Freudenthaler, Schmidt-Thieme and Rendle 2011.

    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = FactorizationMachineRegressor(rank=2, random_state=0).fit(x, x[:, 0] * x[:, 1])
    >>> bool(model.score(x, x[:, 0] * x[:, 1]) > 0.99)
    True
    """

    def fit(self, X: Any, y: Any) -> FactorizationMachineRegressor:
        """Learn from X (rows, n), dense or sparse, and y (rows)."""
        settings = self._settings()
        x, y = validate_data(self, X, y, accept_sparse="csc", dtype=np.float64, y_numeric=True)
        mean, scale = y.mean(), y.std() or 1.0
        groups, random = self._groups(x.shape[1]), check_random_state(self.random_state)
        found = fit(_canonical(sparse.csc_matrix(x)), (y - mean) / scale, groups, settings, random)
        self.intercepts_ = mean + scale * found.intercepts
        self.linear_ = scale * found.linear
        self.factors_ = np.sqrt(scale) * found.factors
        self.n_iter_ = found.sweeps
        return self

    def predict(self, X: Any) -> NDArray:
        """The mean prediction of the draws kept, for X (rows, n)."""
        x = self._inputs(X)
        machines = zip(self.intercepts_, self.linear_, self.factors_, strict=True)
        return np.mean([predict(x, *machine) for machine in machines], axis=0)

    def module(self) -> FactorizationMachine:
        """A torch module with the same predictions: the mean of S machines of rank r is one of rank S r."""
        check_is_fitted(self)
        count, n, rank = self.factors_.shape
        target = FactorizationMachine(n, rank=count * rank).double()
        with torch.no_grad():
            target.bias.fill_(self.intercepts_.mean())
            target.weight.copy_(torch.from_numpy(self.linear_.mean(0)))
            side_by_side = np.moveaxis(self.factors_, 0, 1).reshape(n, count * rank) / np.sqrt(count)
            target.v.copy_(torch.from_numpy(side_by_side))
        return target


class FactorizationMachineClassifier(ClassifierMixin, _FactorizationMachine):
    """A factorization machine for classes: P(y = 1) = Phi(machine(x)), Phi the normal distribution (probit).

    The latent number behind each label is drawn anew in every sweep ("mcmc", Albert and Chib 1993) or replaced by its
    expectation ("als"). More than two classes are learned one against the rest, their probabilities scaled to sum one.

    Args and attributes: as for `FactorizationMachineRegressor`; intercepts_, linear_ and factors_ have one axis more in
    front, of 1 for two classes and of K for K > 2.

    Source: Rendle 2012; Albert and Chib 1993.

    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = FactorizationMachineClassifier(rank=2, random_state=0).fit(x, x[:, 0] * x[:, 1] > 0)
    >>> bool(model.score(x, x[:, 0] * x[:, 1] > 0) > 0.95)
    True
    """

    def fit(self, X: Any, y: Any) -> FactorizationMachineClassifier:
        """Learn from X (rows, n), dense or sparse, and the labels y (rows)."""
        settings = self._settings()
        x, y = validate_data(self, X, y, accept_sparse="csc", dtype=np.float64)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__}: y has one class, {self.classes_[0]!r}; expected at least two classes"
            )
        x, groups, random = (
            _canonical(sparse.csc_matrix(x)),
            self._groups(x.shape[1]),
            check_random_state(self.random_state),
        )
        against = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        found: list[Machines] = []
        for label in against:
            signs = np.where(numbers == label, 1.0, -1.0)
            found.append(fit(x, signs, groups, settings, random, probit=True))
        self.intercepts_ = np.stack([machines.intercepts for machines in found])
        self.linear_ = np.stack([machines.linear for machines in found])
        self.factors_ = np.stack([machines.factors for machines in found])
        self.n_iter_ = max(machines.sweeps for machines in found)
        return self

    def predict_proba(self, X: Any) -> NDArray:
        """Probabilities (rows, K) in the order of `classes_`, the mean over the draws kept."""
        x = self._inputs(X)
        columns = []
        for parts in zip(self.intercepts_, self.linear_, self.factors_, strict=True):
            draws = [special.ndtr(predict(x, *machine)) for machine in zip(*parts, strict=True)]
            columns.append(np.mean(draws, axis=0))
        if len(columns) == 1:
            return np.stack([1 - columns[0], columns[0]], 1)
        chances = np.stack(columns, 1) + np.finfo(float).tiny
        return chances / chances.sum(1, keepdims=True)

    def predict(self, X: Any) -> NDArray:
        """The most probable labels (rows)."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]
