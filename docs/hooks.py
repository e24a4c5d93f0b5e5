"""What mkdocs does beyond its own: README as first page, gallery and API pages made from the code, files linked to.

A link that leaves docs/ (`../results/x.json`) leads to a copy of that file in the site. A public name without a
place in the site stops the build.
"""

import importlib
import inspect
import posixpath
import re
import sys
import zlib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import gallery  # noqa: E402
import public  # noqa: E402

from fastweights import zoo  # noqa: E402

COPIES = "repository"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the generated pages to the navigation."""
    layers = [{name: f"gallery/{name}.md"} for name in sorted(zoo.__all__, key=str.lower)]
    modules = [{name: f"api/{name}.md"} for name in (*public.core_modules(), *public.PACKAGES)]
    config.nav += [{"Gallery": [{"All layers": "gallery/index.md"}, *layers]}, {"API": modules}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, README as the first one, and copies of what pages link to outside of docs/."""
    pages = {"index.md": (ROOT / "README.md").read_text(encoding="utf-8"), "gallery/index.md": gallery.index()}
    pages |= {f"gallery/{name}.md": gallery.page(name) for name in zoo.__all__}
    for name in (*public.core_modules(), *public.PACKAGES):
        pages[f"api/{name}.md"] = f"# {name}\n\n::: {name}\n    options: {_options(name)}\n"
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for path, text in texts.items():
        for target in {_outside(path, match[2]) for match in LINK.finditer(text)} - {None}:
            copy = f"{COPIES}/{target}"
            if files.get_file_from_path(copy) is None and (ROOT / target).is_file():
                files.append(File.generated(config, copy, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Turns links out of docs/ into links to the copies, and README's links into docs/ into links beside it."""

    def moved(match: re.Match[str]) -> str:
        target = _outside(page.file.src_uri, match[2])
        if target is not None:
            here = posixpath.dirname(page.file.src_uri) or "."
            return match[1] + posixpath.relpath(f"{COPIES}/{target}", here) + match[4]
        found = match[2].removeprefix("docs/") if page.file.src_uri == "index.md" else match[2]
        return match[1] + found + (match[3] or "") + match[4]

    fences = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in fences)


def on_post_build(config: MkDocsConfig) -> None:
    """Fails if a public name has no place in the site."""
    packed = (Path(config.site_dir) / "objects.inv").read_bytes().split(b"\n", 4)[4]
    shown = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    missing = []
    for name in (*public.core_modules(), "fastweights.zoo", *public.PACKAGES):
        module = importlib.import_module(name)
        for public_name, value in public.public_names(module).items():
            if not inspect.ismodule(value) and f"{name}.{public_name}" not in shown:
                missing.append(f"{name}.{public_name}")
    if missing:
        raise PluginError(f"public names that no page of the site shows: {', '.join(missing)}")


def _outside(page: str, link: str) -> str | None:
    """Path from the repository's root of a link that leaves docs/; None for any other."""
    if "://" in link or link.startswith("mailto:"):
        return None
    if page == "index.md":  # README
        return None if link.startswith("docs/") else link
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") else path


def _options(name: str) -> str:
    """Pages of modules list what they define; a package shows what its `__all__` names."""
    names = public.public_names(importlib.import_module(name))
    members = [public_name for public_name, value in names.items() if not inspect.ismodule(value)]
    return f"{{members: [{', '.join(members)}], show_root_heading: false, show_root_toc_entry: false}}"
