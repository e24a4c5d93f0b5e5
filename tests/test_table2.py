"""Table 2: the ticks as printed, the layers as built, and the properties that behaviour shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastweights import PredictedWeight, zoo
from fastweights.zoo.table2 import TABLE2

ROOT = Path(__file__).parents[1]
SMALL = {
    zoo.LinearHypernetwork: lambda: zoo.LinearHypernetwork(3, 2),
    zoo.HyperLinear: lambda: zoo.HyperLinear(5, 3),
    zoo.DynamicConvolution2015: lambda: zoo.DynamicConvolution2015(1, 2, 3),
    zoo.DynamicAlignmentUnits: lambda: zoo.DynamicAlignmentUnits(1, 2, 3, 2),
    zoo.DynamicFilter: lambda: zoo.DynamicFilter(3),
    zoo.SeparableConvolution: lambda: zoo.SeparableConvolution(1, 3),
    zoo.HDRNet: lambda: zoo.HDRNet(16, 4, 2),
    zoo.CondConv: lambda: zoo.CondConv(1, 2, 3),
    zoo.SqueezeExcitation: lambda: zoo.SqueezeExcitation(1, 1),
    zoo.MultiHeadAttention: lambda: zoo.MultiHeadAttention(6, 3),
}
BUILT = [row for row in TABLE2 if row.layer is not None]
ON_IMAGES = [row for row in BUILT if row.shifts is not None]


def named(row):
    return row.model


def test_the_ticks_as_printed():
    printed = """
    HyperNetwork . . . .
    Dynamic convolution x . . .
    Dynamic alignment network x . . .
    Dynamic filter network x x . .
    Adaptive convolution x x x .
    HDRNet x x x x
    CondConv x . . x
    Squeeze-and-excitation x . . x
    Factorization machine . . x x
    Multi-head attention . . . x
    """
    lines = [line.split() for line in printed.strip().splitlines()]
    expected = {" ".join(words[:-4]): tuple(word == "x" for word in words[-4:]) for words in lines}
    assert {row.model: (row.conv, row.local, row.one_layer, row.special) for row in TABLE2} == expected


@pytest.mark.parametrize("row", BUILT, ids=named)
def test_the_layer_is_built_as_the_row_says(row):
    layer = SMALL[row.layer]()
    assert isinstance(layer, PredictedWeight) == row.is_whole_layer
    (part,) = (m for m in layer.modules() if isinstance(m, PredictedWeight))
    assert isinstance(part.structure, row.structure)
    assert isinstance(part.axes, row.axes)


def image_and_layer(row):
    """A picture in the middle of black, so that borders play no part, and a layer with generic parameters."""
    torch.manual_seed(0)
    layer = SMALL[row.layer]().double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    channels = 3 if row.layer is zoo.HDRNet else 1
    image = torch.zeros(1, channels, 24, 24, dtype=torch.float64)
    image[..., 9:14, 8:13] = torch.rand(1, channels, 5, 5)
    return layer, image


@pytest.mark.parametrize("row", ON_IMAGES, ids=named)
def test_shifting_the_image_shifts_the_result_where_the_row_says_so(row):
    layer, image = image_and_layer(row)
    moved = layer(image.roll((2, 3), (-2, -1)))
    expected = layer(image).roll((2, 3), (-2, -1))
    inside = (..., slice(6, 20), slice(6, 20))
    difference = (moved - expected)[inside].abs().max()
    assert expected[inside].abs().max() > 1e-3
    assert (difference < 1e-12) == row.shifts
    if not row.shifts:
        assert difference > 1e-6


@pytest.mark.parametrize("row", ON_IMAGES, ids=named)
def test_the_weight_depends_on_the_position_where_the_row_says_so(row):
    layer, image = image_and_layer(row)
    weight = layer.weight(image)
    on_pixels = weight.shape[1:3] == image.shape[-2:]
    varies = on_pixels and not torch.allclose(weight[:, 10, 10], weight[:, 12, 11])
    assert varies == row.varies


def test_disagreements_are_found_by_behaviour_and_noted():
    """Rows whose ticks and behaviour differ: each has a note; there are two."""
    differ = {row.model for row in ON_IMAGES if row.conv != row.shifts or row.local != row.varies}
    assert differ == {"HDRNet", "Dynamic alignment network"}
    assert all(row.notes for row in ON_IMAGES if row.model in differ)


def test_papers_are_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), re.M))
    assert {paper for row in TABLE2 for paper in row.papers} <= keys


def test_the_page_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_table2.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
