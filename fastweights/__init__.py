"""Fast weights: network weights that are the output of another network.

`y = W(code) x`, `code = predictor(context)`: a structure says how a code becomes a weight, the axes say which axes of
x it mixes, and `PredictedWeight` is the one layer. `fastweights.zoo` holds published layers by name,
`fastweights.convert` turns one into another, `fastweights.burst` is the burst photo denoiser (extra `burst`).
"""

from fastweights import axes, codes, convert, convert_fm, cost, ops, structures, zoo
from fastweights.layer import PredictedWeight

__version__ = "0.1.0"
__all__ = ["PredictedWeight", "axes", "codes", "convert", "convert_fm", "cost", "ops", "structures", "zoo"]
