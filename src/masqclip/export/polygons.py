"""Masks as polygons, for the tools that know no run lengths.

There are two conventions, and each loses nothing where it is drawn as it is meant:

- ``edges``: continuous coordinates, (0, 0) the picture's upper left corner and (width, height) its
  lower right one. A lone pixel (x, y) is the square from (x, y) to (x + 1, y + 1), and a polygon
  holds the pixels whose centres lie inside it. Polygons that people draw are of this kind.
- ``pixels``: the outermost pixels of the mask, one after the other, as OpenCV's contours are. A
  polygon holds the pixels inside it and those that its outline passes over.

A polygon has no holes: those of a mask are filled, unless their own contours are asked for.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError

#: Pixels that simplification may move a contour by: a diagonal loses its stairs (0.71 of a pixel).
TOLERANCE = 0.75

Outline = Literal["edges", "pixels"]

_ABOUT_AS_FAR = 1 - 1e-9  # of the farthest point's distance: distances are rounded

# Directions along the edges of pixels, clockwise: right, down, left, up, as steps (x, y); and, from
# the corner where such an edge begins, the pixel on its right hand.
_STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
_RIGHT_HAND = np.array([(0, 0), (-1, 0), (-1, -1), (0, -1)])


def mask_polygons(
    mask: NDArray[np.bool_],
    *,
    tolerance: float = TOLERANCE,
    outline: Outline = "edges",
    holes: bool = False,
) -> list[NDArray[np.float64]]:
    """The outer contours of a mask, the largest first.

    Pixels that touch at a corner belong together.

    Args:
        mask: [H,W].
        tolerance: pixels that a contour may be moved by to have fewer points (Douglas and
            Peucker); 0 keeps all of it.
        outline: what the contour is made of, see above.
        holes: whether the contours of holes follow, which turn the other way.

    Returns:
        One [N,2] array of x, y per part, clockwise on the screen, not closed. N is 3 or more for
        ``edges``; of ``pixels``, a part of one or two has as many points.

    Raises:
        MasqclipError: the tolerance is no number of pixels.
    """
    number = isinstance(tolerance, int | float | np.number) and not isinstance(tolerance, bool)
    if not number or not tolerance >= 0:  # of NaN no comparison holds
        raise MasqclipError(f"tolerance {tolerance!r:.80}: give a number of pixels, 0 or more")
    found = []
    for points, headings in _contours(mask):
        ring = points[headings != np.roll(headings, 1)]
        area = _signed_area(ring)
        if outline == "pixels":
            chain = points + _RIGHT_HAND[headings]
            ring = chain[(chain != np.roll(chain, 1, axis=0)).any(axis=1)]
            ring = ring if len(ring) else chain[:1]
        if area > 0 or holes:
            found.append((area, ring))
    found.sort(key=lambda pair: pair[0], reverse=True)
    return [simplify_ring(ring, tolerance) for _, ring in found]


def simplify_ring(ring: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Leave out points of a closed ring [N,2] that lie within `tolerance` of what remains.

    A ring that would shrink to a line stays as it is.
    """
    if tolerance <= 0 or len(ring) <= 3:
        return ring
    # What is farthest from any point is a corner: from one of them to the one farthest from it.
    ring = np.roll(ring, -_farthest(ring), axis=0)
    far = _farthest(ring)
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = distances.max()
        if worst > tolerance:
            # Of several that are about as far, the middle one: the teeth of a comb would else be
            # cut off one by one, and the rest be measured again each time.
            far_ones = np.flatnonzero(distances >= _ABOUT_AS_FAR * worst)
            middle = first + 1 + int(far_ones[len(far_ones) // 2])
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    kept = ring[keep[:-1]]
    return kept if len(kept) >= 3 else ring


def _contours(
    mask: NDArray[np.bool_],
) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Every closed contour, edge by edge, with the mask on its right hand.

    Returns:
        For each, [N,2] of x, y, where the edges begin, and [N], their directions.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return []
    top, left = rows[0], columns[0]
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(bool), 1)
    # Around every corner of the grid: pixels above and below it, to its left and right.
    above_left, above_right = inside[:-1, :-1], inside[:-1, 1:]
    below_left, below_right = inside[1:, :-1], inside[1:, 1:]
    # leaves[d]: from this corner, an edge of the contour leaves in direction d.
    leaves = np.stack(
        [
            below_right & ~above_right,
            below_left & ~below_right,
            above_left & ~below_left,
            above_right & ~above_left,
        ]
    )
    direction, y, x = np.nonzero(leaves)
    end_x, end_y = x + _STEPS[direction, 0], y + _STEPS[direction, 1]
    # Where two contours meet at a corner, turning left joins the pixels that touch there.
    turns = [(direction + turn) % 4 for turn in (-1, 0, 1)]
    onward = np.select([leaves[turn, end_y, end_x] for turn in turns], turns)
    edge_at = np.empty(leaves.shape, np.int64)
    edge_at[direction, y, x] = np.arange(len(direction))
    successors = edge_at[onward, end_y, end_x].tolist()
    points = np.stack([x + left, y + top], axis=1).astype(np.float64)
    contours = []
    seen = [False] * len(successors)
    for start in range(len(successors)):
        edges, edge = [], start
        while not seen[edge]:
            seen[edge] = True
            edges.append(edge)
            edge = successors[edge]
        if edges:
            contours.append((points[edges], direction[edges]))
    return contours


def _signed_area(ring: NDArray[np.float64]) -> float:
    """Square pixels; positive where the ring runs clockwise on the screen."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _farthest(ring: NDArray[np.float64]) -> int:
    """The point that is farthest from the first."""
    return int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))


def _distances(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of points [N,2] from the segment between two others."""
    along = end - start
    length = float(along @ along)
    where = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.asarray(np.hypot(*(points - start - where[:, None] * along).T))
