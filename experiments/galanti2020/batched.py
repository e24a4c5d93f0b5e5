"""All repetitions of a sweep as one program: parameters stacked on a leading axis of seeds, every product batched.

A stack trains as its networks would one by one with `torch.optim.SGD` (tests/experiments/test_galanti_stacks.py),
without the overhead of small products; networks of linear layers alone by hand (`fused`), all others by vmap and
autograd.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from experiments.galanti2020 import fused
from experiments.galanti2020.merged import Merged
from fastweights.embedding import EmbeddingNetwork
from fastweights.network import HyperNetwork

Loss = Callable[[Tensor, Tensor], Tensor]


class Stack:
    """Networks of one shape, each with its own data: inputs and targets are (S, B, ...), S the number of networks.

    Example
    -------
    >>> stack = Stack([nn.Linear(5, 2) for _ in range(3)])
    >>> stack(torch.randn(3, 4, 5)).shape
    torch.Size([3, 4, 2])
    >>> stack.step((torch.randn(3, 4, 5),), torch.randn(3, 4, 2), nn.functional.mse_loss, rate=0.01).shape
    torch.Size([3])
    """

    def __init__(self, networks: Sequence[nn.Module]):
        # Copies on the leading axis; the first network lends its structure, not its values.
        self.module = networks[0]
        self.parameters = {name: p.detach().clone() for name, p in stack_module_state(list(networks))[0].items()}
        for parameter in self.parameters.values():
            parameter.requires_grad_()
        self.momenta: list[Tensor] = []
        self._tape = fused.Tape() if fused.covers(self.module) else None
        self._forward = vmap(lambda parameters, inputs: functional_call(self.module, parameters, inputs))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """(S, B, ...): each network on its own inputs, without gradients."""
        with torch.no_grad():
            return self._forward(self.parameters, inputs)

    def losses(self, inputs: tuple[Tensor, ...], target: Tensor, loss: Loss) -> Tensor:
        """(S): the loss of every network on its own batch, to differentiate."""
        return vmap(loss)(self._forward(self.parameters, inputs), target)

    def step(
        self, inputs: tuple[Tensor, ...], target: Tensor, loss: Loss, rate: float, momentum: float = 0.0
    ) -> Tensor:
        """One step of gradient descent of every network on its own batch; the losses (S) before it."""
        if self._tape is not None and not momentum and all(x.ndim == 3 for x in inputs):
            weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
            losses = vmap(loss)(fused.forward(self.module, weights, inputs, self._tape), target)
            losses.sum().backward()
            self._tape.descend(rate)
            return losses.detach()
        losses = self.losses(inputs, target, loss)
        parameters = list(self.parameters.values())
        gradients = torch.autograd.grad(losses.sum(), parameters)
        if momentum:
            self.momenta = self.momenta or [torch.zeros_like(p) for p in parameters]
            gradients = tuple(v.mul_(momentum).add_(g) for v, g in zip(self.momenta, gradients, strict=True))
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=rate)
        return losses.detach()


class Grouped(nn.Module):
    """A `HyperNetwork` whose context is one of N samples: x (B, N, i), context (B, k)."""

    def __init__(self, network: HyperNetwork):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """g(x; f(context))."""
        return self.network(x, context, grouped=True)


def layers(*sizes: int, bias: bool = True, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation after each but the last.

    Example
    -------
    >>> [type(module).__name__ for module in layers(5, 4, 3)]
    ['Linear', 'ReLU', 'Linear']
    """
    pairs = ((nn.Linear(i, j, bias=bias), activation()) for i, j in itertools.pairwise(sizes))
    return nn.Sequential(*list(itertools.chain.from_iterable(pairs))[:-1])


def hypernetwork(
    primary: Sequence[int],
    predictor: Sequence[int],
    predict: str = "*",
    bias: bool = False,
    activation: type[nn.Module] = nn.ReLU,
) -> HyperNetwork:
    """g of the sizes `primary` and f of the sizes `predictor`, whose last layer emits those weights of g in `predict`.

    The last layer of f is the head, so that the products may be taken in either order. It starts as the library's
    head does: near one ordinary network for every context (`start.apply` draws it otherwise). The activation is g's.
    """
    trunk = nn.Sequential(*layers(*predictor), nn.ReLU())
    return HyperNetwork(layers(*primary, bias=bias, activation=activation), trunk, predict, route="reassociate")


def embedding_method(primary: Sequence[int], encoder: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> Merged:
    """q of the sizes `primary`, of which the first counts x only, and e of the sizes `encoder`; with biases.

    The activation is q's.
    """
    inputs, *others = primary
    q = layers(inputs + encoder[-1], *others, activation=activation)
    return Merged(EmbeddingNetwork(q, layers(*encoder)))
