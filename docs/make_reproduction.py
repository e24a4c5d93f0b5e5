"""Writes docs/reproduction.md from docs/claims.toml: python docs/make_reproduction.py [--check]"""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

DOCS = Path(__file__).parent
PAPERS = {
    "mueller2024": "Müller 2024: Is Kernel Prediction More Powerful than Gating in Convolutional Neural Networks?",
    "galanti2020": "Galanti and Wolf 2020: On the Modularity of Hypernetworks",
}
PICTURES = {
    "mueller2024": {
        "Fig. 3 (a), (b)": "fig3_random",
        "Fig. 3 (c), (d)": "fig3_cifar",
        "Table 1": "table1_burst",
        "memory": "memory",
        "kernels as gates": "fold",
        "gates that attention needs": "attention_gates",
        "learning of factorization machines": "fm_dynamics",
        "SIRENs": "siren_photos",
    },
    "galanti2020": {
        "figures": "galanti2020",
        "of the appendix": "galanti2020_appendix",
        "Assumption 2": "galanti2020_assumption2",
        "sizes at equal error": "galanti2020_gap",
    },
}
VERDICTS = {
    "holds": "shown by the evidence named",
    "partly": "shown under a condition, or in part; the note says which",
    "fails": "contradicted; the note says by what",
    "not reproduced": "tried, with a result that neither confirms nor contradicts",
    "not testable": "no run in reach can decide it; the note says why",
    "definition": "nothing to prove: the code is the paper's definition, and a test compares them",
    "open": "no evidence yet",
}


def read_claims(path: Path = DOCS / "claims.toml") -> list[dict]:
    """Returns the rows of claims.toml, in the order of the file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))["claim"]


def page(claims: list[dict]) -> str:
    """Returns the Markdown page: a count of verdicts, then a table for each paper."""
    parts = [
        "# Reproduction\n",
        "What two papers claim, and what this repository shows of it: every equation, definition, theorem, figure,",
        "table row and checkable claim of the text, in our words and in the papers' order. Letters are explained in",
        "[notation](notation.md), references in [references.bib](references.bib). Commands run from the root;",
        "those on real images and ratings read [a folder of data](data.md).\n",
        "<!-- Generated from claims.toml by `python docs/make_reproduction.py`; edit claims.toml. -->\n",
        _counts(claims),
    ]
    for paper, title in PAPERS.items():
        rows = [claim for claim in claims if claim["id"].startswith(f"{paper}.")]
        pictures = ", ".join(f"[{what}](images/{name}.png)" for what, name in PICTURES[paper].items())
        parts += [f"\n## {title}\n", f"Pictures: {pictures}.\n"]
        parts += ["| claim | what it says | verdict | evidence |", "| --- | --- | --- | --- |"]
        parts += [_row(claim) for claim in rows]
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Returns plain text as Markdown that shows the same characters in a table cell.

    >>> print(escape("|k|_1 < n_l, 2 * 3 * 4"))
    \|k\|\_1 &lt; n_l, 2 \* 3 \* 4
    """
    text = re.sub(r"([\\|*~$\[\]`])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    # An underscore inside a word starts no emphasis and reads better as it is.
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _counts(claims: list[dict]) -> str:
    names = {paper: title.split(":")[0] for paper, title in PAPERS.items()}
    counts = Counter((claim["id"].split(".")[0], claim["verdict"]) for claim in claims)
    lines = [f"| verdict | {' | '.join(names.values())} | meaning |", "| --- |" + " ---: |" * len(names) + " --- |"]
    for verdict, meaning in VERDICTS.items():
        lines.append(f"| {verdict} | {' | '.join(str(counts[paper, verdict]) for paper in names)} | {meaning} |")
    return "\n".join(lines)


def _row(claim: dict) -> str:
    name = claim["id"].split(".", 1)[1]
    statement = escape(claim["statement"])
    for label, field in (("Misprint or gap", "misprint"), ("Found", "note")):
        if claim.get(field):
            statement += f"<br>*{label}:* {escape(claim[field])}"
    evidence = [
        f"{field}: " + ", ".join(f"`{named}`" for named in claim[field].split(", "))
        for field in ("code", "test", "results")
        if claim[field]
    ]
    if claim["command"]:
        # Inside a code span a bar would still end the cell.
        evidence.append("command: `" + claim["command"].replace("|", r"\|") + "`")
    return f"| `{name}`<br>{escape(claim['source'])} | {statement} | {claim['verdict']} | {'<br>'.join(evidence)} |"


if __name__ == "__main__":
    from generated import main

    sys.exit(main(DOCS / "reproduction.md", lambda: page(read_claims())))
