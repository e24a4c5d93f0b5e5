"""Galanti and Wolf, "On the Modularity of Hypernetworks", NeurIPS 2020.

Letters as in the paper (docs/notation.md): a hypernetwork is g(x; f(I)), the embedding method q([x; e(I)]); their
figures go by k, the number of layers of f and e, and by i, which e's outputs (and f's width) are multiples of.
"""
