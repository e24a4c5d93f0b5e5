"""Galanti and Wolf 2020 as calculators: spectral complexity, sizes of the experiments, Theorems 1 to 5, Lemma 1.

Letters as in the paper: x has m1 numbers and I has m2, m = m1 + m2, all in [-1, 1]; r is the smoothness of the target
(continuous derivatives up to order r, whose largest values and the function's own sum to at most 1), eps the error.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Lipschitz constants of activations; ELU's needs alpha <= 1, LeakyReLU's a slope <= 1.
LIPSCHITZ: dict[type[nn.Module], float] = {
    **dict.fromkeys((nn.Identity, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Hardtanh, nn.Softplus, nn.Softsign), 1.0),
    nn.Sigmoid: 0.25,
}


def spectral_complexity(network: nn.Sequential) -> float:
    """`C(f) = L^(k-1) prod_i |W_i|_1`, |W|_1 the largest absolute column sum, L the activations' Lipschitz constant.

    It bounds the network's Lipschitz constant in the l1 norm, `|f(x) - f(x')|_1 <= C(f) |x - x'|_1` (Lemma 3), loosely
    and the more so the deeper it is.

    Args:
        network: k linear layers with activations between them (Eq. 1); biases do not count.

    Raises:
        TypeError: a layer that is neither, or an activation whose constant is not known here.

    Source: Galanti and Wolf 2020, Sec. 2.1 and Lemma 3.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1))
    >>> for layer in (network[0], network[2]):
    ...     _ = nn.init.constant_(layer.weight, -2.0)
    >>> spectral_complexity(network)  # 1/4 x 4 x 2
    2.0
    """
    norms: list[float] = []
    constants: list[float] = []
    for module in network:
        if isinstance(module, nn.Linear):
            norms.append(module.weight.detach().abs().sum(0).max().item())
        else:
            constants.append(_lipschitz(module))
    if len(constants) < len(norms) - 1:
        constants.append(1.0)  # layers with nothing between them
    return max(constants, default=1.0) ** (len(norms) - 1) * math.prod(norms)


def _lipschitz(activation: nn.Module) -> float:
    if isinstance(activation, nn.ELU) and activation.alpha <= 1:
        return 1.0
    if isinstance(activation, nn.LeakyReLU) and abs(activation.negative_slope) <= 1:
        return 1.0
    if type(activation) not in LIPSCHITZ:
        known = ", ".join(sorted(kind.__name__ for kind in LIPSCHITZ))
        raise TypeError(
            f"spectral_complexity: no Lipschitz constant known for {activation}; expected nn.Linear, {known}"
        )
    return LIPSCHITZ[type(activation)]


def weights(*widths: int) -> int:
    """Number of weights, biases not counted, of linear layers between these widths.

    >>> weights(100, 10, 1)
    1010
    """
    return sum(i * j for i, j in itertools.pairwise(widths))


@dataclass(frozen=True)
class Sizes:
    """Weights of the four networks of an experiment: primary ones g, q and what feeds them, f, e."""

    g: int
    q: int
    f: int
    e: int


def synthetic_layers(layers: int) -> Sizes:
    """Sec. 5, layers sweep: d = 1000, E = 10,000; f and e have 2 to 9 layers of width 100.

    >>> synthetic_layers(3)
    Sizes(g=10010, q=110010, f=1111000, e=1110000)
    """
    g, q = weights(1000, 10, 1), weights(1000 + 10_000, 10, 1)
    trunk = (1000, *[100] * (layers - 1))
    return Sizes(g, q, weights(*trunk, g), weights(*trunk, 10_000))


def synthetic_embedding(i: int) -> Sizes:
    """Sec. 5, embedding sweep: d = 100, f 100 -> 100 -> 100 i -> N_g, e 100 -> 100 -> 100 -> 1000 i; i = 1..8.

    >>> synthetic_embedding(1)
    Sizes(g=1010, q=11010, f=121000, e=120000)
    """
    g, q = weights(100, 10, 1), weights(100 + 1000 * i, 10, 1)
    return Sizes(g, q, weights(100, 100, 100 * i, g), weights(100, 100, 100, 1000 * i))


def rotation(pixels: int, layers: int, width: int) -> Sizes:
    """Sec. 5, rotation of images of h h c = pixels numbers, 12 classes; f and e emit as many numbers as g has weights.

    >>> rotation(28 * 28, layers=2, width=50).g
    7960
    """
    g = weights(pixels, 10, 12)
    embedding = 10 * pixels + 10  # the printed d_in of q is 11 d + 10
    trunk = (pixels, *[width] * (layers - 1))
    return Sizes(g, weights(pixels + embedding, 10, 12), weights(*trunk, g), weights(*trunk, embedding))


def colorization(layers: int) -> Sizes:
    """Appendix 1.3: 42 numbers for a position, 1024 grey pixels; f and e have 2 to 7 layers and 450 outputs.

    >>> colorization(2)
    Sizes(g=450, q=4950, f=147400, e=147400)
    """
    trunk = (1024, *[100] * (layers - 1), 450)
    return Sizes(weights(42, 10, 3), weights(42 + 450, 10, 3), weights(*trunk), weights(*trunk))


@dataclass(frozen=True)
class Bound:
    """A statement about a number of parameters: `quantity relation constant eps^(-exponent)`.

    constant is None where the proofs give none; `value(eps)` then raises. `fails` names the assumptions that the given
    network breaks: the theorem then says nothing about it.
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
        """The number of parameters at an error."""
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


def theorem1(m: int, r: int = 1, network: nn.Module | None = None, *, bump_norm: float | None = None) -> Bound:
    """Every class of networks that reaches error eps on all targets has `N + 1 >= (C / (5 eps))^(m/r)` parameters.

    Args:
        m: number of inputs. r: smoothness of the targets.
        network: one of the class, to check its activations.
        bump_norm: C_1 = 1 / C, the smoothness norm of a bump on [-1, 1]^m that vanishes on the border with its first
            r - 1 derivatives; default 1 + m pi / 2 of prod cos^2(pi x_i / 2) for r = 1, unknown for r > 1.

    Source: Galanti and Wolf 2020, Theorem 1 and its proof (slack q = 0), Lemma 19.

    >>> bound = theorem1(m=2)
    >>> bound.exponent, round(bound.value(0.001))
    (2.0, 2331)
    """
    norm = 1 + m * math.pi / 2 if bump_norm is None and r == 1 else bump_norm
    constant = None if norm is None else (1 / (5 * norm)) ** (m / r)
    assumptions = (VARIATION, "no non-constant target is such a network", *APPROXIMATION)
    return Bound(1, "N", ">=", m / r, constant, assumptions, _activation_failures(network), -1)


def theorem2(m1: int, m2: int, r: int = 1, q: nn.Module | None = None, e: nn.Module | None = None) -> Bound:
    """Embedding method with an embedding of constant size: `N_q = Omega(eps^-(m1 + m2))`, however large e is.

    Source: Galanti and Wolf 2020, Theorem 2.

    >>> theorem2(2, 3, e=nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))).fails
    ('e has biases',)
    """
    fails = (*_smoothness(r), *_embedding_failures(q, e))
    return Bound(2, "N_q", ">=", float(m1 + m2), None, ("r = 1", *_EMBEDDING), fails)


def theorem3(m1: int, m2: int, r: int = 1, q: nn.Module | None = None, e: nn.Module | None = None) -> Bound:
    """Embedding method with an embedding of any size: `N_q = Omega(eps^-min(m, 2 m1))`.

    Source: Galanti and Wolf 2020, Theorem 3.

    >>> theorem3(1, 5).exponent, theorem2(1, 5).exponent
    (2.0, 6.0)
    """
    fails = (*_smoothness(r), *_embedding_failures(q, e))
    assumptions = ("r = 1", *_EMBEDDING, "first layer of q of bounded norm")
    return Bound(3, "N_q", ">=", float(min(m1 + m2, 2 * m1)), None, assumptions, fails)


def theorem4(m1: int, r: int = 1, g: nn.Module | None = None, f: nn.Module | None = None) -> Bound:
    """Hypernetwork: a primary network with `N_g = O(eps^(-m1/r))` suffices for error 4 eps, if f may be large.

    The sketch says 3 eps, the proof 4 eps.

    Source: Galanti and Wolf 2020, Theorem 4.

    >>> print(theorem4(m1=2, f=nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5))))
    Theorem 4: N_g <= O(eps^-2)
      assumes no slice y_I is itself such a network
      assumes f is a ReLU network of any size
      assumes activation of g universal, sigma(0) = 0
      FAILS: f has Tanh, not ReLU
    """
    other = sorted({type(module).__name__ for module in _activations(f) if not isinstance(module, nn.ReLU)})
    fails = [f"f has {name}, not ReLU" for name in other] + list(_zero_at_zero("g", g))
    assumptions = ("no slice y_I is itself such a network", "f is a ReLU network of any size", _UNIVERSAL.format("g"))
    return Bound(4, "N_g", "<=", m1 / r, None, assumptions, tuple(fails))


def theorem5(m1: int, m2: int, r: int = 1, g: nn.Module | None = None) -> Bound:
    """Hypernetwork for structured targets: `N_f = O(eps^(-m2/r) + eps^(-m1/r))` trainable parameters suffice.

    In full `O(w^(1 + m2/r) eps^(-m2/r) + w N_g)` with w features; the larger exponent is returned.

    Source: Galanti and Wolf 2020, Theorem 5.

    >>> theorem5(m1=2, m2=3).exponent
    3.0
    """
    assumptions = ("a continuous selector W P(I) of w smooth features, |W|_1 bounded", _UNIVERSAL.format("g"))
    return Bound(5, "N_f", "<=", max(m1, m2) / r, None, assumptions, _zero_at_zero("g", g))


def weight_error(layers: int, inputs: int, lipschitz: float, norm: float, eps: float) -> float:
    """How far g's output may be off in the l1 norm, at any x in [-1, 1]^m1, when its weights are off (Theorem 5).

    `a_1 = m1, a_(i+1) = L c w (1 + a_i)` bounds the layers' outputs, `b_(i+1) = L (c w (2 b_i + a_i) + 1)` their errors
    over eps, without L in the last layer.

    Args:
        layers, inputs, lipschitz: of g; inputs is m1, lipschitz L.
        norm: c w, a bound on the induced l1 norm of each weight matrix and the l1 norm of each bias.
        eps: at most 1; weight matrices are off by at most c w eps and biases by at most eps, in the same norms.

    Source: Galanti and Wolf 2020, proof of Theorem 5.

    >>> weight_error(layers=1, inputs=3, lipschitz=1.0, norm=2.0, eps=0.1)
    0.7000000000000001
    """
    a, b = float(inputs), 0.0
    for number in range(layers):
        factor = 1.0 if number == layers - 1 else lipschitz
        a, b = factor * norm * (1 + a), factor * (norm * (2 * b + a) + 1)
    return eps * b


def add_neuron(
    points: Float[Tensor, "n m"], residual: Float[Tensor, " n"], activation: nn.Module, candidates: int = 1000
) -> tuple[Float[Tensor, " m"], float, float]:
    """A hidden neuron that lowers the squared error: `(a, b, c)` of `c activation(a x + b)` (Lemma 1, constructively).

    The best of random neurons: for one with values n on the points, c = <residual, n> / |n|^2 lowers the squared
    error by <residual, n>^2 / |n|^2, which is positive for some neuron unless the residual is zero.

    >>> points = torch.linspace(-1, 1, 50)[:, None]
    >>> residual = points[:, 0].square() - 1 / 3
    >>> a, b, c = add_neuron(points, residual, nn.Tanh())
    >>> better = residual - c * torch.tanh(points @ a + b)
    >>> bool(better.square().sum() < residual.square().sum())
    True
    """
    generator = torch.Generator().manual_seed(0)
    a = 3 * torch.randn(candidates, points.shape[1], generator=generator, dtype=points.dtype)
    b = 3 * torch.randn(candidates, generator=generator, dtype=points.dtype)
    values = activation(points @ a.T + b)
    squares = values.square().sum(0).clamp(min=torch.finfo(points.dtype).tiny)
    coefficients = (residual @ values) / squares
    best = int((coefficients.square() * squares).argmax())
    return a[best], b[best].item(), coefficients[best].item()


_UNIVERSAL = "activation of {} universal, sigma(0) = 0"
_EMBEDDING = (
    "e is C^1 without biases, its spectral complexity bounded",
    "spectral complexity of q bounded",
    _UNIVERSAL.format("q and e"),
    VARIATION,
    *APPROXIMATION,
)
# sigma' not integrable on the line, so of no bounded variation in the paper's sense (Eq. 3).
_UNBOUNDED = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.GELU, nn.SiLU, nn.SELU, nn.CELU, nn.Identity)


def _activations(network: nn.Module | None) -> list[nn.Module]:
    leaves = [] if network is None else [module for module in network.modules() if not list(module.children())]
    return [module for module in leaves if not list(module.parameters(recurse=False))]


def _activation_failures(network: nn.Module | None) -> tuple[str, ...]:
    names = sorted({type(module).__name__ for module in _activations(network) if isinstance(module, _UNBOUNDED)})
    return tuple(f"the derivative of {name} is not integrable" for name in names)


def _zero_at_zero(name: str, network: nn.Module | None) -> tuple[str, ...]:
    kinds = {type(m).__name__ for m in _activations(network) if m(torch.zeros(1, 1)).abs().item() > 0}
    return tuple(f"{kind}(0) is not 0 in {name}" for kind in sorted(kinds))


def _smoothness(r: int) -> tuple[str, ...]:
    return () if r == 1 else (f"r = {r}; shown for r = 1 only",)


def _embedding_failures(q: nn.Module | None, e: nn.Module | None) -> tuple[str, ...]:
    fails = [*_zero_at_zero("q", q), *_zero_at_zero("e", e), *_activation_failures(q), *_activation_failures(e)]
    if any(isinstance(module, nn.ReLU | nn.LeakyReLU) for module in _activations(e)):
        fails.append("e is not C^1")
    if e is not None and any(name.rpartition(".")[-1] == "bias" for name, _ in e.named_parameters()):
        fails.append("e has biases")
    return tuple(dict.fromkeys(fails))
