"""Galanti and Wolf, "On the Modularity of Hypernetworks", NeurIPS 2020."""
