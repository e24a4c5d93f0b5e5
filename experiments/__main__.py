"""All claims that a command here speaks to, with verdict and command: `python -m experiments`."""

import itertools
import os
import sys
import textwrap
import tomllib
from pathlib import Path

CLAIMS = Path(__file__).parent.parent / "docs" / "claims.toml"


def main() -> None:
    """Print each command with its claims."""
    claims = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))["claim"]
    spoken = sorted((claim for claim in claims if claim["command"]), key=lambda claim: claim["command"])
    for command, group in itertools.groupby(spoken, key=lambda claim: claim["command"]):
        print(command)
        for claim in group:
            said = f"{claim['verdict']}: {claim['statement']} ({claim['id']})"
            print(textwrap.fill(said, 110, initial_indent="  - ", subsequent_indent="    "))
    unsettled = sum(claim["verdict"] == "open" for claim in claims)
    print(f"{len(claims)} claims, {unsettled} open; all of them with their evidence: docs/reproduction.md")


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
