"""What tables and pictures call the networks and methods of Table 1."""

import re

NETWORKS = {"kpn": "kernels (KPN)", "gated": "Gated-{0}", "basis": "a basis of {0} kernels, K = 15"}
FEW_FEATURES = "kernels from {0} features"
METHODS = {
    "align + BM3D": "align + mean + stabilised BM3D",
    "align + BM3D, spectrum": "align + mean + BM3D with the noise's spectrum",
}
# What is predicted, how many maps of it, by which filters, at which width, after how many steps, and how it is applied.
NAME = re.compile(r"(kpn|gated|basis)(?:-from-(\d+)|(?<!kpn)-(\d+))?(-1x1)?(-full)?(?:-(\d+))?(, .*)?")


def burst_name(name: str) -> str:
    """A network or method of Table 1 in words.

    >>> burst_name("kpn-from-64"), burst_name("kpn-3500"), burst_name("gated-128"), burst_name("kpn, 16 gates")
    ('kernels from 64 features', 'kernels (KPN), 3,500 steps', 'Gated-128', 'kernels (KPN), 16 gates')
    >>> burst_name("gated-64-1x1"), burst_name("gated-64-full")
    ('Gated-64, 1 x 1 behind the gates', 'Gated-64, full width')
    >>> burst_name("kpn-from-62-full-3500, as gates")
    'kernels from 62 features, full width, 3,500 steps, as gates'
    """
    if not (found := NAME.fullmatch(name)):
        return METHODS.get(name, name)
    kind, features, maps, tap, full, steps, rest = found.groups()
    words = FEW_FEATURES.format(features) if features else NETWORKS[kind].format(maps)
    words += ", 1 x 1 behind the gates" * bool(tap) + ", full width" * bool(full)
    return words + (f", {int(steps):,} steps" if steps else "") + (rest or "")
