"""Plain docstrings as Markdown that shows the same characters: a griffe extension for the site (see mkdocs.yml)."""

import re
from typing import Any

from griffe import Extension, Object


class PlainDocstrings(Extension):
    """Fences examples that start with `>>>`, and escapes what Markdown would take for emphasis or HTML."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called by griffe for everything it finds."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""A docstring as Markdown.

    >>> print(as_markdown("x (*b, i) and `y_*`, i < j.\n\n>>> 1 + 1\n2"))
    x (\*b, i) and `y_*`, i &lt; j.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    text = re.sub(r"^Examples?\n-+\n", "", text, flags=re.MULTILINE)
    blocks = re.split(r"((?:^ *>>> .*\n?(?:^(?! *$).*\n?)*)+)", text, flags=re.MULTILINE)
    return "".join(_fenced(block) if number % 2 else _escaped(block) for number, block in enumerate(blocks))


def _fenced(block: str) -> str:
    indent = " " * (len(block) - len(block.lstrip(" ")))
    return f"{indent}```pycon\n{block.rstrip()}\n{indent}```\n"


def _escaped(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", text)
    for number in range(0, len(parts), 2):
        part = re.sub(r"([*\[\]])", r"\\\1", parts[number]).replace("<", "&lt;")
        parts[number] = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", part)
    return "".join(parts)
