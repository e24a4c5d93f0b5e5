r"""One pass over the weights of a factorization machine, each set to its best value or drawn around it.

With the others held, a prediction is linear in any one weight theta, `y = g + h theta`, so its conditional under a
normal prior is normal (Rendle 2012; Freudenthaler, Schmidt-Thieme and Rendle 2011):

    precision = alpha sum h^2 + lambda,   mean = (alpha sum h (e + h theta) + lambda mu) / precision

with e the residuals, alpha the precision of the noise, mu and lambda of the prior. `theta = mean + noise /
sqrt(precision)`: with noise of zero alternating least squares, with standard normal noise a step of Gibbs sampling.
h is x_i for a linear weight and x_i (q - x_i v_i), q = sum_k v_k x_k, for a factor.

`linear_reference` and `factor_reference` say so with dense columns; `linear` and `factor` are the same compiled by
numba, on x by columns (CSC), with q kept up to date. All change the weights and the residuals in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray


def linear_reference(x: NDArray, e: NDArray, w: NDArray, draw: NDArray, alpha: float) -> None:
    """A pass over the linear weights w (n), dense x (rows, n); draw (3, n) holds mu, lambda and noise."""
    for i in range(len(w)):
        _step(x[:, i], e, w, i, draw[:, i], alpha)


def factor_reference(x: NDArray, e: NDArray, v: NDArray, draw: NDArray, alpha: float) -> None:
    """A pass over one factor v (n) of all features."""
    for i in range(len(v)):
        others = v * (np.arange(len(v)) != i)
        _step(x[:, i] * (x @ others), e, v, i, draw[:, i], alpha)


def _step(h: NDArray, e: NDArray, theta: NDArray, i: int, draw: NDArray, alpha: float) -> None:
    mu, lam, noise = draw
    precision = alpha * h @ h + lam
    if precision <= 0:  # a feature that is always zero, without a prior
        return
    new = (alpha * h @ (e + h * theta[i]) + lam * mu) / precision + noise / np.sqrt(precision)
    e -= h * (new - theta[i])
    theta[i] = new


def compiled(function: Callable) -> Callable:
    """By numba, without the interpreter's lock."""
    # pytest wraps every function to check shapes, which numba cannot compile
    plain = inspect.unwrap(function)
    try:
        return njit(plain, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # numba found no folder it may write its cache to
        return njit(plain, nogil=True, error_model="numpy")


@compiled
def linear(indptr, rows, values, e, w, draw, alpha):
    """As `linear_reference`, on columns."""
    for i in range(len(w)):
        first, last = indptr[i], indptr[i + 1]
        a, b = 0.0, 0.0
        for t in range(first, last):
            a += values[t] * values[t]
            b += values[t] * e[rows[t]]
        mu, lam, noise = draw[0, i], draw[1, i], draw[2, i]
        precision = alpha * a + lam
        if precision > 0:
            new = (alpha * (b + a * w[i]) + lam * mu) / precision + noise / np.sqrt(precision)
            step = new - w[i]
            w[i] = new
            for t in range(first, last):
                e[rows[t]] -= values[t] * step


@compiled
def factor(indptr, rows, values, e, v, q, draw, alpha):
    """As `factor_reference`, on columns; q (rows) is x @ v, kept up to date."""
    for i in range(len(v)):
        first, last = indptr[i], indptr[i + 1]
        a, b, old = 0.0, 0.0, v[i]
        for t in range(first, last):
            h = values[t] * (q[rows[t]] - values[t] * old)
            a += h * h
            b += h * e[rows[t]]
        mu, lam, noise = draw[0, i], draw[1, i], draw[2, i]
        precision = alpha * a + lam
        if precision > 0:
            new = (alpha * (b + a * old) + lam * mu) / precision + noise / np.sqrt(precision)
            step = new - old
            v[i] = new
            for t in range(first, last):
                x, row = values[t], rows[t]
                e[row] -= x * (q[row] - x * old) * step
                q[row] += x * step
