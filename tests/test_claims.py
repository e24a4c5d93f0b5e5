"""docs/claims.toml is complete, names only what exists, and docs/reproduction.md follows from it."""

import ast
import doctest
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIRED = ("id", "source", "statement", "code", "test", "command", "results", "verdict")
OPTIONAL = ("misprint", "note")
VERDICTS = ("open", "definition", "holds", "partly", "fails", "not reproduced", "not testable")
EXPLAINED = ("partly", "fails", "not reproduced", "not testable")

MUELLER = [
    *[f"eq{number}" for number in range(1, 28)],
    *["theorem3.1", "corollary3.2", "theorem3.3"],
    *["fig1", "fig2", "fig3a", "fig3b", "fig3c", "fig3d", "fig4", "fig5", "fig6"],
    *["table1", "table1.single-frame", "table1.kpn", "table1.gated128", "table1.gated64"],
    *["table2", "table2.hypernetwork", "table2.dynamic-convolution", "table2.dynamic-alignment"],
    *["table2.dynamic-filter", "table2.adaptive-convolution", "table2.hdrnet", "table2.condconv"],
    *["table2.squeeze-and-excitation", "table2.fm", "table2.mha"],
]
GALANTI = [
    *[f"eq{number}" for number in range(1, 6)],
    *[f"theorem{number}" for number in range(1, 6)],
    *["assumption1", "assumption2", "definition1", "lemma1", "lemma3", "lemma17", "lemma18", "lemma19"],
    *["definition.modularity", "definition.embedding-method", "definition.hypernetwork", "definition.neural-process"],
    *["definition.complexity", "definition.spectral-complexity", "definition.sobolev", "definition.projected-features"],
    "definition.degree",
    *["fig1a", "fig1b", "fig2.cifar10", "fig2.mnist", "fig2.uniform", "fig3a", "fig3b"],
    *["appendix1.1.type1", "appendix1.1.type2", "appendix1.1.type3", "appendix1.2.rotation-embedding"],
    *["appendix1.3.colorization", "appendix1.4.learning-rate", "appendix1.5.mnist", "appendix1.5.fashion-mnist"],
]
EXPECTED = {f"mueller2024.{name}" for name in MUELLER} | {f"galanti2020.{name}" for name in GALANTI}


def problems(claim: dict, root: Path = ROOT) -> list[str]:
    """What is wrong with one row, a sentence each; nothing is imported and no command is run."""
    unknown = sorted(set(claim) - {*REQUIRED, *OPTIONAL})
    wrong = [f"unknown field {name}" for name in unknown]
    known = [name for name in (*REQUIRED, *OPTIONAL) if name in REQUIRED or name in claim]
    wrong += [f"{name} is no string" for name in known if not isinstance(claim.get(name), str)]
    if wrong:
        return wrong
    if not re.fullmatch(r"(mueller2024|galanti2020)(\.[a-z0-9]+(-[a-z0-9]+)*)+", claim["id"]):
        wrong.append(f"id {claim['id']!r} is not paper.name in lower case")
    wrong += [f"{name} is empty" for name in ("source", "statement", *OPTIONAL) if not claim.get(name, "-").strip()]
    if claim["verdict"] not in VERDICTS:
        wrong.append(f"verdict {claim['verdict']!r} is none of {', '.join(VERDICTS)}")
    elif claim["verdict"] != "open":
        shown = (claim["code"] and claim["test"]) or (claim["command"].strip() and claim["results"])
        if not shown and claim["verdict"] != "not testable":
            wrong.append(f"verdict {claim['verdict']!r} needs code and test, or command and results")
        if claim["verdict"] in EXPLAINED and "note" not in claim:
            wrong.append(f"verdict {claim['verdict']!r} needs a note")
    for name, exists in (("code", is_code), ("test", is_test), ("results", is_json)):
        named = claim[name].split(", ") if claim[name] else []
        wrong += [f"{name} {one!r} does not exist" for one in named if not exists(one, root)]
    return wrong + [f"command names {one!r}, which does not exist" for one in missing_in(claim["command"], root)]


def is_code(name: str, root: Path) -> bool:
    """Whether "package.module:Name" or "package.module:Name.attribute" is defined or imported there."""
    module, _, qualified = name.partition(":")
    path = module_path(module, root)
    return bool(qualified) and path is not None and defines(path, qualified.split("."))


def is_test(name: str, root: Path) -> bool:
    """Whether "tests/file.py::test_name" or "tests/file.py::TestName::test_name" is there."""
    file, _, qualified = name.partition("::")
    parts = qualified.split("::")
    path = root / file
    return file.startswith("tests/") and parts[-1].startswith("test_") and path.is_file() and defines(path, parts)


def is_json(name: str, root: Path) -> bool:
    if not name.endswith(".json") or not (root / name).is_file():
        return False
    try:
        json.loads((root / name).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def missing_in(command: str, root: Path) -> list[str]:
    """The Python files and this repository's modules that a command names and that are not there."""
    words = shlex.split(command)
    files = [file for file in (word.split("::")[0] for word in words) if file.endswith(".py")]
    modules = [after for before, after in itertools.pairwise(words) if before == "-m"]
    ours = [name for name in modules if (root / name.split(".")[0]).is_dir()]
    return [file for file in files if not (root / file).is_file()] + [one for one in ours if not module_path(one, root)]


def module_path(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py", base / "__main__.py")
    return next((path for path in candidates if path.is_file()), None)


def defines(path: Path, parts: list[str]) -> bool:
    """Whether a file defines (or, at top level, imports) a name, and that name the next part."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for depth, part in enumerate(parts):
        found = [node for node in body if part in names_of(node)]
        if not found:
            return False
        # Attributes of what is imported or assigned are beyond the file; only a class is looked into.
        body = getattr(found[-1], "body", [])
        if depth + 1 < len(parts) and not isinstance(found[-1], ast.ClassDef):
            return False
    return True


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.ImportFrom(names=names) | ast.Import(names=names):
            return [alias.asname or alias.name for alias in names]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPRODUCTION = load(ROOT / "docs" / "make_reproduction.py")
CLAIMS = REPRODUCTION.read_claims()


def test_every_row_is_sound():
    assert {claim.get("id"): wrong for claim in CLAIMS if (wrong := problems(claim))} == {}


def test_ids_are_unique():
    ids = [claim["id"] for claim in CLAIMS]
    assert sorted({one for one in ids if ids.count(one) > 1}) == []


def test_no_row_is_missing():
    assert sorted(EXPECTED - {claim["id"] for claim in CLAIMS}) == []


def test_statements_differ():
    statements = [claim["statement"] for claim in CLAIMS]
    assert {one for one in statements if statements.count(one) > 1} == set()


GOOD = {
    "id": "mueller2024.theorem3.1",
    "source": "Sec. 3.1",
    "statement": "A statement.",
    "code": "pack.module:Layer.weight, pack:Layer",
    "test": "tests/test_it.py::test_one, tests/test_it.py::TestGroup::test_two",
    "command": "python -m pack.module --seed 0",
    "results": "results/it.json",
    "verdict": "holds",
}


@pytest.fixture
def repository(tmp_path):
    files = {
        "pack/__init__.py": "from pack.module import Layer\n",
        "pack/module.py": "class Layer:\n    def weight(self):\n        pass\n",
        "tests/test_it.py": "def test_one():\n    pass\n\nclass TestGroup:\n    def test_two(self):\n        pass\n",
        "results/it.json": '{"psnr": 1.0}',
        "results/broken.json": '{"psnr": ',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_good_rows_pass(repository):
    blank = dict.fromkeys(("code", "test", "command", "results"), "")
    assert problems(GOOD, repository) == []
    assert problems(GOOD | blank | {"verdict": "open"}, repository) == []
    assert problems(GOOD | {"command": "", "results": "", "verdict": "definition"}, repository) == []
    assert problems(GOOD | {"code": "", "test": "", "verdict": "partly", "note": "For even n."}, repository) == []
    assert problems(GOOD | blank | {"verdict": "not testable", "note": "An infimum over all n."}, repository) == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": "mueller2024.Theorem 3.1"},
        {"id": "someone2019.theorem1"},
        {"statement": " "},
        {"misprint": ""},
        {"verdict": "true"},
        {"verdict": "fails"},  # without a note
        {"verdict": "not testable"},
        {"verdict": 1},
        {"remark": "a field nobody reads"},
        {"code": "", "command": ""},
        {"test": "", "results": ""},
        {"code": "pack.module"},
        {"code": "pack.module:Missing"},
        {"code": "pack.module:Layer.missing"},
        {"code": "pack.missing:Layer"},
        {"code": "pack.missing:Layer", "verdict": "open"},
        {"test": "tests/test_it.py::test_three"},
        {"test": "tests/test_it.py::test_two"},  # only inside the class
        {"test": "tests/test_missing.py::test_one"},
        {"test": "tests/test_it.py"},
        {"results": "results/missing.json"},
        {"results": "results/broken.json"},
        {"command": "python experiments/missing.py"},
        {"command": "python -m pack.missing"},
        {"command": "pytest tests/test_missing.py::test_one"},
    ],
    ids=str,
)
def test_bad_rows_are_found(repository, change):
    assert problems(GOOD | change, repository) != []


@pytest.mark.parametrize("field", REQUIRED)
def test_missing_fields_are_found(repository, field):
    row = {name: text for name, text in GOOD.items() if name != field}
    assert problems(row, repository) == [f"{field} is no string"]


def test_reproduction_page_is_up_to_date():
    command = [sys.executable, str(ROOT / "docs" / "make_reproduction.py"), "--check"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_page_shows_every_row():
    text = REPRODUCTION.page(CLAIMS)
    assert [claim["id"] for claim in CLAIMS if f"| `{claim['id'].split('.', 1)[1]}`<br>" not in text] == []


def test_page_follows_the_evidence():
    found = {"code": "pack:A, pack:B", "command": "python a.py | tee b", "verdict": "partly", "note": "Only if x | y."}
    found |= {"test": "", "results": ""}
    text = REPRODUCTION.page([CLAIMS[0] | found, *CLAIMS[1:]])
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{CLAIMS[0]['id'].split('.', 1)[1]}`<br>")]
    assert row.count(" | ") == 3
    assert row.endswith("| partly | code: `pack:A`, `pack:B`<br>command: `python a.py \\| tee b` |")
    assert "<br>*Found:* Only if x \\| y. |" in row
    for claims in (CLAIMS, [CLAIMS[0] | found, *CLAIMS[1:]]):
        partly = [claim["id"].split(".")[0] for claim in claims if claim["verdict"] == "partly"]
        line = f"| partly | {partly.count('mueller2024')} | {partly.count('galanti2020')} |"
        assert line in REPRODUCTION.page(claims)


def test_example_in_the_page_maker_runs():
    assert doctest.testmod(REPRODUCTION).failed == 0


def test_verdicts_are_explained_on_the_page():
    assert set(REPRODUCTION.VERDICTS) == set(VERDICTS)


def test_bibliography_is_sound():
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@(\w+)\{([a-z]+\d{4}[a-z]?),\n(.*?)\n\}$", text, re.MULTILINE | re.DOTALL)
    keys = [key for _, key, _ in entries]
    assert len(keys) == text.count("\n@") + text.startswith("@") == len(set(keys))
    for kind, key, body in entries:
        fields = set(re.findall(r"^  (\w+) = \{.*\},?$", body, re.MULTILINE))
        place = {"article": "journal", "inproceedings": "booktitle"}.get(kind)
        assert {"author", "title", "year", *([place] if place else [])} <= fields, key
        assert body.count("{") == body.count("}"), key
    assert {claim["id"].split(".")[0] for claim in CLAIMS} <= set(keys)
