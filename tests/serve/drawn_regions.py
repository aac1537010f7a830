"""Masks as annotation tools draw what they are answered; see the tests of their protocols."""

from __future__ import annotations

import base64

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes

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
    bits = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    number, word = read(32), read(5) + 1
    counts = [read(4) + 1 for _ in range(4)]
    words: list[int] = []
    while len(words) < number:
        is_run, count = read(1), read(counts[read(2)]) + 1
        words += [read(word)] * count if is_run else [read(word) for _ in range(count)]
    return np.array(words[3::4], np.uint8) > 0
