"""Pictures as the graphs take them: resized as PyTorch resizes them, to the bit, and padded.

PyTorch resizes 8-bit pictures with whole numbers. Along one side, and then along the other:

- A new pixel's centre lies at c = s (i + 1/2) of the old ones, s the old length by the new. It
  covers those whose centres are nearer than s, or than 1 where the picture grows, and each weighs
  1 - |distance| / max(s, 1), as a share of all of them.
- Weights are rounded to multiples of 2^-p, with the largest p that keeps the largest of them below
  2^15. Halves are rounded away from zero.
- The sum of the old pixels, so weighted, is rounded, halves up, and is a pixel of 0 to 255.

Pictures come in as [H,W,3] uint8 and go out as [3,H',W'] float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from masqclip.data.frames import Edges, resized_size

_Pixels = NDArray[np.uint8]

_BAND = 1 << 21  # new numbers that are worked on at once
_MOST_PRECISION = 22
_LARGEST = 1 << 15


def frame_picture(
    pixels: _Pixels, edges: Edges, size_divisor: int
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """A picture resized by a model's rule and padded: the frame, and (height, width) inside it.

    The same numbers as `masqclip.encoding.frame_picture`.
    """
    height, width = pixels.shape[:2]
    size = resized_size(height, width, edges)
    frame = tuple(-(-side // size_divisor) * size_divisor for side in size)
    return _padded(resize(pixels, size), (frame[0], frame[1])), size


def fit_picture(
    pixels: _Pixels, frame: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """A picture made as large as a frame (H, W) holds, its aspect kept, at the upper left."""
    height, width = pixels.shape[:2]
    scale = min(frame[0] / height, frame[1] / width)
    size = (
        min(frame[0], max(1, round(height * scale))),
        min(frame[1], max(1, round(width * scale))),
    )
    return _padded(resize(pixels, size), frame), size


def resize(pixels: _Pixels, size: tuple[int, int]) -> _Pixels:
    """A picture at another (height, width)."""
    if size[1] != pixels.shape[1]:
        pixels = _resized_rows(pixels, size[1])
    if size[0] != pixels.shape[0]:
        pixels = _resized_columns(pixels, size[0])
    return pixels


def weights(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """What each pixel of a side is made of.

    Args:
        old, new: the side's length before and after.

    Returns:
        The first of the old pixels [new]; the weights [new,K] of it and of those that follow, zero
        where there are fewer; and the precision p.
    """
    scale = old / new
    reach = max(scale, 1.0)
    centres = scale * (np.arange(new) + 0.5)
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + reach + 0.5).astype(np.int64), old)
    most = 2 * math.ceil(np.float32(reach)) + 1
    place = np.arange(most)
    distance = np.abs((place + first[:, None] - centres[:, None] + 0.5) * (1.0 / reach))
    shares = np.where(place < (end - first)[:, None], np.maximum(1.0 - distance, 0.0), 0.0)
    total = np.zeros(new)
    for column in shares.T:  # one after the other, as PyTorch adds them
        total += column
    shares /= np.where(total == 0, 1.0, total)[:, None]
    precision, largest = 0, float(shares.max())
    while precision < _MOST_PRECISION:
        if int(0.5 + largest * (1 << (precision + 1))) >= _LARGEST:
            break
        precision += 1
    used = int((end - first).max())
    return first, (0.5 + shares[:, :used] * (1 << precision)).astype(np.int32), precision


def _resized_rows(pixels: _Pixels, width: int) -> _Pixels:
    first, shares, precision = weights(pixels.shape[1], width)
    # Where the last pixels are reached, their weights are zero.
    places = np.minimum(first[:, None] + np.arange(shares.shape[1]), pixels.shape[1] - 1)
    found = np.empty((pixels.shape[0], width, 3), np.uint8)
    step = max(1, _BAND // (3 * width))
    for start in range(0, len(pixels), step):
        band = pixels[start : start + step]
        total = np.full((len(band), width, 3), 1 << (precision - 1), np.int32)
        for place, share in zip(places.T, shares.T, strict=True):
            total += band[:, place] * share[:, None]
        found[start : start + step] = _rounded(total, precision)
    return found


def _resized_columns(pixels: _Pixels, height: int) -> _Pixels:
    first, shares, precision = weights(pixels.shape[0], height)
    found = np.empty((height, *pixels.shape[1:]), np.uint8)
    places = np.minimum(first[:, None] + np.arange(shares.shape[1]), pixels.shape[0] - 1)
    step = max(1, _BAND // (3 * pixels.shape[1]))
    for start in range(0, height, step):
        part = slice(start, start + step)
        total = np.full(found[part].shape, 1 << (precision - 1), np.int32)
        for place, share in zip(places[part].T, shares[part].T, strict=True):
            total += pixels[place] * share[:, None, None]
        found[part] = _rounded(total, precision)
    return found


def _rounded(total: NDArray[np.int32], precision: int) -> _Pixels:
    return (total >> precision).clip(0, 255).astype(np.uint8)


def _padded(pixels: _Pixels, frame: tuple[int, int]) -> NDArray[np.float32]:
    height, width = pixels.shape[:2]
    padded = np.zeros((3, *frame), np.float32)
    padded[:, :height, :width] = pixels.transpose(2, 0, 1)
    return padded
