"""The documentation site: every public name documented, every layer in the gallery, every source in the bibliography.

`mkdocs build --strict` itself runs in .ci/run; what is tested here needs no mkdocs.
"""

import ast
import importlib
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from fastweights import zoo

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
gallery, public = importlib.import_module("gallery"), importlib.import_module("public")
CITED = re.compile(r"\b([A-ZÀ-Ž][\w'-]*[a-zà-ž][\w'-]*)(?:,? et al\.| and [A-Z][\w-]+)?,? \(?((?:19|20)\d{2})\b")


@pytest.mark.parametrize("name", [*public.core_modules(), "fastweights.zoo", *public.PACKAGES])
def test_everything_public_is_documented(name):
    for package, needed in (("fastweights.burst", "cv2"), ("fastweights.fm", "sklearn")):
        if name == package:
            pytest.importorskip(needed)
    assert public.undocumented(name) == []


def test_an_undocumented_name_is_found(monkeypatch):
    def silent(): ...

    class Half:
        """Said."""

        def unsaid(self): ...

    for name, value in (("silent", silent), ("Half", Half)):
        value.__module__ = "fastweights.cost"
        monkeypatch.setattr(f"fastweights.cost.{name}", value, raising=False)
    assert public.undocumented("fastweights.cost") == ["fastweights.cost.silent", "fastweights.cost.Half.unsaid"]


@pytest.mark.parametrize("name", zoo.__all__)
def test_every_layer_has_a_page_whose_lines_run(name):
    """Building a page runs its lines of use and checks its conversions on their inputs."""
    page = gallery.page(name)
    assert f"::: fastweights.zoo.{name}\n" in page
    (use,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert f"zoo.{name}" in use
    exec(compile(use, name, "exec"), {})
    value = getattr(zoo, name)
    if isinstance(value, type):
        assert f"```text\n{name}(" in page
        assert "Source: " in (value.__doc__ or "")


def test_conversions_are_as_the_library_says():
    conversions = {
        name: dict(gallery.conversions(gallery.use(name)))
        for name in ("HyperLinear", "FiLM", "LinearAttention", "DecomposableAttention", "FactorizationMachine")
    }
    assert conversions["HyperLinear"]["convert.layer(layer)"].startswith("15 gates")
    assert "equivalences.absorb(layer, after)" in conversions["FiLM"]
    assert "a predicted matrix" in conversions["LinearAttention"]["equivalences.fast_weight_layer(layer, channels)"]
    assert conversions["DecomposableAttention"]["convert.layer(layer)"].startswith("refused: ")
    assert "convert_fm.to_linear_hypernetwork(layer)" in conversions["FactorizationMachine"]


def test_docstrings_keep_their_characters():
    pytest.importorskip("griffe")
    shown = importlib.import_module("docstrings").as_markdown("x (*b, i) and `y_*`, i < j.\n\n>>> 1 + 1\n2\n\nEnd.")
    assert shown == "x (\\*b, i) and `y_*`, i &lt; j.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nEnd."


def test_the_index_lists_every_layer():
    links = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\)", gallery.index(), re.MULTILINE)
    assert sorted(zoo.__all__) == sorted(name for name, page in links if name == page)


def test_tables_of_results_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_results.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_navigation_names_every_page():
    named = set(re.findall(r"^ +- [^:]+: (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert named - {"index.md"} == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_every_source_is_in_the_bibliography():
    missing = {f"{name} {year}" for name, year in cited() if (plain(name), year) not in bibliography()}
    assert missing == set()


def cited():
    """(surname, year) of every source that a docstring of the package names; Müller 2024 is one."""
    found = set()
    for path in (ROOT / "fastweights").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found |= set(CITED.findall(ast.get_docstring(node) or ""))
    assert ("Müller", "2024") in found
    return found


def bibliography():
    """(surname, year) of every author."""
    known = set()
    for entry in (ROOT / "docs" / "references.bib").read_text(encoding="utf-8").split("\n@"):
        authors, year = re.search(r"author = \{(.*)\},\n", entry), re.search(r"year = \{(\d{4})\}", entry)
        assert authors, entry
        assert year, entry
        # A text's "de Silva" is found by its last word.
        known |= {(plain(author.split(",")[0]).split()[-1], year[1]) for author in authors[1].split(" and ")}
    return known


def plain(name):
    """Lower case without accents, written in TeX or in Unicode."""
    name = re.sub(r"\{\\\W?\{?\\?(\w)\}?\}", r"\1", name).replace("{", "").replace("}", "")
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
