"""Table 2 of Müller 2024 as data: its rows, the zoo's layer for each, and where print and published code disagree."""

from __future__ import annotations

from dataclasses import dataclass

from fastweights.axes import Axes, Channels, Patches, Sequence
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct, Gated, Mixture, Outer, Structure
from fastweights.zoo.attention import MultiHeadAttention
from fastweights.zoo.cond_conv import CondConv
from fastweights.zoo.dynamic_alignment import DynamicAlignmentUnits
from fastweights.zoo.dynamic_convolution import DynamicConvolution2015
from fastweights.zoo.dynamic_filter import DynamicFilter
from fastweights.zoo.hdrnet import HDRNet
from fastweights.zoo.hyper_linear import HyperLinear
from fastweights.zoo.separable_convolution import SeparableConvolution
from fastweights.zoo.squeeze_excitation import SqueezeExcitation


@dataclass(frozen=True)
class Row:
    """One row, with the ticks as printed.

    Args:
        model, papers: as printed; `papers` are keys of docs/references.bib.
        conv: contains convolution layers.
        local: another weight at every pixel.
        one_layer: a single feed-forward layer ("1 FFL").
        special: a predictor of a special form ("specific NN^W").
        application: the initial one, as printed.
        layer: the zoo's class; None where it has none yet.
        structure, axes: its decomposition.
        shifts: what the layer does when its image is shifted: True, the same shift; False, something else; None, it
            takes no images. Measured by the tests, as `varies`: another weight at every pixel.
        notes: where the print, the paper it cites and its published code disagree, a sentence each.
    """

    model: str
    papers: tuple[str, ...]
    conv: bool
    local: bool
    one_layer: bool
    special: bool
    application: str
    layer: type | None
    structure: type[Structure] | None
    axes: type[Axes] | None
    shifts: bool | None
    varies: bool | None
    notes: tuple[str, ...] = ()

    @property
    def is_whole_layer(self) -> bool:
        """Whether the class is one predicted weight, and not a cell around one."""
        return self.layer is not None and issubclass(self.layer, PredictedWeight)


TABLE2 = (
    Row(
        "HyperNetwork",
        ("schmidhuber1992", "ha2016"),
        *(False, False, False, False),
        "time series",
        *(HyperLinear, Direct, Channels, None, None),
        notes=(
            "Ha et al. predict whole kernels only in their static form, for images; the recurrent one for time series "
            "scales rows (`HyperLSTMCell`, Gated).",
        ),
    ),
    Row(
        "Dynamic convolution",
        ("klein2015",),
        *(True, False, False, False),
        "image enhancement",
        *(DynamicConvolution2015, Direct, Patches, True, False),
        notes=(
            "Klein et al. predict weather images, which is no enhancement.",
            "Eq. 21 has one four-dimensional kernel; Klein et al. predict a vertical and a horizontal one, applied in "
            "turn (`separable=True`).",
        ),
    ),
    Row(
        "Dynamic alignment network",
        ("boehle2021",),
        *(True, False, False, False),
        "image classification",
        *(DynamicAlignmentUnits, Direct, Patches, True, True),
        notes=(
            "Not ticked as local, but in paper and published code every position computes its own weight from its own "
            "patch.",
        ),
    ),
    Row(
        "Dynamic filter network",
        ("jia2016",),
        *(True, True, False, False),
        "image enhancement",
        *(DynamicFilter, Direct, Patches, True, True),
        notes=(
            "Jia et al. predict frames of video and stereo views.",
            "Eq. 22 is attributed to a network with channel attention; it is of Jia et al. Their filter is shared by "
            "the channels, and they have a variant with one filter an image (`local=False`).",
        ),
    ),
    Row(
        "Adaptive convolution",
        ("niklaus2017",),
        *(True, True, True, False),
        "video enhancement",
        *(SeparableConvolution, Direct, Patches, True, True),
        notes=(
            "The predictor is not ticked as special, but emits pairs of one-dimensional kernels; the same authors' "
            "earlier network of that name emits whole kernels (`KernelPrediction`).",
        ),
    ),
    Row(
        "HDRNet",
        ("gharbi2017",),
        *(True, True, True, True),
        "image enhancement",
        *(HDRNet, Direct, Channels, False, True),
        notes=(
            "Ticked as convolutional, but not equivariant to shifts: the grid is fixed to the image's frame and the "
            "predictor has fully connected layers over positions.",
            "Eq. 24 has no constant term; the published matrix is 3 x 4.",
        ),
    ),
    Row(
        "CondConv",
        ("yang2019",),
        *(True, False, False, True),
        "image classification",
        *(CondConv, Mixture, Patches, True, False),
        notes=("Eq. 27 has no biases; in published code each expert has one (`bias=True`).",),
    ),
    Row(
        "Squeeze-and-excitation",
        ("hu2018",),
        *(True, False, False, True),
        "image classification",
        *(SqueezeExcitation, Gated, Channels, True, False),
        notes=(
            "Eq. 25 counts the convolution behind the gate as part of the layer; the published block ends with the "
            "gate (`equivalences.absorb` joins the two).",
        ),
    ),
    Row(
        "Factorization machine",
        ("rendle2010",),
        *(False, False, True, True),
        "recommendation",
        *(None, None, None, None, None),
    ),
    Row(
        "Multi-head attention",
        ("vaswani2017",),
        *(False, False, False, True),
        "natural language processing",
        *(MultiHeadAttention, Outer, Sequence, None, None),
        notes=(
            "Eq. 18 calls the score matrix rank 1; it has at most the rank of the inner dimension, and any rank after "
            "the softmax.",
        ),
    ),
)
