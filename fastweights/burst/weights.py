"""Trained networks as files: safetensors with settings and model card inside, and the ones the package ships."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fastweights.burst import models
from fastweights.burst.errors import BurstError
from fastweights.burst.models import ModelConfig

# Shipped networks, each NAME.safetensors beside its model card NAME.md.
FOLDER = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
_CONFIG, _CARD = "config", "card"


def available() -> list[str]:
    """Names of the networks that the package ships, sorted.

    Example
    -------
    >>> isinstance(available(), list)
    True
    """
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def save_weights(path: str | os.PathLike[str], model: nn.Module, config: ModelConfig, card: dict[str, Any]) -> Path:
    """Write a network, its settings and its card (anything JSON holds) to one .safetensors file, atomically.

    Raises BurstError for another suffix, a folder that does not exist, and where the disk refuses.

    Example
    -------
    >>> import tempfile
    >>> config = ModelConfig(width=8, post=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_weights(f"{folder}/small.safetensors", models.build(config), config, {"steps": 0})
    ...     load(path).config == config, card(path)
    (True, {'steps': 0})
    """
    check_output(path)
    path = Path(path)
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}
    metadata = {_CONFIG: json.dumps(dataclasses.asdict(config)), _CARD: json.dumps(card)}
    draft = path.with_name(f".{path.name}.draft")
    try:
        # Not save_file: it leaves the file unreadable for other users.
        draft.write_bytes(save(tensors, metadata))
        os.replace(draft, path)
    except OSError as error:
        raise BurstError(f"cannot write weights to {str(path)!r}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def check_output(path: str | os.PathLike[str]) -> None:
    """Raises BurstError now for a name that `save_weights` would refuse.

    Example
    -------
    >>> check_output("network.pt")
    Traceback (most recent call last):
    fastweights.burst.errors.BurstError: cannot write weights to 'network.pt': the name must end in .safetensors
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BurstError(f"cannot write weights to {str(path)!r}: the name must end in {SUFFIX}")
    if not path.parent.is_dir():
        raise BurstError(f"cannot write weights to {str(path)!r}: there is no folder {str(path.parent)!r}, make it")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise BurstError(f"cannot write weights to {str(path)!r}: it is a folder, or stands in one that is read-only")


def load(name_or_path: str | os.PathLike[str]) -> models.Denoiser:
    """The network of a shipped name (see `available`) or of a .safetensors file, in eval mode, on the CPU.

    Raises BurstError for a name that is not shipped, a missing file, a file that `save_weights` did not write, and
    weights that are not finite.

    Example
    -------
    >>> load("no such network")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    fastweights.burst.errors.BurstError: no weights named 'no such network': ...
    """
    path = find(name_or_path)
    metadata, tensors = _read(path)
    try:
        config = ModelConfig(**json.loads(metadata[_CONFIG]))
        # The fresh weights are overwritten: the caller's generator shall not notice.
        with torch.random.fork_rng(devices=[]):
            model = models.build(config)
        model.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        # Torch names the tensors below a headline.
        reason = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise BurstError(
            f"the weights in {str(path)!r} do not fit this version of fastweights ({reason}): train them again or "
            "use the version that wrote them"
        ) from error
    return model.eval()


def card(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The model card of a network as `save_weights` got it: data, settings of the training, figures.

    Raises BurstError as `load` does.
    """
    metadata, _ = _read(find(name_or_path))
    try:
        return dict(json.loads(metadata[_CARD]))
    except (TypeError, ValueError) as error:
        raise BurstError(
            f"the model card in {str(name_or_path)!r} is no JSON object ({error}): copy the file again"
        ) from error


def checksum(name_or_path: str | os.PathLike[str]) -> str:
    """The first 12 digits of the file's SHA-256, which tell two trainings apart; BurstError as `find`."""
    return hashlib.sha256(find(name_or_path).read_bytes()).hexdigest()[:12]


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a shipped name, or the path itself if it ends in .safetensors.

    Raises BurstError if there is no such name or file.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX:
        if not path.is_file():
            raise BurstError(f"no weights file at {str(path)!r}: give an existing file or one of {_names()}")
        return path
    if str(name_or_path) not in available():
        raise BurstError(
            f"no weights named {str(name_or_path)!r}: give one of {_names()}, or the path of a {SUFFIX} file"
        )
    return FOLDER / f"{name_or_path}{SUFFIX}"


def _names() -> str:
    return ", ".join(available()) or "(none ship with this installation)"


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise BurstError(f"{str(path)!r} is not a readable safetensors file ({error}): copy it again") from error
    if not {_CONFIG, _CARD} <= metadata.keys():
        raise BurstError(f"{str(path)!r} holds no fastweights network: expected a file written by save_weights")
    spoilt = next((name for name, value in tensors.items() if not value.isfinite().all()), None)
    if spoilt is not None:
        raise BurstError(
            f"the weights in {str(path)!r} are not finite ({spoilt}): train them again or copy the file again"
        )
    return metadata, tensors
