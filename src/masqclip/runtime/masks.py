"""Mask logits of one picture at output size, a few rows at a time, with NumPy.

The same numbers as `masqclip.decoding.masks.ResizedMasks` but for rounding: bilinear to the padded
frame, the padding cut off, bilinear to the picture. Both steps are linear, on rows and on columns
apart, so each side is one matrix; its band of numbers is multiplied block by block.

Shapes: Q proposals; h, w stride-4 grid; H, W output pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Floats of one intermediate result of a decoder, which caches like best.
CHUNK_ELEMENTS = 1 << 21
_BLOCK = 256  # rows or columns that are made by one product


@dataclass(frozen=True)
class ResizedMasks:
    """Mask logits of the padded frame, brought to output size when their rows are read.

    Attributes:
        logits: [Q,h,w], over the padded frame.
        padded_size, image_size, output_size: (height, width) in pixels of the frame, of the picture
            in it (top left), and of the masks that are wanted.
    """

    logits: Floats
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Q, H, W)."""
        return (len(self.logits), *self.output_size)

    def rows(self, start: int, stop: int) -> Floats:
        """The logits [Q, stop - start, W] of output rows start to stop."""
        return self._across.right(self._down.left(self.logits, start, stop))

    def select(self, proposals: NDArray[np.integer]) -> ResizedMasks:
        """The same masks for these proposals only, in this order."""
        return replace(self, logits=self.logits[proposals])

    def sound(self) -> NDArray[np.bool_]:
        """Whether all of a proposal's logits are numbers, [Q]."""
        # Between infinity and a number there is none.
        return np.asarray(np.isfinite(self.logits).all(axis=(1, 2)))

    @cached_property
    def _down(self) -> _Side:
        return self._side(0)

    @cached_property
    def _across(self) -> _Side:
        return self._side(1)

    def _side(self, axis: int) -> _Side:
        frame = interpolation(self.logits.shape[axis + 1], self.padded_size[axis])
        picture = interpolation(self.image_size[axis], self.output_size[axis])
        return _Side(picture @ frame[: self.image_size[axis]])


class _Side:
    """How the pixels of one side are made of others: a band of a matrix [new, old]."""

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self.matrix = matrix.astype(np.float32)
        there = matrix != 0
        self.first = there.argmax(axis=1)
        self.end = there.shape[1] - there[:, ::-1].argmax(axis=1)

    def left(self, grid: Floats, start: int, stop: int) -> Floats:
        """Rows [Q, stop - start, w] of a grid [Q,h,w]."""
        parts = [
            self.matrix[a:b, old] @ grid[:, old]
            for a, b in _blocks(start, stop)
            for old in [slice(int(self.first[a:b].min()), int(self.end[a:b].max()))]
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def right(self, rows: Floats) -> Floats:
        """All columns [Q,R,W] of rows [Q,R,w]."""
        found = np.empty((*rows.shape[:2], len(self.matrix)), np.float32)
        for a, b in _blocks(0, len(self.matrix)):
            old = slice(int(self.first[a:b].min()), int(self.end[a:b].max()))
            found[..., a:b] = rows[..., old] @ self.matrix[a:b, old].T
        return found


def interpolation(old: int, new: int) -> NDArray[np.float64]:
    """[new, old]: how bilinear resizing makes the pixels of a side.

    Pixel centres are at half integers (``align_corners=False``); beyond the border the border's
    pixel repeats.
    """
    position = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    below = position.astype(np.int64)
    above = (below + 1).clip(max=old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), below), 1 - (position - below))
    np.add.at(matrix, (np.arange(new), above), position - below)
    return matrix


def row_chunks(height: int, floats_per_row: int) -> Iterator[tuple[int, int]]:
    """Ranges (start, stop) of rows of which each stays within `CHUNK_ELEMENTS` floats."""
    step = max(1, CHUNK_ELEMENTS // max(1, floats_per_row))
    for start in range(0, height, step):
        yield start, min(start + step, height)


def sigmoid(logits: Floats) -> Floats:
    """Probabilities of logits."""
    with np.errstate(over="ignore"):  # an infinite divisor is a probability of zero
        return np.float32(1) / (np.float32(1) + np.exp(-logits))


def _blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, _BLOCK):
        yield first, min(first + _BLOCK, stop)
