"""What an evaluation leaves behind: a table, a JSON file, a sheet of crops, and a line in the log of looks."""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table
from torch import Tensor

from fastweights.burst.cases import Case
from fastweights.burst.errors import BurstError

_LABEL = 30
_SIDE = 256


def table(title: str, scores: Mapping[str, Mapping[str, float]]) -> Table:
    """One set's scores, mean and standard error; seconds of one burst."""
    found = Table("method", "PSNR dB", "SSIM", "seconds", title=title)
    for name, one in scores.items():
        psnr = f"{one['psnr']:.2f} ± {one['psnr_error']:.2f}"
        found.add_row(name, psnr, f"{one['ssim']:.4f} ± {one['ssim_error']:.4f}", f"{one['seconds']:.3f}")
    return found


def sheet(case: Case, pictures: Mapping[str, Float[Tensor, "c h w"]]) -> Float[Tensor, "3 y x"]:
    """The middle of every picture and of the truth side by side, named, as pixel values 0..1.

    Example
    -------
    >>> from fastweights.burst.baselines import NoiseCurve
    >>> flat = torch.full((1, 90, 70), 0.5)
    >>> case = Case(flat[None], flat, NoiseCurve.of_sensor(0.1, 0.0, 1.0), (0.1, 0.0), 1.0, True)
    >>> sheet(case, {"mean": flat}).shape
    torch.Size([3, 286, 512])
    """
    named = {**pictures, "truth": case.truth}
    page = Image.new("RGB", (_SIDE * len(named), _SIDE + _LABEL), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for column, (name, picture) in enumerate(named.items()):
        height, width = picture.shape[-2:]
        side = min(height, width, 128)
        top, left = (height - side) // 2, (width - side) // 2
        crop = case.encode(picture[..., top : top + side, left : left + side]).clamp(0, 1)
        levels = (255 * crop.expand(3, -1, -1)).round().byte().permute(1, 2, 0).numpy()
        draw.text((column * _SIDE + 4, _LABEL // 2), name, "black", font, anchor="lm")
        page.paste(Image.fromarray(levels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (column * _SIDE, _LABEL))
    return torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1) / 255


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise BurstError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def log_look(path: Path, what: str, networks: Mapping[str, str], psnr: Mapping[str, float]) -> int:
    """Appends a look to the log and returns the number of looks at `what` so far, this one included.

    Whoever looks often at one burst ends up tuned to it: the log says how often that was.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [log_look(Path(folder) / "log.jsonl", what, {}, {}) for what in ("toys", "camera", "toys")]
    [1, 1, 2]
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="minutes"), "what": what, "weights": dict(networks)}
    with path.open("a") as log:
        log.write(json.dumps(line | {"psnr": dict(psnr)}) + "\n")
    return sum(look["what"] == what for look in _lines(path))


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in path.read_text().splitlines())
