"""Compiles and exports hypernetworks; run in a process of its own, without shape checks (see compile_cases.py).

`python tests/compile_network.py` prints the name of each that gave the same result every time.
"""

import io
from importlib.util import find_spec

import torch
from torch import nn

from fastweights import HyperNetwork, heads


class Residual(nn.Module):
    """No chain: goes through vmap."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.norm = nn.GroupNorm(2, 2)

    def forward(self, x):
        return x + self.norm(self.second(torch.relu(self.first(x))))


class Attends(nn.Module):
    """Its second result is None, and vmap has none."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)


CASES = {
    "samples": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)), (6, 5), heads.Linear(), False),
    "groups": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)), (6, 16, 5), heads.Linear(), False),
    "low rank": (nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)), (6, 5), heads.LowRank(2), True),
    "gated": (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3)),
        (6, 2, 8, 8),
        heads.GatedWeights(),
        False,
    ),
    "vmap": (Residual(), (6, 2, 8, 8), heads.Linear(), False),
}


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def main():
    torch.manual_seed(0)
    for name, (primary, size, head, delta) in CASES.items():
        hyper = HyperNetwork(primary, nn.Linear(4, 3), head=head, delta=delta)
        x, context = torch.randn(size), torch.randn(6, 4)
        expected = hyper(x, context)
        torch._dynamo.reset()
        close(torch.compile(hyper, backend="aot_eager", fullgraph=True)(x, context), expected)
        close(torch.export.export(hyper, (x, context)).module()(x, context), expected)
        if name != "vmap":  # which makes the batch the number of a convolution's groups, a constant
            contexts = {0: torch.export.Dim("contexts", min=2, max=64)}
            program = torch.export.export(hyper, (x, context), dynamic_shapes=(contexts, contexts))
            more = program.module()(torch.cat([x, x]), torch.cat([context, context]))
            close(more, torch.cat([expected, expected]))
        baked, part = hyper.bake(context[0]).eval(), x[:1]
        close(baked(part), expected[:1])
        close(torch.export.export(baked, (part,)).module()(part), expected[:1])
        if find_spec("onnxscript") and find_spec("onnxruntime"):
            import onnxruntime

            program = torch.onnx.export(baked, (part,), dynamo=True, verbose=False)
            file = io.BytesIO()
            program.save(file)
            session = onnxruntime.InferenceSession(file.getvalue())
            (y,) = session.run(None, {session.get_inputs()[0].name: part.numpy()})
            close(torch.from_numpy(y), expected[:1])
        print("fine:", name, flush=True)
    hyper = HyperNetwork(Attends(), nn.Linear(4, 3))
    x, context = torch.randn(6, 5, 8), torch.randn(6, 4)
    torch._dynamo.reset()
    y, nothing = torch.compile(hyper, backend="aot_eager", fullgraph=True)(x, context)
    close(y, hyper(x, context)[0])
    assert nothing is None
    print("fine: attention", flush=True)


if __name__ == "__main__":
    main()
