"""docs/hypernetworks.md runs as it stands, from top to bottom, and says what is so."""

import re
from pathlib import Path

from fastweights import heads

PAGE = (Path(__file__).parents[1] / "docs" / "hypernetworks.md").read_text(encoding="utf-8")


def test_the_page_runs(capsys):
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "docs/hypernetworks.md", "exec"), names)
    assert capsys.readouterr().out.startswith("alive: ")


def test_the_table_names_every_head():
    settings = [name for name in dir(heads) if name[0].isupper() and isinstance(getattr(heads, name), type)]
    ours = {name for name in settings if heads.HeadSetting in getattr(heads, name).__mro__[1:]}
    assert set(re.findall(r"`heads\.(\w+)\(", PAGE)) == ours


def test_the_page_on_conditioning_runs():
    page = (Path(__file__).parents[1] / "docs" / "which_conditioning.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/which_conditioning.md", "exec"), names)
    assert names["y"].shape == (64, 12)
