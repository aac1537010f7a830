"""How far inside of a mask its cells lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FAR = 1 << 20
_CELLS = 1 << 22  # that are compared at a time


def distances(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The Euclidean distance [H,W] of each cell of a small mask to the nearest one outside of it;
    zero outside, and `_FAR` or more where nothing is outside.

    Along columns the nearest cell outside is found by going down and up; along rows the squares of
    both distances are added and the least sum counts. The time grows with H x W x W.
    """
    height, width = mask.shape
    along = np.where(mask, _FAR, 0).astype(np.int64)
    for row in range(1, height):
        np.minimum(along[row], along[row - 1] + 1, out=along[row])
    for row in range(height - 2, -1, -1):
        np.minimum(along[row], along[row + 1] + 1, out=along[row])
    squares = along * along
    across = np.arange(width)
    apart = (across[:, None] - across) ** 2
    found = np.empty((height, width), np.int64)
    step = max(1, _CELLS // (width * width))
    for start in range(0, height, step):
        band = squares[start : start + step, None] + apart
        found[start : start + step] = band.min(axis=2)
    return np.sqrt(found)
