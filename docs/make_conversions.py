"""Writes docs/conversions.md from fastweights/conversions.py: python docs/make_conversions.py [--check]"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's package, installed or not

from fastweights.conversions import CONVERSIONS, TARGETS, Source  # noqa: E402

DOCUMENT = ROOT / "docs" / "conversions.md"


def page() -> str:
    """Returns the Markdown page: the matrix, the calls with their refusals, the notes."""
    notes = [note for source in CONVERSIONS for note in source.notes.values()]
    numbered = {note: number for number, note in enumerate(dict.fromkeys(notes), 1)}
    parts = [
        "# Conversions: which published layer becomes what\n",
        "A row is a layer of `zoo`, a column what it may become; calls are below. *exact*: the same product for all",
        "inputs, up to rounding. *certified*: truncated, with a bound on the weight's error that holds for every code.",
        "*measured*: truncated by real codes, with the error on these; the bound is no better than the weight itself.",
        "*is*: the layer has this form already. *–*: refused with a `TypeError`, for the reason below.",
        "`tests/test_conversions.py` performs every cell in float64.\n",
        "<!-- Generated from fastweights/conversions.py by `python docs/make_conversions.py`. -->\n",
        "| from \\ to | " + " | ".join(target.name for target in TARGETS) + " |",
        "| --- |" + " :-: |" * len(TARGETS),
        *(_row(source, numbered) for source in CONVERSIONS),
        "",
        *(f"{number}. {note}" for note, number in numbered.items()),
        "\n## The calls, and what they refuse\n",
        "| to | call | refused where |",
        "| --- | --- | --- |",
        *(f"| {target.name} | `{target.call}` | {target.refusal} |" for target in TARGETS),
        "\n`convert.model(network)` converts every layer inside a network to gates, `convert.kernel_head(conv, frames,",
        "kernel_size)` the last convolution of a kernel prediction network written without this library, and",
        "`fastweights convert` a burst denoiser's file. `NAFBlock` and other cells convert by their parts. Conversions",
        "chain: whatever becomes a linear hypernetwork or a multiplicative interaction becomes gates.",
    ]
    return "\n".join(parts) + "\n"


def _row(source: Source, numbered: dict[str, int]) -> str:
    cells = []
    for target in TARGETS:
        kind = source.conversions.get(target)
        note = source.notes.get(target)
        word = {None: "–", "already": "is"}.get(kind, kind)
        cells.append(f"{word}{'' if note is None else f' ({numbered[note]})'}")
    return f"| `{source.name}` | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    from generated import main

    sys.exit(main(DOCUMENT, page))
