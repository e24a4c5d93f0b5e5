"""What every result file says besides its figures: command, commit, machine; written whole or not at all."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def write(path: Path, content: dict[str, Any]) -> None:
    """A result file, under a temporary name first."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    head = {
        # Names of folders are this machine's affair.
        "command": "python -m " + " ".join([_module(), *(Path(word).name for word in sys.argv[1:])]),
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(head | content, indent=1) + "\n")
    temporary.replace(path)


def once(path: Path, cell: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part of a long run found: from its file, or by running it and writing the file, with its seconds."""
    if not path.exists():
        start, cpu = time.perf_counter(), time.process_time()
        found = cell()
        found["seconds"] = {"wall": round(time.perf_counter() - start), "cpu": round(time.process_time() - cpu)}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found))
        temporary.replace(path)
    return dict(json.loads(path.read_text()))


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).stem
