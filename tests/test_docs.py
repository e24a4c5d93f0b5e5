"""What the Markdown files say is so: links and pictures exist, README's code runs, its tree names what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("number", range(len(CODE)))
def test_readme_code_runs(number, tmp_path, monkeypatch):
    if "burst" in CODE[number]:
        pytest.importorskip("cv2", reason="the denoiser needs the extra 'burst'")
        _write_burst(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    exec(compile(CODE[number], "README.md", "exec"), {})


def test_readme_tree_names_what_is_there():
    tree = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert tree, "README.md lost its tree"
    missing, parents = [], []
    for line in tree.group(1).splitlines():
        name = line.split("#")[0].rstrip()
        depth = (len(name) - len(name.lstrip())) // 2
        for entry in name.split():
            path = "/".join([*parents[:depth], entry.rstrip("/")])
            missing += [] if (ROOT / path).exists() else [path]
        parents[depth:] = [name.split()[0].rstrip("/")]
    assert missing == []


def _write_burst(folder):
    import numpy as np
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    scene = np.linspace(40, 200, 96 * 128 * 3).reshape(96, 128, 3)
    for t in range(4):
        frame = (scene + random.normal(0, 8, scene.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(frame).save(folder / f"{t}.png")
