"""Writes docs/table2.md from fastweights/zoo/table2.py: python docs/make_table2.py [--check]"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's package, installed or not

from fastweights.zoo.table2 import TABLE2, Row  # noqa: E402

TARGET = ROOT / "docs" / "table2.md"


def page() -> str:
    """Returns the Markdown page: the table as printed with the zoo's layers, then the disagreements."""
    parts = [
        "# Table 2: published layers as structure and axes\n",
        "The rows and ticks of Table 2 of [Müller 2024](references.bib), the layer of `fastweights.zoo` for each, and",
        "how it is built. *conv.*: contains convolutions; *local*: another weight at every pixel; *1 FFL*: a single",
        "feed-forward layer; *special*: a predictor of a special form (printed as specific NN^W).\n",
        "*Shifts* and *varies* are measured by `tests/test_table2.py` where a layer takes images: a shifted image has",
        "a shifted result; the predicted weight differs between pixels.\n",
        "<!-- Generated from fastweights/zoo/table2.py by `python docs/make_table2.py`. -->\n",
        "| model | conv. | local | 1 FFL | special | first application | layer | built as | shifts | varies |",
        "| --- | :-: | :-: | :-: | :-: | --- | --- | --- | :-: | :-: |",
        *(_row(row) for row in TABLE2),
        "\n## Where print, cited paper and published code disagree\n",
        *(f"- **{row.model}.** {note}" for row in TABLE2 for note in row.notes),
    ]
    return "\n".join(parts) + "\n"


def _row(row: Row) -> str:
    ticks = ["×" if tick else "" for tick in (row.conv, row.local, row.one_layer, row.special)]
    measured = [{True: "yes", False: "no", None: ""}[value] for value in (row.shifts, row.varies)]
    layer = built = ""
    if row.layer and row.structure and row.axes:
        layer = f"`{row.layer.__name__}`"
        built = f"{row.structure.__name__} on {row.axes.__name__}" + ("" if row.is_whole_layer else ", inside")
    return "| " + " | ".join([row.model, *ticks, row.application, layer, built, *measured]) + " |"


if __name__ == "__main__":
    from generated import main

    sys.exit(main(TARGET, page))
