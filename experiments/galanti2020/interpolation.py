"""Networks that interpolate on a grid: what the existence proofs need, built, with every weight known.

On the grid of (d + 1)^n points of [-1, 1]^n the hat of a point, `relu(1 + min(0, u) - max(0, u))` with u the distances
in steps of the grid, is a small ReLU network, and `sum_v y(v) hat_v` interpolates y linearly on simplices: for every y
of W_(1,n) it errs by at most a step, 2 / d, with O(d^n) parameters. That is the universality of Definition 1 for r = 1
(and 2, where the error is O(d^-2)). With values that another network predicts it is the hypernetwork of Theorem 4.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastweights import HyperNetwork, theory

Function = Callable[[Tensor], Tensor]


def hat(n: int) -> nn.Sequential:
    """The hat at zero as a ReLU network: n numbers to 1, n + 1 hidden layers.

    Example
    -------
    >>> hat(2)(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.5, -0.5], [0.5, 0.5]])).flatten().tolist()
    [1.0, 0.5, 0.0, 0.5]
    """
    # State (largest, smallest, u_t, ..., u_n): linear in the hidden units of every layer, which hold what is read next.
    state = torch.cat([torch.zeros(2, n), torch.eye(n)])
    layers: list[nn.Module] = []
    for left in range(n, 0, -1):
        largest, smallest, *others = state
        units = [others[0] - largest, smallest - others[0]]
        for carried in (largest, smallest, *others[1:]):
            units += [carried, -carried]
        layers += [_linear(torch.stack(units), torch.zeros(len(units))), nn.ReLU()]
        unit = torch.eye(len(units))
        both = unit[2::2] - unit[3::2]
        state = torch.stack([both[0] + unit[0], both[1] - unit[1], *both[2:]])
        assert len(state) == left + 1
    # min <= 0 <= max: 1 + min - max, cut at zero.
    last = _linear((state[1] - state[0])[None], torch.ones(1))
    return nn.Sequential(*layers, last, nn.ReLU())


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


class Interpolator(nn.Module):
    """`sum_v values_v hat((x - v) d / 2)`: x (b, n) to (b, outputs), one small ReLU network a grid point.

    Args:
        d: steps along each axis. n: axes. values: at the points of `theory.lattice(d, n)`, (points, outputs).

    Example
    -------
    >>> line = Interpolator(2, 1, torch.tensor([[0.0], [1.0], [0.0]]))
    >>> line(torch.tensor([[-0.5], [0.0], [0.25]])).flatten().tolist()
    [0.5, 1.0, 0.75]
    """

    def __init__(self, d: int, n: int, values: Tensor):
        super().__init__()
        self.step, self.hat = 2 / d, hat(n)
        self.register_buffer("points", theory.lattice(d, n).to(values.dtype))
        self.last = nn.Linear(len(values), values.shape[1], bias=False)
        self.to(values.dtype)
        with torch.no_grad():
            self.last.weight.copy_(values.T)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n) -> (b, outputs)."""
        assert isinstance(self.points, Tensor)
        hats = self.hat((x.unsqueeze(-2) - self.points) / self.step)
        return self.last(hats.squeeze(-1))

    @property
    def parameters_in_all(self) -> int:
        """As one fully written network: every point has a hat of its own, and its values."""
        return len(self.last.weight.T) * sum(p.numel() for p in self.hat.parameters()) + self.last.weight.numel()


def interpolate(function: Function, d: int, n: int) -> Interpolator:
    """The network for a function of n numbers, (b, n) -> (b) or (b, outputs)."""
    values = function(theory.lattice(d, n))
    return Interpolator(d, n, values.reshape(len(values), -1))


def hypernetwork(function: Function, steps: int, of_context: int, m1: int, m2: int) -> HyperNetwork:
    """Theorem 4, built: g interpolates in x with `steps` steps, f emits its values and interpolates in I.

    function: (b, m1 + m2) -> (b). The other weights of g are the same for all I.
    """
    points = theory.lattice(steps, m1)

    def selector(context: Tensor) -> Tensor:
        pairs = torch.cat(
            [points.expand(len(context), -1, -1), context[:, None].expand(-1, len(points), -1)],
            -1,
        )
        return function(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])

    f = interpolate(selector, of_context, m2)
    g = Interpolator(steps, m1, points[:, :1])
    return HyperNetwork(g, f, "last.weight", head=None)


class Waves:
    """A random member of W_(r,n): a sum of cosines whose derivatives up to order r, added up, stay within 1."""

    def __init__(self, n: int, seed: int, count: int = 12, steepness: float = 3.0, r: int = 1):
        random = torch.Generator().manual_seed(seed)
        self.slopes = steepness * torch.randn(count, n, generator=random, dtype=torch.float64)
        self.shifts = 2 * torch.pi * torch.rand(count, generator=random, dtype=torch.float64)
        heights = torch.randn(count, generator=random, dtype=torch.float64)
        # |D^k cos(a x)| <= prod |a_i|^k_i; summed over all k of order up to r it is at most sum_s |a|_1^s.
        sizes = sum(self.slopes.abs().sum(1) ** order for order in range(r + 1))
        self.heights = heights / (heights.abs() * sizes).sum()

    def __call__(self, x: Tensor) -> Tensor:
        """(b, n) -> (b)."""
        return torch.cos(x.double() @ self.slopes.T + self.shifts) @ self.heights
