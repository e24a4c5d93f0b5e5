"""A page that a script makes: written, or with --check compared with what was written."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def main(target: Path, page: Callable[[], str]) -> int:
    """Writes the page, or with --check says whether the written page is up to date (exit 1 if not)."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    check, text = parser.parse_args().check, page()
    if not check:
        target.write_text(text, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != text:
        print(f"docs/{target.name} is out of date; run: python docs/{Path(sys.argv[0]).name}", file=sys.stderr)
        return 1
    return 0
