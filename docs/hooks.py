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
FROM_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the generated pages to the navigation."""
    layers = [{name: f"gallery/{name}.md"} for name in sorted(zoo.__all__, key=str.lower)]
    modules = [{name: f"api/{name}.md"} for name in (*public.core_modules(), *public.PACKAGES)]
    config.nav += [
        {"Gallery": [{"All layers": "gallery/index.md"}, *layers]},
        {"API": modules},
        {"Project": [{"Contributing": "contributing.md"}, {"Changelog": "changelog.md"}]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, README and its like, and copies of what pages link to outside of docs/."""
    pages = {page: (ROOT / name).read_text(encoding="utf-8") for page, name in FROM_ROOT.items()}
    pages["gallery/index.md"] = gallery.index()
    pages |= {f"gallery/{name}.md": gallery.page(name) for name in zoo.__all__}
    pages |= {f"api/{name}.md": _api(name) for name in (*public.core_modules(), *public.PACKAGES)}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    for path, text in {file.src_uri: file.content_string for file in files.documentation_pages()}.items():
        for match in LINK.finditer(text):
            target = _target(path, match[2])
            if target and target.startswith(COPIES) and files.get_file_from_path(target) is None:
                source = ROOT / target.removeprefix(f"{COPIES}/")
                files.append(File.generated(config, target, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Makes links between the repository's files links between the site's."""

    def moved(match: re.Match[str]) -> str:
        target = _target(page.file.src_uri, match[2])
        if target is None:
            return match[0]
        here = posixpath.dirname(page.file.src_uri) or "."
        return match[1] + posixpath.relpath(target, here) + (match[3] or "") + match[4]

    fences = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in fences)


def on_post_build(config: MkDocsConfig) -> None:
    """Fails if a public name has no place in the site."""
    packed = (Path(config.site_dir) / "objects.inv").read_bytes().split(b"\n", 4)[4]
    shown = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    missing = []
    for name in (*public.core_modules(), "fastweights.zoo", *public.PACKAGES):
        for public_name, value in public.public_names(importlib.import_module(name)).items():
            full = f"{name}.{public_name}"
            if not inspect.ismodule(value) and not {full, _home(value, full)} & shown:
                missing.append(full)
    if missing:
        raise PluginError(f"public names that no page of the site shows: {', '.join(missing)}")


def _target(page: str, link: str) -> str | None:
    """Where in the site a page's relative link leads, as a path from its root; None if there is nothing to change."""
    if "://" in link or link.startswith("mailto:") or page.startswith(("api/", "gallery/")):
        return None
    path = posixpath.normpath(link if page in FROM_ROOT else posixpath.join("docs", posixpath.dirname(page), link))
    for site, root in FROM_ROOT.items():
        if path == root:
            return site
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{COPIES}/{path}" if (ROOT / path).is_file() else None


def _home(value: Any, name: str) -> str:
    """Where a class or function was defined; of a constant the name that it has here."""
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else name


def _api(name: str) -> str:
    """A module's page: what it defines; a package's: what `__all__` names, wherever it is defined."""
    module = importlib.import_module(name)
    named = {key: value for key, value in public.public_names(module).items() if not inspect.ismodule(value)}
    head = "show_root_heading: true, show_root_full_path: true, heading_level: 1"
    if not hasattr(module, "__all__"):
        return f"::: {name}\n    options: {{{head}, members: [{', '.join(named)}]}}\n"
    text = [f"::: {name}\n    options: {{{head}, members: false}}\n"]
    if name == "fastweights":  # they have pages of their own
        text += [f"- [`{key}`][{_home(value, f'{name}.{key}')}]" for key, value in named.items()]
    else:
        text += [f"::: {_home(value, f'{name}.{key}')}\n" for key, value in named.items()]
    return "\n".join(text) + "\n"
