"""Masks as annotation tools draw what they are answered; see the tests of their protocols."""

from __future__ import annotations

import base64

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes

from brush_code import brush_words

NAMES = ["rocket", "tulip", "car", "snake"]


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def filled(points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a polygon: drawn eight times as large, then sampled."""
    scale = 8
    image = Image.new("1", (size[1] * scale, size[0] * scale))
    ImageDraw.Draw(image).polygon([(x * scale - 0.5, y * scale - 0.5) for x, y in points], fill=1)
    return np.asarray(image)[scale // 2 :: scale, scale // 2 :: scale]


def without_holes(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_fill_holes(mask))


def decode_brush(rle: list[int]) -> np.ndarray:
    """The alpha byte of every pixel of a stroke, as Label Studio's own reader takes it."""
    return brush_words(rle)[3::4] > 0
