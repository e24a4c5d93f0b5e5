"""Theorems 1 to 5 of Galanti and Wolf 2020, and the width bound under them, as functions of sizes.

Letters as in the paper: x has m1 numbers and I has m2, m = m1 + m2, all in [-1, 1]; r is the smoothness of the target
(continuous derivatives up to order r, whose largest values and the function's own sum to at most 1), eps the error.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import nn


class AssumptionWarning(UserWarning):
    """A theorem says nothing about the network it was given."""


@dataclass(frozen=True)
class Bound:
    """A statement about a number of parameters: `quantity relation constant eps^(-exponent)`.

    constant is None where the proofs give none; `value(eps)` then raises. `fails` names the assumptions that the given
    network breaks: the theorem then says nothing about it, and the function that made the bound warned.
    """

    theorem: int
    quantity: str
    relation: str
    exponent: float
    constant: float | None
    assumptions: tuple[str, ...]
    fails: tuple[str, ...] = field(default=())
    offset: int = 0

    def value(self, eps: float) -> float:
        """The number of parameters at an error eps > 0."""
        if eps <= 0:
            raise ValueError(f"Theorem {self.theorem}: eps is {eps}, expected a positive error")
        if self.constant is None:
            raise ValueError(f"Theorem {self.theorem} fixes the exponent {self.exponent:g} only, no constant is known")
        return self.constant * eps**-self.exponent + self.offset

    def __str__(self) -> str:
        size = f"eps^-{self.exponent:g}"
        size = f"O({size})" if self.relation == "<=" else f"Omega({size})" if self.constant is None else size
        constant = "" if self.constant is None else f"{self.constant:.3g} "
        lines = [f"Theorem {self.theorem}: {self.quantity} {self.relation} {constant}{size}"]
        lines += [f"  assumes {assumption}" for assumption in self.assumptions]
        return "\n".join(lines + [f"  FAILS: {failure}" for failure in self.fails])


APPROXIMATION = ("Assumption 1: one best approximator", "Assumption 2: the error falls strictly with size")
VARIATION = "activation piecewise C^1 with a derivative of bounded variation and integrable"


def width_error(parameters: int, m: int, r: int = 1, *, bump_norm: float | None = None) -> float:
    """Least worst error over all targets with N parameters chosen continuously: `1 / (C_1 (N + 1)^(r/m))`.

    Args:
        parameters: N. m: number of inputs. r: smoothness of the targets.
        bump_norm: C_1, see `theorem1`.

    Source: DeVore, Howard and Micchelli 1989; Galanti and Wolf 2020, Lemma 19.

    >>> round(width_error(99, m=2), 4)
    0.0241
    """
    norm = _bump_norm(m, r, bump_norm)
    if norm is None:
        raise ValueError(f"width_error: no bump's norm is known for r = {r}; pass bump_norm")
    return 1 / (norm * (parameters + 1) ** (r / m))


def theorem1(
    m: int, r: int = 1, network: nn.Module | None = None, *, bump_norm: float | None = None, slack: float = 0.0
) -> Bound:
    """Every class of networks that reaches error eps on all targets has `N + 1 >= (C / ((5 + 2 q) eps))^(m/r)`.

    Args:
        m: number of inputs. r: smoothness of the targets.
        network: one of the class, to check its activations.
        bump_norm: C_1 = 1 / C, the smoothness norm of a bump on [-1, 1]^m that vanishes on the border with its first
            r derivatives; default 1 + m pi / 2 of prod cos^2(pi x_i / 2) for r = 1, unknown for r > 1.
        slack: q, by how much more than twice the best error a continuous choice of weights may need.

    Warns:
        AssumptionWarning: an activation of the network that the theorem excludes; so do the functions below.

    Source: Galanti and Wolf 2020, Theorem 1 and its proof, Lemma 19.

    >>> bound = theorem1(m=2)
    >>> bound.exponent, round(bound.value(0.001))
    (2.0, 2331)
    """
    norm = _bump_norm(m, r, bump_norm)
    constant = None if norm is None else (1 / ((5 + 2 * slack) * norm)) ** (m / r)
    assumptions = (VARIATION, "no non-constant target is such a network", *APPROXIMATION)
    return _checked(Bound(1, "N", ">=", m / r, constant, assumptions, _activation_failures(network), offset=-1))


def theorem2(m1: int, m2: int, r: int = 1, q: nn.Module | None = None, e: nn.Module | None = None) -> Bound:
    """Embedding method with an embedding of constant size: `N_q = Omega(eps^-(m1 + m2))`, however large e is.

    Source: Galanti and Wolf 2020, Theorem 2.

    >>> with warnings.catch_warnings(action="ignore", category=AssumptionWarning):
    ...     theorem2(2, 3, e=nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))).fails
    ('e has biases',)
    """
    fails = (*_smoothness(r), *_embedding_failures(q, e))
    return _checked(Bound(2, "N_q", ">=", float(m1 + m2), None, ("r = 1", *_EMBEDDING), fails))


def theorem3(m1: int, m2: int, r: int = 1, q: nn.Module | None = None, e: nn.Module | None = None) -> Bound:
    """Embedding method with an embedding of any size: `N_q = Omega(eps^-min(m, 2 m1))`.

    Source: Galanti and Wolf 2020, Theorem 3.

    >>> theorem3(1, 5).exponent, theorem2(1, 5).exponent
    (2.0, 6.0)
    """
    fails = (*_smoothness(r), *_embedding_failures(q, e))
    assumptions = ("r = 1", *_EMBEDDING, "first layer of q of bounded norm")
    return _checked(Bound(3, "N_q", ">=", float(min(m1 + m2, 2 * m1)), None, assumptions, fails))


def theorem4(m1: int, r: int = 1, g: nn.Module | None = None, f: nn.Module | None = None) -> Bound:
    """Hypernetwork: a primary network with `N_g = O(eps^(-m1/r))` suffices for error 4 eps, if f may be large.

    The sketch says 3 eps, the proof 4 eps.

    Source: Galanti and Wolf 2020, Theorem 4.

    >>> with warnings.catch_warnings(action="ignore", category=AssumptionWarning):
    ...     print(theorem4(m1=2, f=nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5))))
    Theorem 4: N_g <= O(eps^-2)
      assumes no slice y_I is itself such a network
      assumes f is a ReLU network of any size
      assumes activation of g universal, sigma(0) = 0
      assumes activation piecewise C^1 with a derivative of bounded variation and integrable
      FAILS: f has Tanh, not ReLU
    """
    other = sorted({type(module).__name__ for module in _activations(f) if not isinstance(module, nn.ReLU)})
    fails = (*(f"f has {name}, not ReLU" for name in other), *_zero_at_zero("g", g), *_activation_failures(g))
    of_f = ("no slice y_I is itself such a network", "f is a ReLU network of any size")
    return _checked(Bound(4, "N_g", "<=", m1 / r, None, (*of_f, _UNIVERSAL.format("g"), VARIATION), fails))


def theorem5(m1: int, m2: int, r: int = 1, g: nn.Module | None = None) -> Bound:
    """Hypernetwork for structured targets: `N_f = O(eps^(-m2/r) + eps^(-m1/r))` trainable parameters suffice.

    In full `O(w^(1 + m2/r) eps^(-m2/r) + w N_g)` with w features; the larger exponent is returned.

    Source: Galanti and Wolf 2020, Theorem 5.

    >>> theorem5(m1=2, m2=3).exponent
    3.0
    """
    selector = "a continuous selector W P(I) of w smooth features, |W|_1 bounded"
    fails = (*_zero_at_zero("g", g), *_activation_failures(g))
    return _checked(Bound(5, "N_f", "<=", max(m1, m2) / r, None, (selector, _UNIVERSAL.format("g"), VARIATION), fails))


_UNIVERSAL = "activation of {} universal, sigma(0) = 0"
_EMBEDDING = (
    "e is C^1 without biases, its spectral complexity bounded",
    "spectral complexity of q bounded",
    _UNIVERSAL.format("q and e"),
    VARIATION,
    *APPROXIMATION,
)
_INTEGRABLE = (nn.Tanh, nn.Sigmoid, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid)  # ReLU6 is a Hardtanh
# sigma' not integrable on the line, so of no bounded variation in the paper's sense (Eq. 3).
_UNBOUNDED = (
    *(nn.ReLU, nn.ELU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Softplus, nn.GELU, nn.SiLU, nn.SELU, nn.CELU),
    *(nn.Mish, nn.Hardswish, nn.LogSigmoid, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Identity),
)
_KINKED = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.SELU)
# Layers that are linear in x, or leave it as it is.
_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Flatten, nn.Unflatten, nn.Dropout)


def _checked(bound: Bound) -> Bound:
    if bound.fails:
        # The line that asked for the theorem.
        warnings.warn(f"Theorem {bound.theorem} does not apply: {'; '.join(bound.fails)}", AssumptionWarning, 3)
    return bound


def _bump_norm(m: int, r: int, given: float | None) -> float | None:
    return 1 + m * math.pi / 2 if given is None and r == 1 else given


def _activations(network: nn.Module | None) -> list[nn.Module]:
    """All that is not linear, known here or not."""
    leaves = [] if network is None else [module for module in network.modules() if not list(module.children())]
    return [module for module in leaves if not isinstance(module, _LINEAR)]


def _activation_failures(network: nn.Module | None) -> tuple[str, ...]:
    found = {type(module).__name__: module for module in _activations(network)}
    return tuple(
        f"the derivative of {name} is not integrable"
        if isinstance(module, _UNBOUNDED)
        else f"{name} is no activation known here"
        for name, module in sorted(found.items())
        if not isinstance(module, _INTEGRABLE)
    )


def _zero_at_zero(name: str, network: nn.Module | None) -> tuple[str, ...]:
    known = (m for m in _activations(network) if isinstance(m, _INTEGRABLE + _UNBOUNDED))
    kinds = {type(m).__name__ for m in known if m(torch.zeros(1)).any()}
    return tuple(f"{kind}(0) is not 0 in {name}" for kind in sorted(kinds))


def _smoothness(r: int) -> tuple[str, ...]:
    return () if r == 1 else (f"r = {r}; shown for r = 1 only",)


def _embedding_failures(q: nn.Module | None, e: nn.Module | None) -> tuple[str, ...]:
    fails = [*_zero_at_zero("q", q), *_zero_at_zero("e", e), *_activation_failures(q), *_activation_failures(e)]
    if any(isinstance(module, _KINKED) for module in _activations(e)):
        fails.append("e is not C^1")
    if e is not None and any(name.rpartition(".")[-1] == "bias" for name, _ in e.named_parameters()):
        fails.append("e has biases")
    return tuple(dict.fromkeys(fails))
