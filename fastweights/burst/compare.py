"""One frame, the mean of all and the result, side by side in one picture."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastweights.burst.pipeline import Result, mean_of
from fastweights.burst.transfer import srgb_encode

# A JPEG is at most this wide.
_WIDEST = 65_500
_GAP = 8


def side_by_side(result: Result) -> Float[Tensor, "3 h w"]:
    """The reference frame, the mean of the aligned frames and the picture, labelled, as sRGB values.

    At full size, so that single pixels can be compared, or smaller by a whole factor where three would be wider than
    65,500 pixels. Channels beyond colour: their mean is shown in grey.

    Example
    -------
    >>> from fastweights.burst import denoise
    >>> from fastweights.burst.demo import Mean
    >>> side_by_side(denoise(torch.rand(2, 3, 40, 90), model=Mean(), reference=0)).shape
    torch.Size([3, 72, 286])
    """
    burst = result.burst
    panels = {
        "one frame": burst.light(result.reference, *burst.window),
        f"mean of {len(burst)}": mean_of(result),
        "result": result.image,
    }
    height, width = result.image.shape[1:]
    factor = -(-(3 * width + 2 * _GAP) // _WIDEST)
    wide, high = -(-width // factor), -(-height // factor)
    label = max(32, min(high // 20, 96))
    sheet = Image.new("RGB", (3 * wide + 2 * _GAP, label + high), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(max(12, min(label * 0.6, wide / 8)))
    for number, (name, light) in enumerate(panels.items()):
        left = number * (wide + _GAP)
        sheet.paste(_panel(light, burst.colour).resize((wide, high), Image.Resampling.BOX), (left, label))
        draw.text((left + 4, label // 2), name, "black", font, anchor="lm")
    return torch.from_numpy(np.asarray(sheet).copy()).permute(2, 0, 1) / 255


def _panel(light: Float[Tensor, "c h w"], colour: bool) -> Image.Image:
    shown = light[:3] if colour else light.mean(0, keepdim=True).expand(3, -1, -1)
    levels = (srgb_encode(shown).clamp(0, 1) * 255).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
