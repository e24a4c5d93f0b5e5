"""The command `fastweights`: `info` in every installation, the burst denoiser's commands with the extra `burst`."""

import importlib.metadata
import os
import platform
import sys
import textwrap
import timeit
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

import fastweights

# Of the extra `burst`, by the names they are imported under.
_NEEDED: tuple[str, ...] = ("accelerate", "cv2", "cyclopts", "filelock", "imagecodecs", "joblib", "numpy", "PIL")
_NEEDED += ("rich", "safetensors", "tifffile", "torchmetrics")
_PACKAGES = ("torch", "jaxtyping", "numba", "numpy", "opencv-python-headless", "pillow", "safetensors", "accelerate")
_BURST_COMMANDS = ("convert", "demo", "denoise", "evaluate", "train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (by default the program's) and returns the exit status: 0, or 2 after a user's error.

    Example
    -------
    >>> main(["info"])  # doctest: +ELLIPSIS
    fastweights ...
    0
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        return _core_only(arguments, missing)
    # Torch asks for memory in huge pages, if told so before its first tensor: fewer page faults on Linux.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from fastweights.burst import commands

    return commands.run(arguments, info)


def info() -> None:
    """Show versions, the device, which fast paths run here, and the weights that ship.

    Example: fastweights info
    """
    rows = {
        "fastweights": fastweights.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(_version(name) for name in _PACKAGES),
        "device": _device(),
        "threads": f"{torch.get_num_threads()} of torch",
        "local_conv": _local_conv(),
        "bfloat16": _bfloat16(),
        "weights": ", ".join(_weights()) or "none ship with this installation",
    }
    for name, value in rows.items():
        print(textwrap.fill(value, 80, initial_indent=f"{name:<12}", subsequent_indent=" " * 12))


def _core_only(arguments: list[str], missing: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command == "info":
        if len(arguments) == 1:
            info()
        else:
            print((info.__doc__ or "").strip())
        return 0
    extra = f"the extra `burst`: pip install 'fastweights[burst]' (missing: {', '.join(missing)})"
    if command in _BURST_COMMANDS:
        print(f"error: `fastweights {command}` needs {extra}", file=sys.stderr)
        return 2
    if command in ("--help", "-h"):
        print(f"Usage: fastweights info\n\n{', '.join(_BURST_COMMANDS)} need {extra}")
        return 0
    if command == "--version":
        print(fastweights.__version__)
        return 0
    print(f"error: unknown command {command!r}: expected info, {', '.join(_BURST_COMMANDS)}", file=sys.stderr)
    return 2


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} -"


def _device() -> str:
    cpu = f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    return f"{torch.cuda.get_device_name()}, {cpu}" if torch.cuda.is_available() else cpu


def _local_conv() -> str:
    if find_spec("numba") is not None:
        return "loops compiled by numba on the cpu, plain torch elsewhere"
    return "plain torch in strips of rows; pip install 'fastweights[fast]' for compiled loops on the cpu"


def _bfloat16() -> str:
    """Measured rather than asked: what a processor can do and what a library makes of it are two things."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        picture = torch.zeros(1, 64, 128, 128, dtype=dtype).to(memory_format=torch.channels_last)
        kernels = torch.zeros(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
        times[dtype] = min(timeit.repeat(partial(torch.conv2d, picture, kernels), number=1, repeat=4))
    return f"convolutions on the cpu run at {times[torch.float32] / times[torch.bfloat16]:.1f} x the speed of float32"


def _weights() -> list[str]:
    folder = Path(fastweights.__file__).parent / "burst" / "weights"
    return sorted(path.stem for path in folder.glob("*.safetensors"))


if __name__ == "__main__":
    sys.exit(main())
