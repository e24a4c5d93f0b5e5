"""Which published layer converts into what, as data; docs/conversions.md and its tests follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastweights import zoo

Kind = Literal["exact", "certified", "measured", "already"]


@dataclass(frozen=True)
class Target:
    """A column: what a layer becomes, the call, and why the layers without an entry in it are refused."""

    name: str
    call: str
    refusal: str


GATES = Target(
    "gates",
    "convert.layer(layer)",
    "its weight is not linear in its code, or its size is that of the input; a module without a predicted weight has "
    "nothing to convert",
)
FEWER = Target(
    "fewer gates",
    "convert.model(layer, rank=r, inputs=real, weighted=True)",
    "as for gates; a gate without fixed layers on both sides has a number for each of its gates, and would lose it",
)
FIXED = Target(
    "gates, lengths fixed",
    "equivalences.at_fixed_size(layer, i, j)",
    "only a function of an outer product (Outer) has a size that could be fixed",
)
MATRIX = Target(
    "predicted matrix",
    "equivalences.fast_weight_layer(layer, channels)",
    "no matrix of fixed size holds a function of all scores (softmax, a causal decay); other layers have no scores",
)
ABSORBED = Target(
    "with the layer behind",
    "equivalences.absorb(gate, after)",
    "only a gate without fixed layers of its own takes in the next one",
)
BETWEEN = Target(
    "with the layers around",
    "split_gates.between(before, gate, after)",
    "only a gate of halves is fed by one layer alone",
)
LINEAR = Target(
    "linear hypernetwork",
    "convert_fm.to_linear_hypernetwork(layer)",
    "no construction is known: the layer is not bilinear in x and context",
)
MACHINE = Target("factorization machine", "convert_fm.to_factorization_machine(layer)", "as for linear hypernetwork")
INTERACTION = Target(
    "multiplicative interaction", "convert_fm.to_multiplicative_interaction(layer)", "as for linear hypernetwork"
)
FACTORS = Target(
    "matrix factorization", "convert_fm.to_matrix_factorization(machine, rows)", "it takes a machine on one-hot pairs"
)
TARGETS = (GATES, FEWER, FIXED, MATRIX, ABSORBED, BETWEEN, LINEAR, MACHINE, INTERACTION, FACTORS)


@dataclass(frozen=True)
class Source:
    """A row: a class of `fastweights.zoo`, and what its conversions are; a target without an entry is refused.

    notes: of a target, for what the word does not say.
    """

    layer: type
    conversions: dict[Target, Kind]
    notes: dict[Target, str]

    @property
    def name(self) -> str:
        """The class's name."""
        return self.layer.__name__


def _source(layer: type, conversions: dict[Target, Kind], **notes: str) -> Source:
    names = {
        "gates": GATES,
        "fewer": FEWER,
        "matrix": MATRIX,
        "machine": MACHINE,
        "linear": LINEAR,
        "absorbed": ABSORBED,
    }
    names |= {"interaction": INTERACTION, "factors": FACTORS, "fixed": FIXED, "between": BETWEEN}
    return Source(layer, conversions, {names[key]: note for key, note in notes.items()})


# A whole predicted weight: Theorem 3.1; below i j gates no bound holds for every code, and real ones may need few.
_DIRECT: dict[Target, Kind] = {GATES: "exact", FEWER: "measured"}
# Linear in its code, with fixed templates; those of gates between two fixed layers have rank one.
_MIXTURE: dict[Target, Kind] = {GATES: "exact", FEWER: "certified"}
_GATED: dict[Target, Kind] = {GATES: "already"}
_DOUBLE: dict[Target, Kind] = {GATES: "already", FEWER: "certified"}
_GATE: dict[Target, Kind] = {GATES: "already", ABSORBED: "exact"}

CONVERSIONS = (
    _source(zoo.HyperLinear, _DIRECT),
    _source(zoo.GatedDoubleLayer, _DOUBLE),
    _source(zoo.KernelPrediction, _DIRECT),
    _source(zoo.GatedKernelPrediction, _DOUBLE),
    _source(zoo.DynamicConvolution2015, _DIRECT),
    _source(zoo.DynamicFilter, _DIRECT),
    _source(zoo.DynamicFilterNetwork, _DIRECT),
    _source(
        zoo.SeparableConvolution, _DIRECT, gates="its pairs of kernels are multiplied out: K K gates for 2 K numbers"
    ),
    _source(zoo.DynamicAlignmentUnits, _DIRECT),
    _source(zoo.CoDANetwork, _DIRECT),
    _source(zoo.HDRNet, _DIRECT, gates="the grid is mapped, the slicing stays"),
    _source(zoo.StaticHyperConv2d, _DIRECT),
    _source(zoo.FastWeightsRNNCell, _DIRECT),
    _source(zoo.HyperLSTMCell, _GATED, gates="a gate for each row: a diagonal times W"),
    _source(zoo.CondConv, _MIXTURE),
    _source(
        zoo.MultiplicativeInteraction,
        {**_MIXTURE, LINEAR: "exact", MACHINE: "exact", INTERACTION: "already"},
        linear="with context = x",
        machine="of x and context joined",
    ),
    _source(
        zoo.LinearHypernetwork,
        {**_MIXTURE, LINEAR: "already", MACHINE: "exact", INTERACTION: "exact"},
        machine="with self-interactions; on binary x without; the rank is not preserved",
    ),
    _source(
        zoo.FactorizationMachine,
        {GATES: "exact", LINEAR: "exact", MACHINE: "already", INTERACTION: "exact", FACTORS: "exact"},
        gates="by way of the linear hypernetwork",
        linear="at full rank for all x, at the machine's rank on binary x",
        interaction="with context = x",
        factors="on one-hot pairs",
    ),
    _source(
        zoo.MatrixFactorization,
        {GATES: "exact", LINEAR: "exact", MACHINE: "exact", INTERACTION: "exact", FACTORS: "already"},
        gates="by way of the linear hypernetwork",
        linear="on joined one-hot pairs",
        machine="on joined one-hot pairs",
        interaction="row and column one-hot",
    ),
    _source(zoo.Gating, _GATE),
    _source(zoo.SqueezeExcitation, _GATE),
    _source(zoo.SimplifiedChannelAttention, _GATE),
    _source(zoo.FiLM, _GATE, absorbed="1 x 1: the shift passes through it"),
    _source(zoo.ModulatedSiren, _GATE, absorbed="each of its gates"),
    _source(zoo.SimpleGate, {**_GATE, BETWEEN: "exact"}),
    _source(zoo.SpatialGatingUnit, {**_GATE, BETWEEN: "exact"}),
    _source(zoo.NAFBlock, _GATED),
    _source(zoo.BasisPrediction, {FIXED: "exact"}),
    _source(zoo.DecomposableAttention, {FIXED: "exact"}),
    _source(zoo.MultiHeadAttention, {FIXED: "exact"}, fixed="for every head"),
    _source(zoo.AdditiveAttention, {}),
    _source(zoo.LinearAttention, {FIXED: "exact", MATRIX: "exact"}),
    _source(zoo.FastWeightMemory, {FIXED: "exact"}),
)
