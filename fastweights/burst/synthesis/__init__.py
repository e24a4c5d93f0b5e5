"""Synthetic bursts: the paper's protocol and a camera's, every burst a pure function of (seed, number)."""

from fastweights.burst.synthesis import camera, paper, photos

__all__ = ["camera", "paper", "photos"]
