"""The application: a noisy burst of photos in, one clean photo out (extra `burst`).

`denoise` does it all; `load` reads a burst first, where its values are linear light or only a part of it is wanted;
`load_weights` gives a network that ships with the package; `BurstError` is the one error that a user can cause.
Networks are in `models`, their training in `train`, made-up bursts in `synthesis`.
"""

from fastweights.burst.errors import BurstError
from fastweights.burst.frames import Burst, load
from fastweights.burst.pipeline import Result, denoise
from fastweights.burst.weights import available as available_weights
from fastweights.burst.weights import load as load_weights

__all__ = ["Burst", "BurstError", "Result", "available_weights", "denoise", "load", "load_weights"]
