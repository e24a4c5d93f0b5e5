"""Structures: dense weight against product, whichever order of contraction is cheaper, and bad sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastweights.structures import Direct, Gated, Mixture, Outer, weight_times_x

small = st.integers(1, 5)


def build(kind, i, j, k):
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64)  # noqa: E731
    return {
        "direct": lambda: Direct(i, j),
        "mixture": lambda: Mixture(draw(k, j, i), draw(j, i)),
        "mixture without base": lambda: Mixture(draw(k, j, i)),
        "gated": lambda: Gated(draw(j, k), draw(k, i)),
        "gated rows": lambda: Gated(None, draw(j, i)),
        "gated columns": lambda: Gated(draw(j, i), None),
        "gated diagonal": lambda: Gated(None, None, gates=i),
    }[kind]()


KINDS = ["direct", "mixture", "mixture without base", "gated", "gated rows", "gated columns", "gated diagonal"]


@pytest.mark.parametrize("kind", KINDS)
@given(
    i=small,
    j=small,
    k=st.integers(1, 40),
    lead=st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (1, 3, 1)]),
    rows=small,
)
def test_product_is_the_dense_weight_times_x(kind, i, j, k, lead, rows):
    torch.manual_seed(i + 7 * j + 49 * k)
    structure = build(kind, i, j, k)
    code = torch.randn(*lead, structure.code_features, dtype=torch.float64)
    weight = structure.materialize(code)
    assert weight.shape == (*lead, structure.out_features, structure.in_features)
    # The same leading shape, and x with more positions than codes: both orders of contraction are met.
    for shape in (lead, torch.broadcast_shapes(lead, (rows,)) if lead in ((), (1,)) else (4, *lead)):
        x = torch.randn(*shape, structure.in_features, dtype=torch.float64)
        expected = (weight * x.unsqueeze(-2)).sum(-1)
        torch.testing.assert_close(structure(code, x), expected)


@given(i=small, j=small, r=small, rows=small)
def test_outer_product_with_and_without_a_function(i, j, r, rows):
    torch.manual_seed(i + 7 * j + 49 * r)
    code = (torch.randn(2, 1, j * r, dtype=torch.float64), torch.randn(2, 1, i * r, dtype=torch.float64))
    x = torch.randn(2, rows, i, dtype=torch.float64)
    for f in (None, torch.tanh):
        outer = Outer(r, f)
        weight = outer.materialize(code)
        scores = torch.stack([p.view(j, r) @ q.view(i, r).T for p, q in zip(code[0][:, 0], code[1][:, 0], strict=True)])
        torch.testing.assert_close(weight[:, 0], scores if f is None else scores.tanh())
        torch.testing.assert_close(outer(code, x), (weight * x.unsqueeze(-2)).sum(-1))


def test_broadcast_positions_become_one_product():
    weight, x = torch.randn(2, 1, 1, 3, 4), torch.randn(2, 5, 6, 4)
    torch.testing.assert_close(weight_times_x(weight, x), (weight * x.unsqueeze(-2)).sum(-1))
    torch.testing.assert_close(weight_times_x(weight[0, 0, 0], x), (weight[:1] * x.unsqueeze(-2)).sum(-1))


def test_parameters_train_and_plain_tensors_are_buffers():
    templates = torch.nn.Parameter(torch.zeros(2, 3, 4))
    mixture = Mixture(templates, torch.zeros(3, 4))
    assert [name for name, _ in mixture.named_parameters()] == ["templates"]
    assert [name for name, _ in mixture.named_buffers()] == ["base"]


@pytest.mark.parametrize("kind", KINDS)
def test_low_precision_codes_do_not_round_the_weight(kind):
    torch.manual_seed(0)
    structure = build(kind, 4, 4, 4).float()
    code, x = torch.randn(3, structure.code_features), torch.randn(3, 4)
    low = code.bfloat16()
    y = structure(low, x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, structure(low.float(), x))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_sizes_are_one_sentence(kind):
    structure = build(kind, 3, 2, 5) if kind != "gated diagonal" else build(kind, 3, 3, 3)
    with pytest.raises(ValueError, match=f"expected {structure.code_features} numbers"):
        structure(torch.zeros(structure.code_features + 1), torch.zeros(structure.in_features))
    with pytest.raises(ValueError, match=f"expected {structure.in_features} numbers"):
        structure(torch.zeros(structure.code_features), torch.zeros(structure.in_features + 1))


def test_wrong_templates_and_ranks():
    with pytest.raises(ValueError, match=r"expected \(k, j, i\)"):
        Mixture(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"expected \(3, 4\)"):
        Mixture(torch.zeros(2, 3, 4), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="multiple of the rank"):
        Outer(2).materialize((torch.zeros(3), torch.zeros(4)))
    with pytest.raises(ValueError, match=r"shape \(0, 3, 4\), expected .* at least 1"):
        Mixture(torch.zeros(0, 3, 4))
    with pytest.raises(ValueError, match="u None, v None, gates 0: expected at least 1"):
        Gated(None, None, gates=0)
    with pytest.raises(ValueError, match=r"u \(3, 0\), v \(0, 2\), gates None: expected at least 1"):
        Gated(torch.zeros(3, 0), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="do not agree"):
        Gated(None, None)
