"""`diagnose` finds hypernetworks that were planted dead, and does not cry wolf."""

import pytest
import torch
from torch import nn

from fastweights import HyperNetwork, diagnose, heads, init

X, CONTEXT = (16, 5), (16, 7)


def primary():
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))


def look(hyper):
    return diagnose(hyper, torch.randn(X), torch.randn(CONTEXT))


def test_alive():
    hyper = HyperNetwork(primary(), nn.Linear(7, 3))
    found = look(hyper)
    assert found.verdict == "alive"
    assert found.predictor_reached == found.head_reached == 1
    for tensor in found.tensors:
        assert 0.01 < tensor.variation < 2
        assert 1 < tensor.effective_rank <= 3  # three features make at most three directions
    assert len(str(found).splitlines()) == 4 + 4


def test_variation_distance_and_rank_by_hand():
    hyper = HyperNetwork(nn.Linear(2, 2, bias=False), nn.Identity(), features=1)
    structure = hyper.head.structures[0]
    with torch.no_grad():
        structure.base.copy_(torch.eye(2))
        structure.templates.copy_(torch.ones(1, 2, 2))
    found = diagnose(hyper, torch.randn(2, 2), torch.tensor([[1.0], [-1.0]]))
    (tensor,) = found.tensors
    # I + 1 and I - 1: mean I, difference of size 1 in every entry; mean square (4 + 1 + 1 + 4 + 0 + 1 + 1 + 0) / 8.
    assert tensor.variation == pytest.approx(1 / (12 / 8) ** 0.5)
    assert tensor.distance == pytest.approx(1 / 0.5**0.5)
    assert tensor.effective_rank == pytest.approx(1)


def test_zero_head_that_wakes_up_is_asleep_then_alive():
    hyper = HyperNetwork(primary(), nn.Linear(7, 3))
    init.bias_hyperinit(hyper, primary())
    found = look(hyper)
    assert found.verdict == "asleep"
    assert found.predictor_gradient == 0 < found.head_gradient
    hyper(torch.randn(X), torch.randn(CONTEXT)).square().mean().backward()
    torch.optim.SGD(hyper.parameters(), 0.1).step()
    assert look(hyper).verdict == "alive"


def test_zero_initialised_low_rank_is_dead():
    hyper = HyperNetwork(primary(), nn.Linear(7, 3), "*weight", head=heads.LowRank(2), delta=True)
    assert look(hyper).verdict == "asleep"  # only B is zero, as it should be
    for coder in hyper.head.coders:
        nn.init.zeros_(coder.a.weight)
        nn.init.zeros_(coder.a.bias)
    found = look(hyper)
    assert found.verdict == "dead"
    assert found.head_gradient == found.predictor_gradient == found.head_reached == 0
    assert str(found).startswith("dead: no gradient can make the weights depend on the context")


def test_zero_initialised_last_layer_leaves_all_but_the_last_bias_dead():
    predictor = nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 66))
    hyper = HyperNetwork(primary(), predictor, head=None)
    assert look(hyper).verdict == "alive"
    nn.init.zeros_(predictor[-1].weight)
    nn.init.zeros_(predictor[-1].bias)
    found = look(hyper)
    assert [tensor.name for tensor in found.tensors if tensor.dead] == ["0.weight", "0.bias", "2.weight"]
    assert found.predictor_reached == 0.5  # the first layer gets nothing


def test_features_that_no_context_moves_are_dead():
    predictor = nn.Sequential(nn.Linear(7, 3), nn.ReLU())
    nn.init.constant_(predictor[0].bias, -100.0)
    found = look(HyperNetwork(primary(), predictor))
    assert found.verdict == "dead"
    assert found.head_gradient > 0  # the bases learn, as an ordinary network


def test_nothing_to_train_is_not_alive():
    assert look(HyperNetwork(primary(), nn.Linear(7, 3)).requires_grad_(False)).verdict == "asleep"


def test_the_model_is_left_as_it_is_and_needs_no_gradients_on():
    hyper = HyperNetwork(primary(), nn.Linear(7, 3))
    before = {name: value.clone() for name, value in hyper.state_dict().items()}
    with torch.no_grad():
        assert look(hyper).verdict == "alive"
    assert all(torch.equal(value, before[name]) for name, value in hyper.state_dict().items())
    assert all(parameter.grad is None for parameter in hyper.parameters())


def test_mistakes():
    with pytest.raises(TypeError, match=r"diagnose: Linear given, expected a fastweights\.HyperNetwork"):
        diagnose(nn.Linear(5, 2), torch.randn(X), torch.randn(CONTEXT))
    for context in (torch.randn(7), torch.randn(1, 7)):
        with pytest.raises(ValueError, match="one context given, expected a batch of at least two"):
            diagnose(HyperNetwork(primary(), nn.Linear(7, 3)), torch.randn(1, 5), context)
    broken = HyperNetwork(primary(), nn.Linear(7, 3))
    nn.init.constant_(broken.head.structures[2].templates, float("nan"))
    with pytest.raises(ValueError, match=r"diagnose: NaN or infinite numbers in the predicted 2\.weight$"):
        look(broken)
