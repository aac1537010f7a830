"""A COCO ``segmentation``, polygons or run lengths, as a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.rle import decode_rle, rle_counts
from masqclip.errors import MasqclipError

# Corners beyond this, in pixels, are a mistake; and so are outlines of more pixels than that.
_FARTHEST = 1e9
_LONGEST_OUTLINE = 1e8
_MAX_RLE_PIXELS = 1 << 31
_CROSSINGS_AT_ONCE = 16_000_000


def segmentation_mask(
    segmentation: Mapping[str, Any] | Sequence[Sequence[float]] | None, height: int, width: int
) -> NDArray[np.bool_]:
    """A COCO ``segmentation``, RLE or polygons, as a mask [H, W].

    A polygon holds the pixels whose middle it encloses (even-odd). pycocotools traces the outline
    on a five times finer grid, so single pixels along the edge may differ.

    Raises:
        MasqclipError: as `tidy_segmentation`.
    """
    tidy = tidy_segmentation(segmentation, height, width)
    if isinstance(tidy, Mapping):
        return decode_rle(tidy)
    mask = np.zeros((height, width), bool)
    for polygon in tidy or ():
        mask |= _fill_polygon(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
    return mask


def tidy_segmentation(
    segmentation: object, height: int, width: int
) -> list[list[float]] | dict[str, Any] | None:
    """A segmentation as COCO writes it, of whatever a tool wrote that can mean only one thing.

    Read are polygons whose corners stand in pairs or whose numbers stand in quotes, one polygon
    that stands outside of a list, and runs of plain or compressed lengths. Parts of fewer than
    three corners cover nothing and are left out.

    Args:
        segmentation: as in a file.
        height, width: of the picture; 0 = unknown.

    Returns:
        Polygons or an RLE; None of what covers no pixel of the picture: nothing at all, points and
        lines, outlines outside of it, empty runs.

    Raises:
        MasqclipError: it is neither, malformed, of another size than the picture, or beyond all
            measure.
    """
    if isinstance(segmentation, Mapping):
        return _tidy_rle(segmentation, height, width)
    if segmentation is None:
        return None
    polygons = [polygon for polygon in _outlines(segmentation) if len(polygon) >= 6]
    right, bottom = (width, height) if height and width else (_FARTHEST, _FARTHEST)
    inside, length = False, 0.0
    # In plain Python: files have millions of polygons, most of them short.
    for polygon in polygons:
        across, down = polygon[::2], polygon[1::2]
        edges = min(across), max(across), min(down), max(down)
        if not _are_near(polygon, edges):
            raise MasqclipError("a corner of its polygons is no number, or far outside of all")
        inside |= edges[0] < right and edges[1] > 0 and edges[2] < bottom and edges[3] > 0
        length += _length_at_most(polygon, edges)
    if length > _LONGEST_OUTLINE:
        raise MasqclipError(f"its outline is {length:.2g} pixels long; draw it anew")
    return polygons if inside else None


def _are_near(polygon: list[float], edges: tuple[float, ...]) -> bool:
    """Whether all numbers are such, and none is too large."""
    try:
        finite = math.isfinite(sum(polygon))
    except OverflowError:
        return False
    return finite and all(-_FARTHEST < edge < _FARTHEST for edge in edges)


def _length_at_most(polygon: list[float], edges: tuple[float, ...]) -> float:
    """A bound of the outline's length, in pixels: itself, where a quicker one is too large."""
    left, right, top, bottom = edges
    quick = len(polygon) / 2 * (right - left + bottom - top)
    if quick <= _LONGEST_OUTLINE:
        return quick
    corners = np.asarray(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(corners - np.roll(corners, 1, axis=0)).sum())


def _tidy_rle(rle: Mapping[str, Any], height: int, width: int) -> dict[str, Any] | None:
    try:
        rows, columns = (int(side) for side in rle["size"])
        counts = rle["counts"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MasqclipError(f"an RLE needs 'size' and 'counts' ({error!r:.100})") from error
    if not isinstance(counts, str | list):
        raise MasqclipError(f"the counts of an RLE are {counts!r:.60}; give a string or a list")
    if height and width and (rows, columns) != (height, width):
        raise MasqclipError(
            f"a mask of {rows} x {columns} pixels (height x width) stands in "
            f"the annotations of a picture of {height} x {width}"
        )
    if min(rows, columns) < 1 or rows * columns > _MAX_RLE_PIXELS:
        raise MasqclipError(f"an RLE has the size {rows} x {columns}")
    if isinstance(counts, list):
        try:
            whole = [int(count) for count in counts]
            even = all(w == float(c) for w, c in zip(whole, counts, strict=True))
        except (TypeError, ValueError, OverflowError):
            even = False
        if not even:
            raise MasqclipError("an RLE's counts are no whole numbers")
        counts = whole
    tidy = {"size": [rows, columns], "counts": counts}
    return tidy if rle_counts(tidy)[1::2].any() else None


def _outlines(segmentation: Any) -> list[list[float]]:
    """The numbers of each polygon, x and y by turns."""
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        raise MasqclipError(f"it is {segmentation!r:.60}")
    parts = list(segmentation)
    if parts and all(_is_scalar(part) for part in parts):
        parts = [parts]  # one polygon, outside of a list
    elif len(parts) > 2 and all(_is_pair(part) for part in parts):
        parts = [parts]  # one polygon, of pairs
    return [_numbers(part) for part in parts]


def _numbers(polygon: Any) -> list[float]:
    if not isinstance(polygon, list):
        raise MasqclipError(f"one of its polygons is {polygon!r:.60}, no list of x and y")
    if polygon and all(_is_pair(corner) for corner in polygon):
        polygon = [number for corner in polygon for number in corner]
    if len(polygon) % 2:
        raise MasqclipError(f"one of its polygons has {len(polygon)} numbers; x and y are two")
    if {int, float}.issuperset(map(type, polygon)):
        return polygon
    try:
        return [float(_scalar(number)) for number in polygon]
    except (TypeError, ValueError, OverflowError) as error:
        raise MasqclipError(f"one of its polygons is no list of x and y ({error})") from error


def _scalar(number: Any) -> Any:
    if not _is_scalar(number):
        raise TypeError(f"{number!r:.60} is no number")
    return number


def _is_scalar(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_scalar, value))


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
