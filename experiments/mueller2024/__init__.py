"""Müller, "Is Kernel Prediction More Powerful than Gating in Convolutional Neural Networks?", ICML 2024."""
