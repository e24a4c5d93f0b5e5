"""Two processes with DistributedDataParallel; run in a process of its own: `python tests/parallel_network.py FILE`.

Each takes half of the contexts; the gradients must be those of one process with all of them.
"""

import sys

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from fastweights import HyperNetwork, heads

HEADS = {
    "linear": (heads.Linear(), False),
    "low rank": (heads.LowRank(2), True),
    "gated": (heads.GatedWeights(), False),
}


def build(name):
    torch.manual_seed(0)
    head, delta = HEADS[name]
    primary = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    hyper = HyperNetwork(primary, nn.Linear(5, 6), head=head, delta=delta).double()
    with torch.no_grad():
        for parameter in hyper.parameters():
            parameter.normal_(std=0.3)
    return hyper, torch.randn(6, 3, 2, 6, 6).double(), torch.randn(6, 5).double()


def check(name, rank):
    hyper, x, context = build(name)
    hyper(x, context, grouped=True).square().mean().backward()
    expected = [parameter.grad for parameter in hyper.parameters()]
    hyper, x, context = build(name)
    half = slice(3 * rank, 3 * rank + 3)
    parallel = DistributedDataParallel(hyper)  # kept: without it nothing is averaged
    parallel(x[half], context[half], grouped=True).square().mean().backward()
    for parameter, wanted in zip(hyper.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-10, atol=1e-12)


def work(rank, file):
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    for name in HEADS:
        check(name, rank)
        if rank == 0:
            print("fine:", name, flush=True)
    # Nobody leaves while the other still speaks, and no network holds the group any more: gloo's threads end with it,
    # and a process that exits while they run is aborted.
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.spawn(work, (sys.argv[1],), nprocs=2)
