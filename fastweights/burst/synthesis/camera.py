"""Camera bursts: the noise that the pixels of a photo really have, made on the sensor's mosaic and developed."""

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fastweights.burst.errors import BurstError
from fastweights.burst.synthesis.demosaic import METHODS, mosaic, sites
from fastweights.burst.transfer import srgb_decode, srgb_encode

_TONE_STEPS = 1 << 14
Demosaic = Literal["bilinear", "malvar", "edge_aware"]
_DEMOSAIC: tuple[Demosaic, ...] = get_args(Demosaic)
# A typical daylight colour-correction matrix; its rows sum to one, so grey stays grey.
_MATRIX = np.array([[1.65, -0.5, -0.15], [-0.2, 1.5, -0.3], [0.0, -0.55, 1.55]])
# Pixels lost at each side to demosaicing, colour smoothing and sharpening.
MARGIN = 10


@dataclass(frozen=True)
class Camera:
    """How one camera makes pixels out of light; the defaults are a mild, plain camera.

    shot: noise variance per unit of light, read: noise std, both of green on the sensor with white = 1.
    pattern: fixed-pattern noise, the same in every frame: std of the pixels' sensitivity around 1, and std of their
    black level in units of `read`. It averages out only where the frames are displaced against each other.
    gains: white balance of red and blue against green, which amplifies their noise too.
    matrix: strength 0..1 of the colour-correction matrix. phase: 0..3, the first pixel of the Bayer mosaic.
    clip_black: whether the mosaic loses its negative values. blotches: std of low-frequency noise in red and blue,
    relative to the white noise there, and blotch_size its size in pixels.
    smooth_colour: Gaussian std in pixels on R - G and B - G after demosaicing; median_colour: a median of 3 or 5
    pixels there, 0 none. blur: Gaussian std in pixels; sharpen: amount of an unsharp mask of std 1.
    Tone, in sRGB: y + shoulder y (1 - y) lifts the middle and flattens the highlights, then an S-curve of strength
    contrast 0..1.
    """

    shot: float = 1e-3
    read: float = 5e-3
    pattern: tuple[float, float] = (0.0, 0.0)
    gains: tuple[float, float] = (1.8, 1.6)
    matrix: float = 0.5
    phase: int = 0
    clip_black: bool = False
    blotches: float = 0.0
    blotch_size: int = 12
    demosaic: Demosaic = "malvar"
    smooth_colour: float = 0.0
    median_colour: int = 0
    blur: float = 0.0
    sharpen: float = 0.0
    shoulder: float = 0.0
    contrast: float = 0.0


def draw_camera(rng: np.random.Generator) -> Camera:
    """A random camera; ranges wide enough that measured ones lie well inside (see `CameraBursts`).

    Example
    -------
    >>> draw_camera(np.random.default_rng(0)) == draw_camera(np.random.default_rng(0))
    True
    """
    log_shot = rng.uniform(np.log(5e-5), np.log(8e-3))
    # Read noise follows shot noise from one ISO setting to the next (Brooks et al. 2019), loosely.
    log_read = 0.5 * log_shot - 1.8 + rng.normal(0, 0.5)
    pattern = (rng.uniform(0, 0.04), rng.uniform(0, 1)) if rng.random() < 0.5 else (0.0, 0.0)
    kernel = rng.choice(["none", "blur", "sharpen"], p=[0.4, 0.25, 0.35])
    colour = rng.choice(["none", "gaussian", "median", "both"], p=[0.35, 0.4, 0.1, 0.15])
    return Camera(
        shot=float(np.exp(log_shot)),
        read=float(np.exp(np.clip(log_read, np.log(3e-4), np.log(3e-2)))),
        pattern=(float(pattern[0]), float(pattern[1])),
        gains=(float(rng.uniform(1.1, 2.8)), float(rng.uniform(1.1, 2.8))),
        matrix=float(rng.uniform(0, 1)),
        phase=int(rng.integers(4)),
        clip_black=bool(rng.random() < 0.3),
        blotches=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.15 else 0.0,
        blotch_size=int(rng.integers(6, 25)),
        demosaic=_DEMOSAIC[rng.choice(3, p=[0.3, 0.4, 0.3])],
        smooth_colour=float(rng.uniform(0.5, 2.0)) if colour in ("gaussian", "both") else 0.0,
        median_colour=int(rng.choice([3, 5])) if colour in ("median", "both") else 0,
        blur=float(rng.uniform(0.3, 0.7)) if kernel == "blur" else 0.0,
        sharpen=float(rng.uniform(0.1, 0.8)) if kernel == "sharpen" else 0.0,
        shoulder=float(rng.uniform(-0.2, 0.6)) if rng.random() < 0.5 else 0.0,
        contrast=float(rng.uniform(0.1, 0.9)) if rng.random() < 0.5 else 0.0,
    )


def shoot(
    scenes: np.ndarray,
    camera: Camera,
    rng: np.random.Generator,
    margin: int = MARGIN,
    keep_pattern: bool = True,
) -> tuple[np.ndarray, Float[Tensor, "3 h w"]]:
    """Scenes (N, H, W, 3) in linear light -> N frames of sRGB bytes, and the clean picture of the first.

    Each scene, float32, is what the sensor sees during one frame, H and W even; white is 1, more is clipped. Frames
    are (N, H - 2 margin, W - 2 margin, 3) uint8, the truth is linear light, with the camera's fixed pattern in it or
    (keep_pattern=False) not. Within 10 pixels of a border the pictures
    show how borders are filled in, hence the default margin. Raises BurstError for odd sizes.

    Example
    -------
    >>> grey = np.full((2, 60, 40, 3), 0.2, np.float32)
    >>> frames, truth = shoot(grey, Camera(), np.random.default_rng(0))
    >>> frames.shape, tuple(truth.shape), round(float(truth.mean()), 4)
    ((2, 40, 20, 3), (3, 40, 20), 0.2)
    """
    n, height, width, _ = scenes.shape
    if height % 2 or width % 2:
        raise BurstError(f"a Bayer mosaic needs even sizes, got {height} x {width}: crop a row or a column")
    matrix = np.eye(3) + camera.matrix * (_MATRIX - np.eye(3))
    sensor = cv2.transform(scenes.reshape(n * height, width, 3), np.linalg.inv(matrix))
    clean = np.maximum(mosaic(sensor.reshape(scenes.shape), camera.phase), 0)
    sensitivity, black = _pattern(clean.shape[1:], camera, rng)
    noisy = clean * sensitivity + black + _noise(clean, camera, rng)
    last = clean[:1] * sensitivity + black if keep_pattern else clean[:1]
    if camera.clip_black:
        noisy = np.maximum(noisy, 0)
    # One tall picture, the clean one last: its frames touch only within the margin.
    tall = np.concatenate([noisy, last]).reshape(-1, width)
    tall = _smooth(METHODS[camera.demosaic](tall, camera.phase), camera)
    tall = cv2.transform(tall, matrix).reshape(n + 1, height, width, 3)
    tall = np.clip(tall[:, margin : height - margin, margin : width - margin], 0, 1)
    tone = _tone(torch.linspace(0, 1, _TONE_STEPS + 1, dtype=torch.float64), camera)
    bytes_of = (tone * 255).round().to(torch.uint8).numpy()
    frames = bytes_of[(tall[:n] * np.float32(_TONE_STEPS) + np.float32(0.5)).astype(np.uint16)]
    truth = torch.from_numpy(tall[n]).permute(2, 0, 1)
    return frames, srgb_decode(_tone(truth, camera))


def _pattern(
    shape: tuple[int, ...], camera: Camera, rng: np.random.Generator
) -> tuple[np.ndarray | np.float32, np.ndarray | np.float32]:
    if not any(camera.pattern):
        return np.float32(1), np.float32(0)
    sensitivity, black = rng.standard_normal((2, *shape), dtype=np.float32)
    black *= np.float32(camera.pattern[1] * camera.read)
    for row, column, colour in sites(camera.phase):
        black[row::2, column::2] *= np.float32((camera.gains[0], 1.0, camera.gains[1])[colour])
    return 1 + np.float32(camera.pattern[0]) * sensitivity, black


def _noise(clean: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    n, height, width = clean.shape
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    for row, column, colour in sites(camera.phase):
        here = np.s_[:, row::2, column::2]
        gain = (camera.gains[0], 1.0, camera.gains[1])[colour]
        if camera.blotches and colour != 1:
            small = rng.standard_normal((n, height // camera.blotch_size + 2, width // camera.blotch_size + 2))
            for frame, field in zip(noise[here], small, strict=True):
                frame += np.float32(camera.blotches) * cv2.resize(
                    field.astype(np.float32), frame.shape[::-1], interpolation=cv2.INTER_CUBIC
                )
        noise[here] *= np.sqrt(np.float32(camera.shot * gain) * clean[here] + np.float32((camera.read * gain) ** 2))
    return noise


def _smooth(rgb: np.ndarray, camera: Camera) -> np.ndarray:
    if camera.smooth_colour or camera.median_colour:
        green = rgb[..., 1]
        for colour in (0, 2):
            difference = rgb[..., colour] - green
            if camera.median_colour:
                difference = cv2.medianBlur(difference, camera.median_colour)
            if camera.smooth_colour:
                difference = cv2.GaussianBlur(difference, (9, 9), camera.smooth_colour)
            rgb[..., colour] = green + difference
    if camera.blur:
        rgb = cv2.GaussianBlur(rgb, (5, 5), camera.blur)
    if camera.sharpen:
        rgb = cv2.addWeighted(rgb, 1 + camera.sharpen, cv2.GaussianBlur(rgb, (5, 5), 1.0), -camera.sharpen, 0)
    return rgb


def _tone(light: Tensor, camera: Camera) -> Tensor:
    encoded = srgb_encode(light)
    encoded = encoded + camera.shoulder * encoded * (1 - encoded)
    return encoded + camera.contrast * (encoded * encoded * (3 - 2 * encoded) - encoded)
