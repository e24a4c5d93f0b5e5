"""Hot tensor functions: in each file the reference first, the fast ways below it."""

from fastweights.ops.local_conv import local_conv

__all__ = ["local_conv"]
