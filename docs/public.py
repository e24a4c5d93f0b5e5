"""The public names of fastweights, module by module: what the site shows and what has to be documented."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import fastweights

# How routes are run and counted, what conversions calculate with; nothing that a user calls.
INTERNAL = {
    "fastweights.bilinear_terms",
    "fastweights.__main__",
    "fastweights.head_modules",
    "fastweights.network_products",
    "fastweights.network_calls",
    "fastweights.network_names",
    "fastweights.network_routes",
}
# They need extras; their face is `__all__` of the package.
PACKAGES = ("fastweights.burst", "fastweights.fm")


def core_modules() -> list[str]:
    """The modules of the core, sorted; a new one is public unless it is named as internal above."""
    every = {info.name for info in pkgutil.iter_modules(fastweights.__path__, "fastweights.")}
    return ["fastweights", *sorted(every - INTERNAL - {*PACKAGES, "fastweights.zoo"}), "fastweights.zoo.interop"]


def public_names(module: ModuleType) -> dict[str, object]:
    """What a module offers: its `__all__`, or every class and function defined in it without an underscore."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def undocumented(name: str) -> list[str]:
    """Public names of a module, and methods of its classes, without a docstring.

    An overridden method has its base's; a module's `forward` is described by its class.
    """
    module = importlib.import_module(name)
    missing = [] if module.__doc__ else [name]
    for public, value in public_names(module).items():
        if inspect.isclass(value):
            missing += [] if vars(value).get("__doc__") else [f"{name}.{public}"]
            missing += [f"{name}.{public}.{method}" for method in _methods(value) if not _described(value, method)]
        elif inspect.isfunction(value) and not value.__doc__:
            missing.append(f"{name}.{public}")
    return missing


def _methods(value: type) -> list[str]:
    named = {name: member for name, member in vars(value).items() if not name.startswith("_") and name != "forward"}
    return [name for name, member in named.items() if inspect.isroutine(member) or isinstance(member, property)]


def _described(value: type, method: str) -> bool:
    return bool(inspect.getdoc(getattr(value, method)))
