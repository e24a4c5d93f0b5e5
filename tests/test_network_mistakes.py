"""HyperNetwork: what is wrong, too large or too much is said before anything is computed."""

import pytest
import torch
from network_cases import HEADS, Residual, conv_net, mlp
from torch import nn

from fastweights import HyperNetwork, heads


def mistake(primary=None, predictor=None, x=(3, 5), context=(3, 4), **options):
    def call():
        hyper = HyperNetwork(primary or mlp(), predictor or nn.Linear(4, 3), **options)
        return hyper(torch.randn(x), torch.randn(context))

    return call


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.ones(3, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (mistake(predict="conv.*"), r"predict='conv\.\*' matches no parameter; there are 0.weight, 0.bias, 2.0.weight"),
        (mistake(predict=["*", "x"]), "predict='x' matches no parameter"),
        (
            mistake(context=(2, 4)),
            r"2 contexts for x of shape \(3, 5\), expected 2 samples on axis 0; for one context for",
        ),
        (mistake(context=(1, 4)), "1 contexts for x of shape"),
        (mistake(context=(3, 2, 4)), r"the predictor gave \(3, 2, 3\), expected \(3\) or \(B, 3\): 3 features"),
        (
            mistake(head=None),
            r"the predictor gave \(3, 3\), expected \(80\) or \(B, 80\): 80 numbers, one for each pred",
        ),
        (mistake(context=(0, 4), x=(0, 5)), "a batch of 0 contexts, expected at least one"),
        (mistake(x=(3, 6)), "0 takes 5 features on axis -1, got 6"),
        (mistake(primary=conv_net(), x=(3, 4, 11, 9)), "0 takes 2 features on axis 1, got 4"),
        (mistake(primary=Complex()), "turn is torch.complex64, expected real numbers; leave it out of predict="),
        (mistake(predict=[]), r"predict is empty, expected patterns of names; '\*' is all"),
        (lambda: heads.Chunked(0), r"Chunked\(size=0, embedding=16, hidden=64\): size is 0, expected at least 1"),
        (mistake(features=5), r"the predictor gave \(3, 3\), expected \(5\)"),
        (mistake(primary=nn.ReLU()), "ReLU has no parameters to predict"),
        (mistake(primary=nn.LazyLinear(3)), "weight has no size yet; call the primary once on an input before"),
        (mistake(predictor=nn.Tanh()), "the number of features that Tanh emits is unknown; pass features="),
        (
            mistake(head=heads.LowRank(2)),
            r"LowRank\(rank=2\): a low-rank head predicts a change of the weights; pass d",
        ),
        (
            mistake(primary=Residual().eval(), route="reassociate"),
            "route='reassociate': Residual is no chain of known la",
        ),
        (
            mistake(memory_limit=1000),
            r"Linear\(\) from 3 features to 80 weights holds 0.0 MiB, above memory_limit=0.0 MiB; take LowRank\(",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_memory_limit_is_counted_before_anything_is_made():
    primary = nn.Linear(4096, 4096, device="meta")
    with pytest.raises(ValueError, match=r"16,781,312 weights holds 16,452\.0 MiB, above memory_limit=1,024\.0 MiB"):
        HyperNetwork(primary, nn.Linear(4, 256))


@pytest.mark.parametrize("route", ["materialise", "vmap", "loop"])
@pytest.mark.parametrize("head", [heads.Linear(), heads.LowRank(2)])
def test_memory_limit_of_the_weights_of_all_contexts(head, route):
    """A set of weights is 64 x 64 + 64 numbers, 16 KiB and a little: three sets fit into 50 KiB, four do not."""
    primary, predictor = nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(3, 2)
    hyper = HyperNetwork(primary, predictor, head=head, delta=True, route=route)
    hyper.memory_limit = 50 * 2**10
    x, context = torch.randn(4, 2, 64), torch.randn(4, 3)
    hyper(x[:3], context[:3], grouped=True)
    hyper(x, context[0])  # one context for all
    message = (
        r"weights of 4 contexts takes 0\.1 MiB or more, above memory_limit=0\.0 MiB; pass at most 3 contexts a call"
    )
    with pytest.raises(ValueError, match=message):
        hyper(x, context, grouped=True)
    with pytest.raises(ValueError, match=message):
        hyper.weights(context)
    # The way out that the message names.
    hyper.route = "reassociate"
    expected = torch.stack([hyper(one, c) for one, c in zip(x, context, strict=True)])
    torch.testing.assert_close(hyper(x, context, grouped=True), expected)


def test_memory_limit_of_a_convolution_that_cannot_be_reassociated():
    hyper = HyperNetwork(nn.Conv2d(4, 4, 3, groups=2), nn.Linear(3, 2), memory_limit=1500)
    hyper(torch.randn(4, 4, 5, 5), torch.randn(4, 3))
    with pytest.raises(ValueError, match="pass at most 4 contexts a call"):
        hyper(torch.randn(6, 4, 5, 5), torch.randn(6, 3))


@pytest.mark.parametrize("head", HEADS)
def test_a_head_holds_the_numbers_it_says(head):
    setting, delta = HEADS[head]
    if setting is not None:
        hyper = HyperNetwork(conv_net(), nn.Linear(4, 3), head=setting, delta=delta)
        said = setting.numbers(list(hyper.shapes.values()), 3, delta)
        assert sum(p.numel() for p in hyper.head.parameters()) == said


def test_bake_takes_one_context():
    with pytest.raises(ValueError, match=r"the predictor gave \(2, 3\), expected one context \(k\)"):
        HyperNetwork(mlp(), nn.Linear(4, 3)).bake(torch.randn(2, 4))


@pytest.mark.parametrize("x", [{"x": torch.zeros(3, 5)}, [torch.zeros(3, 5)], (torch.zeros(3, 5), None)])
def test_inputs_that_are_no_tensors(x):
    hyper = HyperNetwork(mlp(), nn.Linear(4, 3))
    with pytest.raises(
        TypeError, match=r"x is or holds a (dict|list|NoneType), expected a tensor or a tuple of tensor"
    ):
        hyper(x, torch.zeros(3, 4))


def test_settings_of_no_known_kind(unchecked_shapes):
    for head in ("linear", heads.Linear):
        with pytest.raises(TypeError, match=r"head=.*inear.*, expected a setting such as heads\.Linear\(\), or None"):
            HyperNetwork(mlp(), nn.Linear(4, 3), head=head)
    with pytest.raises(ValueError, match="route='fast', expected one of auto, materialise, reassociate, vmap, loop"):
        HyperNetwork(mlp(), nn.Linear(4, 3), route="fast")


def test_weights_of_another_network_or_one_context():
    hyper = HyperNetwork(mlp(), nn.Linear(4, 3))
    weights = hyper.weights(torch.zeros(3, 4))
    for wrong in ({"0.weight": weights["0.weight"]}, hyper.weights(torch.zeros(4))):
        with pytest.raises(ValueError, match=r"call_with: weights of shapes .*0\.weight.*expected \(B, \*shape\) of "):
            hyper.call_with(wrong, torch.zeros(3, 5))
