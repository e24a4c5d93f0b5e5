"""Which parameters of a primary network are predicted, by their names, and what is put in their places."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn


def matching(primary: nn.Module, patterns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The names of every parameter that a pattern matches; a tied one has several."""
    names: dict[nn.Parameter, tuple[str, ...]] = {}
    for name, parameter in primary.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(f"HyperNetwork: {name} has no size yet; call the primary once on an input before")
        names[parameter] = (*names.get(parameter, ()), name)
    if not names:
        raise ValueError(f"HyperNetwork: {type(primary).__name__} has no parameters to predict")
    if not patterns:
        raise ValueError("HyperNetwork: predict is empty, expected patterns of names; '*' is all")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for aliases in names.values() for name in aliases):
            known = ", ".join(aliases[0] for aliases in names.values())
            raise ValueError(f"HyperNetwork: predict={pattern!r} matches no parameter; there are {known}")
    chosen = [
        aliases
        for aliases in names.values()
        if any(fnmatchcase(name, pattern) for name in aliases for pattern in patterns)
    ]
    for parameter, aliases in names.items():
        if aliases in chosen and not parameter.is_floating_point():
            raise ValueError(
                f"HyperNetwork: {aliases[0]} is {parameter.dtype}, expected real numbers; leave it out of predict="
            )
    return chosen


def put(primary: nn.Module, names: Iterable[str], parameter: nn.Parameter | None) -> None:
    """Registers a parameter, or its absence, under all its names."""
    for name in names:
        module, _, leaf = name.rpartition(".")
        primary.get_submodule(module).register_parameter(leaf, parameter)
