"""Checkpoints that a kill cannot spoil: safetensors + JSON, in a folder that appears complete or not at all."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

KEPT = 2
_NAME = re.compile(r"step-(\d{9})")
_TENSORS = "tensors.safetensors"
_META = "meta.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What `load_latest` found: the step, the caller's meta data, every tensor by its name on disk."""

    step: int
    meta: dict[str, Any]
    tensors: dict[str, Tensor]
    groups: list[dict[str, Any]]

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: nn.Module | None = None) -> None:
        """Copy the saved tensors into the model, the optimizer and the averaged model, exactly.

        A module that does not fit the tensors: RuntimeError, from `nn.Module.load_state_dict`.
        """
        model.load_state_dict(self._under("model/"))
        if ema is not None:
            ema.load_state_dict(self._under("ema/"))
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self._under("optimizer/").items():
            index, _, key = name.partition("/")
            like = parameters[int(index)]
            # The layout in memory (channels_last) belongs to the parameter: in another, sums may run in another order.
            if value.shape == like.shape:
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[key] = value
        # JSON knows lists only; torch's betas are a tuple.
        groups = [group | {"betas": tuple(group["betas"])} if "betas" in group else group for group in self.groups]
        optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _under(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def save(
    folder: str | os.PathLike[str],
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    meta: dict[str, Any],
    ema: nn.Module | None = None,
) -> Path:
    """Write FOLDER/step-NNNNNNNNN/{tensors.safetensors, meta.json} and keep the last two such folders.

    Tensors are named model/NAME, ema/NAME and optimizer/INDEX/KEY; meta is anything JSON holds. Both files reach the
    disk under another name before the rename, so that a kill at any time leaves this checkpoint or the one before.

    Example
    -------
    >>> import tempfile
    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(folder, 7, model, optimizer, {"loss": 0.5})
    ...     found = load_latest(folder)
    >>> path.name, found.step, found.meta
    ('step-000000007', 7, {'loss': 0.5})
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:09d}"
    draft = folder / f".{target.name}.draft"
    for stale in folder.glob(".step-*.draft"):
        shutil.rmtree(stale)
    draft.mkdir()
    state = optimizer.state_dict()
    (draft / _TENSORS).write_bytes(to_bytes(_tensors(model, state["state"], ema)))
    content = {"step": step, "meta": meta, "optimizer": state["param_groups"]}
    (draft / _META).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for path in (draft / _TENSORS, draft / _META, draft):
        _to_disk(path)
    if target.exists():
        shutil.rmtree(target)
    draft.rename(target)
    _to_disk(folder)
    for old in _folders(folder)[KEPT:]:
        shutil.rmtree(old)
    return target


def load_latest(folder: str | os.PathLike[str]) -> Checkpoint | None:
    """The newest readable checkpoint of a folder, or None when there is none (or no folder).

    Example
    -------
    >>> load_latest("a folder that does not exist") is None
    True
    """
    for path in _folders(Path(folder)):
        try:
            content = json.loads((path / _META).read_text(encoding="utf-8"))
            tensors = load_file(path / _TENSORS)
        except (OSError, ValueError, SafetensorError):
            continue  # deleted half-way by a kill, or damaged from outside: the one before serves
        return Checkpoint(content["step"], content["meta"], tensors, content["optimizer"])
    return None


def _tensors(model: nn.Module, state: dict[int, dict[str, Any]], ema: nn.Module | None) -> dict[str, Tensor]:
    named = {f"model/{name}": value for name, value in model.state_dict().items()}
    if ema is not None:
        named |= {f"ema/{name}": value for name, value in ema.state_dict().items()}
    for index, entries in state.items():
        named |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in entries.items()}
    # safetensors holds plain layouts only, and no two tensors on one memory (tied weights): copy each.
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in named.items()}


def _folders(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
