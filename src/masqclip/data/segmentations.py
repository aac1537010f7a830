"""A COCO ``segmentation``, polygons or run lengths, as a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.rle import decode_rle, rle_counts
from masqclip.errors import MasqclipError

# Corners beyond this, in pixels, are a mistake; and so are outlines of more pixels than that.
_FARTHEST = 1e9
_LONGEST_OUTLINE = 1e8
_CROSSINGS_AT_ONCE = 16_000_000


def segmentation_mask(
    segmentation: Mapping[str, Any] | Sequence[Sequence[float]] | None, height: int, width: int
) -> NDArray[np.bool_]:
    """A COCO ``segmentation``, RLE or polygons, as a mask [H, W].

    A polygon holds the pixels whose middle it encloses (even-odd). pycocotools traces the outline
    on a five times finer grid, so single pixels along the edge may differ.

    Raises:
        MasqclipError: it is neither, malformed, or of another size than the picture.
    """
    if isinstance(segmentation, Mapping):
        _check_rle(segmentation, height, width)
        return decode_rle(segmentation)
    mask = np.zeros((height, width), bool)
    for corners in _polygons(segmentation):
        mask |= _fill_polygon(corners, height, width)
    return mask


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """See that a segmentation can be handed to other programs, which may not look.

    Raises:
        MasqclipError: as `segmentation_mask`; or its outline is beyond all measure.
    """
    if isinstance(segmentation, Mapping):
        _check_rle(segmentation, height, width)
        rle_counts(segmentation)
        return
    outline = sum(
        float(np.abs(corners - np.roll(corners, 1, axis=0)).sum())
        for corners in _polygons(segmentation)
    )
    if outline > _LONGEST_OUTLINE:
        raise MasqclipError(f"its outline is {outline:.2g} pixels long; draw it anew")


def _check_rle(rle: Mapping[str, Any], height: int, width: int) -> None:
    try:
        rows, columns = (int(side) for side in rle["size"])
        counts = rle["counts"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MasqclipError(f"an RLE needs 'size' and 'counts' ({error!r:.100})") from error
    if not isinstance(counts, str | bytes | list):
        raise MasqclipError(f"the counts of an RLE are {counts!r:.60}; give a string or a list")
    if (rows, columns) != (height, width):
        raise MasqclipError(
            f"a mask of {rows} x {columns} pixels (height x width) stands in "
            f"the annotations of a picture of {height} x {width}"
        )


def _polygons(segmentation: Any) -> list[NDArray[np.float64]]:
    """The corners [C, 2] of each polygon; what has fewer than three is none."""
    found = []
    try:
        for polygon in segmentation:
            if len(polygon) >= 6:
                found.append(np.asarray(polygon, np.float64).reshape(-1, 2))
    except (TypeError, ValueError, OverflowError) as error:
        raise MasqclipError(f"its polygons are no lists of x and y ({error})") from error
    if any(not (np.abs(corners) < _FARTHEST).all() for corners in found):
        raise MasqclipError("a corner of its polygons is no number, or far outside of everything")
    return found


def _fill_polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Fill a closed polygon, corners [C, 2] as (x, y), by counting crossings along each row."""
    starts, ends = corners, np.roll(corners, -1, axis=0)
    middle = np.arange(height) + 0.5
    toggles = np.zeros((height, width + 1), np.int64)
    step = max(1, _CROSSINGS_AT_ONCE // max(1, height))
    for chunk in range(0, len(corners), step):
        start, end = starts[chunk : chunk + step], ends[chunk : chunk + step]
        crosses = (start[:, 1:] <= middle) != (end[:, 1:] <= middle)  # [C, H]
        edge, row = np.nonzero(crosses)
        share = (middle[row] - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
        x = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
        first = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(toggles, (row, first), 1)
    return toggles[:, :width].cumsum(axis=1) % 2 == 1
