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
from fastweights.zoo.linear_hypernetwork import LinearHypernetwork
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
        model="HyperNetwork",
        papers=("schmidhuber1992", "ha2016"),
        conv=False,
        local=False,
        one_layer=False,
        special=False,
        application="time series",
        layer=HyperLinear,
        structure=Direct,
        axes=Channels,
        shifts=None,
        varies=None,
        notes=(
            "Ha et al. predict whole kernels only in their static form, for images; the recurrent one for time series "
            "scales rows (`HyperLSTMCell`, Gated).",
        ),
    ),
    Row(
        model="Dynamic convolution",
        papers=("klein2015",),
        conv=True,
        local=False,
        one_layer=False,
        special=False,
        application="image enhancement",
        layer=DynamicConvolution2015,
        structure=Direct,
        axes=Patches,
        shifts=True,
        varies=False,
        notes=(
            "Klein et al. predict weather images, which is no enhancement.",
            "Eq. 21 has one four-dimensional kernel; Klein et al. predict a vertical and a horizontal one, applied in "
            "turn (`separable=True`).",
        ),
    ),
    Row(
        model="Dynamic alignment network",
        papers=("boehle2021",),
        conv=True,
        local=False,
        one_layer=False,
        special=False,
        application="image classification",
        layer=DynamicAlignmentUnits,
        structure=Direct,
        axes=Patches,
        shifts=True,
        varies=True,
        notes=(
            "Not ticked as local, but in paper and published code every position computes its own weight from its own "
            "patch.",
        ),
    ),
    Row(
        model="Dynamic filter network",
        papers=("jia2016",),
        conv=True,
        local=True,
        one_layer=False,
        special=False,
        application="image enhancement",
        layer=DynamicFilter,
        structure=Direct,
        axes=Patches,
        shifts=True,
        varies=True,
        notes=(
            "Jia et al. predict frames of video and stereo views.",
            "Eq. 22 is attributed to a network with channel attention; it is of Jia et al. Their filter is shared by "
            "the channels, and they have a variant with one filter an image (`local=False`).",
        ),
    ),
    Row(
        model="Adaptive convolution",
        papers=("niklaus2017",),
        conv=True,
        local=True,
        one_layer=True,
        special=False,
        application="video enhancement",
        layer=SeparableConvolution,
        structure=Direct,
        axes=Patches,
        shifts=True,
        varies=True,
        notes=(
            "The predictor is not ticked as special, but emits pairs of one-dimensional kernels; the same authors' "
            "earlier network of that name emits whole kernels (`KernelPrediction`).",
        ),
    ),
    Row(
        model="HDRNet",
        papers=("gharbi2017",),
        conv=True,
        local=True,
        one_layer=True,
        special=True,
        application="image enhancement",
        layer=HDRNet,
        structure=Direct,
        axes=Channels,
        shifts=False,
        varies=True,
        notes=(
            "Ticked as convolutional, but not equivariant to shifts: the grid is fixed to the image's frame and the "
            "predictor has fully connected layers over positions.",
            "Eq. 24 has no constant term; the published matrix is 3 x 4.",
        ),
    ),
    Row(
        model="CondConv",
        papers=("yang2019",),
        conv=True,
        local=False,
        one_layer=False,
        special=True,
        application="image classification",
        layer=CondConv,
        structure=Mixture,
        axes=Patches,
        shifts=True,
        varies=False,
        notes=("Eq. 27 has no biases; in published code each expert has one (`bias=True`).",),
    ),
    Row(
        model="Squeeze-and-excitation",
        papers=("hu2018",),
        conv=True,
        local=False,
        one_layer=False,
        special=True,
        application="image classification",
        layer=SqueezeExcitation,
        structure=Gated,
        axes=Channels,
        shifts=True,
        varies=False,
        notes=(
            "Eq. 25 counts the convolution behind the gate as part of the layer; the published block ends with the "
            "gate (`equivalences.absorb` joins the two).",
        ),
    ),
    Row(
        model="Factorization machine",
        papers=("rendle2010",),
        conv=False,
        local=False,
        one_layer=True,
        special=True,
        application="recommendation",
        layer=LinearHypernetwork,
        structure=Mixture,
        axes=Channels,
        shifts=None,
        varies=None,
        notes=(
            "The layer is Eq. 8, of which a factorization machine is a case (Theorem 3.3, `convert_fm`); the machine "
            "itself, by sums, is `FactorizationMachine`.",
        ),
    ),
    Row(
        model="Multi-head attention",
        papers=("vaswani2017",),
        conv=False,
        local=False,
        one_layer=False,
        special=True,
        application="natural language processing",
        layer=MultiHeadAttention,
        structure=Outer,
        axes=Sequence,
        shifts=None,
        varies=None,
        notes=(
            "Eq. 18 calls the score matrix rank 1; it has at most the rank of the inner dimension, and any rank after "
            "the softmax.",
        ),
    ),
)
