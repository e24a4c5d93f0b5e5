"""What tables and pictures call the networks and methods of Table 1."""

import re

NETWORKS = {"kpn": "kernels (KPN)", "gated": "Gated-{0}", "basis": "a basis of {0} kernels, K = 15"}
METHODS = {
    "align + BM3D": "align + mean + stabilised BM3D",
    "align + BM3D, spectrum": "align + mean + BM3D with the noise's spectrum",
}


def burst_name(name: str) -> str:
    """A network or method of Table 1 in words.

    >>> burst_name("kpn-from-64"), burst_name("kpn-3500"), burst_name("gated-128"), burst_name("kpn, 16 gates")
    ('kernels from 64 features', 'kernels (KPN), 3,500 steps', 'Gated-128', 'kernels (KPN), 16 gates')
    """
    if found := re.fullmatch(r"kpn-from-(\d+)(.*)", name):
        return f"kernels from {found[1]} features{found[2]}"
    if found := re.fullmatch(r"(kpn|gated|basis)(?:-(\d+))?(?:-(\d+))?(, .*)?", name):
        kind, first, second, rest = found.groups()
        steps = first if kind == "kpn" else second
        words = NETWORKS[kind].format(first) + (f", {int(steps):,} steps" if steps else "")
        return words + (rest or "")
    return METHODS.get(name, name)
