"""A COCO ``segmentation``, polygons or run lengths, as a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError


def segmentation_mask(
    segmentation: Mapping[str, Any] | Sequence[Sequence[float]], height: int, width: int
) -> NDArray[np.bool_]:
    """A COCO ``segmentation``, RLE or polygons, as a mask [H, W].

    A polygon holds the pixels whose middle it encloses (even-odd). pycocotools traces the outline
    on a five times finer grid, so single pixels along the edge may differ.

    Raises:
        MasqclipError: the RLE is malformed or of another size than the picture.
    """
    if isinstance(segmentation, Mapping):
        mask = decode_rle(segmentation)
        if mask.shape != (height, width):
            raise MasqclipError(
                f"a mask of {mask.shape[0]} x {mask.shape[1]} pixels (height x width) stands in "
                f"the annotations of a picture of {height} x {width}"
            )
        return mask
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        if len(polygon) >= 6:
            mask |= _fill_polygon(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
    return mask


def _fill_polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Fill a closed polygon, corners [C, 2] as (x, y), by counting crossings along each row."""
    start, end = corners, np.roll(corners, -1, axis=0)
    middle = np.arange(height) + 0.5
    crosses = (start[:, 1:] <= middle) != (end[:, 1:] <= middle)  # [C, H]
    edge, row = np.nonzero(crosses)
    share = (middle[row] - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
    first = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    toggles = np.zeros((height, width + 1), np.int64)
    np.add.at(toggles, (row, first), 1)
    return toggles[:, :width].cumsum(axis=1) % 2 == 1
