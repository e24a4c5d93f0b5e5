"""Small picture files of every format that the denoiser reads, and damaged copies of them."""

import io

import cv2
import numpy as np
import tifffile
from PIL import Image

# From the camera's colours to XYZ and back: that of sRGB, so that the made-up sensor's colours are sRGB's.
_XYZ_TO_CAMERA = (3.2404542, -1.5371385, -0.4985314, -0.9692660, 1.8760108, 0.0415560, 0.0556434, -0.2040259, 1.0572252)


def mosaic(light, black, white):
    """What a sensor with the pattern RG GB counts of linear light (h, w, 3)."""
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    values = np.take_along_axis(light, (rows % 2 + columns % 2)[..., None], axis=2)[..., 0]
    return (black + (white - black) * values).round().clip(0, white).astype(np.uint16)


def dng(light, black=64, white=1023, orientation=1, noise=(1e-4, 1e-6), neutral=(1, 1, 1)):
    """A DNG file whose sensor sees linear light (h, w, 3) with equal sensitivity, or `neutral` times that."""
    counts = mosaic(light * np.array(neutral), black, white)
    matrix = [part for value in _XYZ_TO_CAMERA for part in (round(value * 10_000), 10_000)]
    neutral = [part for value in neutral for part in (round(value * 1000), 1000)]
    tags = [
        (271, "s", 0, "Camera maker", True),
        (274, "H", 1, orientation, True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, "Made-up camera", True),
        (50714, "H", 1, black, True),
        (50717, "H", 1, white, True),
        (50721, "2i", 9, tuple(matrix), True),
        (50728, "2I", 3, tuple(neutral), True),
        (50778, "H", 1, 21, True),
        (51041, "d", 2, noise, True),
    ]
    file = io.BytesIO()
    tifffile.imwrite(file, counts, photometric=32803, extratags=tags, metadata=None, software=False)
    return file.getvalue()


def pixels(height=40, width=56, seed=0):
    """Smooth colours with a little noise, 8 bits."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([y * 3, x * 2, 128 + 0 * x], axis=-1)
    return (smooth + np.random.default_rng(seed).integers(0, 20, smooth.shape)).astype(np.uint8)


def encoded(suffix, array, **options):
    """A file's content as Pillow (8 bits) or OpenCV (16 bits) writes it."""
    if array.dtype == np.uint8:
        file = io.BytesIO()
        kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
        Image.fromarray(array).save(file, kind, **options)
        return file.getvalue()
    return cv2.imencode(suffix, array if array.ndim == 2 else array[..., ::-1])[1].tobytes()


def tiff(array, **options):
    """A TIFF file's content as tifffile writes it."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def every_format():
    """One sound file's content per suffix and kind."""
    eight = pixels()
    sixteen = eight.astype(np.uint16) * 257
    return {
        "8.png": encoded(".png", eight),
        "16.png": encoded(".png", sixteen),
        "palette.png": encoded(".png", np.asarray(eight[..., 0])),
        "a.jpg": encoded(".jpg", eight, exif=Image.Exif(), quality=90),
        "a.webp": encoded(".webp", eight, lossless=True),
        "plain.tif": tiff(eight, photometric="rgb"),
        "packed.tif": tiff(sixteen, photometric="rgb", compression="zlib", predictor=True),
        "lzw.tif": tiff(eight, photometric="rgb", compression="lzw"),
        "jpeg.tif": tiff(eight, photometric="rgb", compression="jpeg"),
        "stack.tif": tiff(np.stack([sixteen[..., 0]] * 5), photometric="minisblack", metadata={"axes": "TYX"}),
        "float.tif": tiff((eight / 255).astype(np.float32), photometric="rgb"),
        "a.dng": dng(eight / 255),
    }


def damaged(content, rng):
    """A copy with some bytes changed, cut out, doubled or cut off."""
    data = bytearray(content)
    kind = rng.integers(4)
    # Headers and tables of a file are at its ends.
    place = int(rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(min(200, len(data))))
    place = place if rng.random() < 0.7 else len(data) - 1 - place
    length = int(rng.integers(1, 24))
    if kind == 0:
        for _ in range(length):
            data[int(rng.integers(len(data))) if rng.random() < 0.5 else (place + length) % len(data)] = int(
                rng.integers(256)
            )
    elif kind == 1:
        del data[place : place + length]
    elif kind == 2:
        data[place:place] = data[place : place + length]
    else:
        data = data[:place]
    return bytes(data)
