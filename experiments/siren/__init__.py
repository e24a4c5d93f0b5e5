"""Sine networks for many pictures: Sitzmann 2020, Mehta 2021."""
