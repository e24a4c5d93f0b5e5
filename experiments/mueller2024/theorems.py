"""Theorem 3.1, Corollary 3.2 and Theorem 3.3 on random networks: the largest difference, in float64, over ten seeds.

Claim (Müller 2024): a hypernetwork layer equals a gated double layer with n_i n_j gates or more (Theorem 3.1), a kernel
prediction layer one with C_X C_Y f^2 gated maps (Corollary 3.2); Eq. 11-13 give both by hand. On binary inputs
factorization machines (Eq. 2) and linear hypernetworks of low rank (Eq. 8) are the same functions (Theorem 3.3).
Command: `python -m experiments.mueller2024.theorems`, seconds.
Each seed draws sizes, weights and inputs. Compared with the layer itself: Eq. 1 or 6 written out, Eq. 5 or 7 written
out with the matrices of Eq. 11-13, and what `fastweights.convert.layer` builds; outputs, and gradients by the input.
Theorem 3.3: machine and hypernetwork as another and Eq. 2 and 8 written out, outputs on binary inputs, and the ranks.
Measured: results/theorems.json. Largest difference over ten seeds 8.9e-16 (Theorem 3.1) and 2.2e-15 (Corollary
3.2), the rounding of sums in another order; the predicted weights agree to the bit. Theorem 3.3: 3.8e-14; a machine
keeps its rank, and in six of ten hypernetworks the rank grows on the way to a machine (9 inputs: from 3 to 8), which
Theorem 3.3 does not say.
"""

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cyclopts import App
from torch import Tensor, nn

from experiments import report
from fastweights import convert, convert_fm, zoo
from fastweights.layer import PredictedWeight

RESULT = Path("results/theorems.json")
app = App(help=__doc__, help_format="plaintext")


def index_matrices(n_i: int, n_j: int, n_k: int) -> tuple[Tensor, Tensor]:
    """v (i, k) of Eq. 11 and u (k, j) of Eq. 12; zero from k = n_i n_j on."""
    v, u = torch.zeros(n_i, n_k, dtype=torch.float64), torch.zeros(n_k, n_j, dtype=torch.float64)
    for k in range(n_i * n_j):
        v[k % n_i, k] = 1
        u[k, k // n_i] = 1
    return v, u


def gates(weight: Tensor, n_k: int) -> Tensor:
    """Eq. 13: a_k = w_ij where k = n_i j + i. weight (b, i, j)."""
    b, n_i, n_j = weight.shape
    a = torch.zeros(b, n_k, dtype=torch.float64)
    for i in range(n_i):
        for j in range(n_j):
            a[:, n_i * j + i] = weight[:, i, j]
    return a


def compare(x: Tensor, spellings: dict[str, Any], layer: PredictedWeight) -> dict[str, float]:
    """Largest difference from the layer, of outputs and of gradients by x."""

    def both(function: Any) -> tuple[Tensor, Tensor]:
        point = x.clone().requires_grad_()
        y = function(point)
        (gradient,) = torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum(), point)
        return y.detach(), gradient

    truth = both(layer)
    return {
        name: max((a - b).abs().max().item() for a, b in zip(both(function), truth, strict=True))
        for name, function in spellings.items()
    }


def theorem31(seed: int) -> dict[str, Any]:
    """A hypernetwork layer of drawn size, and as many gates as weights or up to seven more."""
    torch.manual_seed(seed)
    drawn = random.Random(seed)
    n_i, n_j, more = drawn.randint(1, 12), drawn.randint(1, 9), drawn.choice([0, 0, 1, 7])
    n_k = n_i * n_j + more
    layer = zoo.HyperLinear(n_i, n_j).double()
    x = torch.randn(6, n_i, dtype=torch.float64)
    v, u = index_matrices(n_i, n_j, n_k)

    def weight(x: Tensor) -> Tensor:
        return layer.predictor(x).reshape(-1, n_j, n_i).mT  # (b, i, j)

    conversion = convert.to_gated(layer.structure, gates=n_k)
    predictor = convert.MappedPredictor(layer.predictor, conversion.code_map, layer.axes)
    converted = PredictedWeight(conversion.structure.double(), layer.axes, predictor)
    spellings = {
        "Eq. 1 written out": lambda x: torch.einsum("bij,bi->bj", weight(x), x),
        "Eq. 5 with Eq. 11-13": lambda x: torch.einsum("kj,bk,ik,bi->bj", u, gates(weight(x), n_k), v, x),
        "fastweights.convert": converted,
    }
    same = torch.equal(converted.weight(x), layer.weight(x))
    sizes = {"n_i": n_i, "n_j": n_j, "n_k": n_k}
    return {"seed": seed, **sizes, "weights equal to the bit": same, "differences": compare(x, spellings, layer)}


def corollary32(seed: int) -> dict[str, Any]:
    """A kernel prediction layer of drawn size on an image of odd size."""
    torch.manual_seed(seed)
    drawn = random.Random(seed)
    c_x, c_y, f = drawn.randint(1, 4), drawn.randint(1, 3), drawn.choice([1, 3, 5])
    h, w, r = drawn.randint(5, 9), drawn.randint(5, 9), f // 2
    layer = zoo.KernelPrediction(c_x, f, c_y).double()
    x = torch.randn(2, c_x, h, w, dtype=torch.float64)
    maps = c_x * c_y * f * f
    v, u = index_matrices(c_x * f * f, c_y, maps)

    def kernels(x: Tensor) -> Tensor:
        return layer.predictor(x).unflatten(1, (c_y, c_x, f, f))

    def eq6(x: Tensor) -> Tensor:
        padded, k = F.pad(x, (r, r, r, r)), kernels(x)
        shifts = [(a, b) for a in range(f) for b in range(f)]
        return sum((k[:, :, :, a, b] * padded[:, None, :, a : a + h, b : b + w]).sum(2) for a, b in shifts)  # type: ignore[return-value]

    def eq7(x: Tensor) -> Tensor:
        # Eq. 13 with the kernel's taps as i: gate map h = (c_y, c_x, u, v); Eq. 11 as filters, Eq. 12 as a 1 x 1 one.
        filtered = F.conv2d(x, v.T.reshape(maps, c_x, f, f), padding=r)
        return F.conv2d(filtered * kernels(x).flatten(1, 4), u.T[:, :, None, None])

    converted = convert.layer(layer)
    spellings = {"Eq. 6 written out": eq6, "Eq. 7 with Eq. 11-13": eq7, "fastweights.convert": converted}
    same = torch.equal(converted.double().weight(x), layer.weight(x))
    sizes = {"C_X": c_x, "C_Y": c_y, "f": f, "maps": maps, "image": [h, w]}
    return {"seed": seed, **sizes, "weights equal to the bit": same, "differences": compare(x, spellings, layer)}


def theorem33(seed: int) -> dict[str, Any]:
    """A machine as a hypernetwork and a hypernetwork as a machine, of drawn sizes, on vectors of zeros and ones."""
    torch.manual_seed(seed)
    drawn = random.Random(seed)
    n, outputs, rank = drawn.randint(2, 9), drawn.randint(1, 4), drawn.randint(1, 4)
    machine = zoo.FactorizationMachine(n, outputs, rank=rank).double()
    layer = zoo.LinearHypernetwork(n, outputs, rank=rank).double()
    for parameter in (*machine.parameters(), *layer.parameters()):
        nn.init.normal_(parameter)
    x = torch.randint(0, 2, (64, n)).double()
    pairs = torch.ones(n, n, dtype=torch.float64).triu(1)
    eq2 = machine.bias + x @ machine.weight.T
    eq2 = eq2 + torch.einsum("bi,bk,jil,jkl,ik->bj", x, x, machine.v, machine.v, pairs)
    eq8 = layer.bias + x @ layer.linear.T + torch.einsum("bi,jik,bk->bj", x, layer.interactions, x)
    there = convert_fm.to_linear_hypernetwork(machine, binary=True)
    back = convert_fm.to_factorization_machine(layer, binary=True)
    spellings = {
        "Eq. 2 written out": machine(x) - eq2,
        "the machine as a hypernetwork": there(x) - eq2,
        "Eq. 8 written out": layer(x) - eq8,
        "the hypernetwork as a machine": back(x) - eq8,
    }
    ranks = {"rank": rank, "rank of the machine as a hypernetwork": there.rank, "of the other as a machine": back.rank}
    sizes = {"inputs": n, "outputs": outputs, **ranks}
    return {"seed": seed, **sizes, "differences": {name: d.abs().max().item() for name, d in spellings.items()}}


@app.default
def main(*, seeds: int = 10, result: Path = RESULT) -> None:
    """Check all and print the largest difference.

    Args:
        seeds: How many random networks of each kind.
        result: The JSON file written.
    """
    content: dict[str, Any] = {}
    for name, check in {"Theorem 3.1": theorem31, "Corollary 3.2": corollary32, "Theorem 3.3": theorem33}.items():
        rows = [check(seed) for seed in range(seeds)]
        largest = max(difference for row in rows for difference in row["differences"].values())
        content[name] = {"largest difference": largest}
        if check is theorem33:
            grown = sum(row["of the other as a machine"] > row["rank"] for row in rows)
            content[name]["rank grows from Eq. 8 to Eq. 2"] = grown
            more = f"the rank grows from Eq. 8 to Eq. 2 in {grown}"
        else:
            equal = all(row["weights equal to the bit"] for row in rows)
            content[name]["weights equal to the bit"] = equal
            more = f"predicted weights {'equal' if equal else 'NOT equal'} to the bit"
        print(f"{name}: {seeds} networks, largest difference {largest:.1e}, {more}")
        content[name]["networks"] = rows
    report.write(result, content)


if __name__ == "__main__":
    app()
