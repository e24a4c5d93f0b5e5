"""Experiments with the burst denoiser: no paper claims them, users ask for them."""
