"""The text files of YOLO segmentation: a line per mask, and the ``data.yaml`` of a folder.

A line is the class's number and one polygon, ``x y`` after ``x y``, each as a share of the
picture's width or height. One polygon for one mask: its parts, where something else cuts it in two,
and its holes are joined by seams. Trainers draw polygons with their outlines, so a polygon follows
the outermost pixels, as OpenCV's contours do, and the drawn mask is the mask. Its points are the
centres of pixels: Ultralytics' reader cuts off the fractions, and what stood at a pixel's corner
would fall to its neighbour above or to the left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError
from masqclip.export.polygons import mask_polygons

#: Pixels that simplification may move a contour by: so little that a line drawn from pixel to pixel
#: is half a pixel off at most, whatever its slope, and passes over the same ones.
PIXEL_TOLERANCE = 0.35

#: A centre lies at 0.5. So much less, and readers that round come to the same pixel as those that
#: cut off; it is more than the sixth digit of a share is worth in the longest row of pixels.
PIXEL_CENTRE = 0.48

# How the files begin that Ultralytics' trainers open, in all their versions, and the suffixes under
# which they look for them; the first is the usual one.
_OPENED = (
    (re.compile(rb"\xff\xd8\xff"), (".jpg", ".jpeg")),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), (".png",)),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), (".webp",)),
    (re.compile(rb"BM"), (".bmp",)),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), (".tif", ".tiff")),
)
#: Bytes of a file that tell whether it is one of these.
HEAD_BYTES = 12

_FEW_POINTS = 256  # whose distances from each other are all computed


def yolo_line(
    mask: NDArray[np.bool_], class_id: int, *, tolerance: float = PIXEL_TOLERANCE
) -> str | None:
    """One mask [H,W] as a line without its end; None for an empty mask.

    Args:
        mask: of the segment.
        class_id: the name's place in the vocabulary.
        tolerance: pixels that simplification may move the contour by.
    """
    polygons = mask_polygons(mask, tolerance=tolerance, outline="pixels", holes=True)
    if not polygons:
        return None
    polygon = join_polygons(polygons)
    # With fewer than three points a line would be read as a box.
    polygon = np.resize(polygon, (max(3, len(polygon)), 2))
    shares = (polygon + PIXEL_CENTRE) / (mask.shape[1], mask.shape[0])
    return " ".join([str(class_id), *(f"{share:.6f}" for share in shares.ravel())])


def join_polygons(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Several polygons as one [N,2]: a seam goes from each to the nearest corner of those before
    it, and back.
    """
    if len(polygons) == 1:
        return polygons[0]
    points = np.concatenate(polygons)
    starts = np.cumsum([0, *map(len, polygons)])
    detours: dict[int, list[int]] = {}  # from a corner, around what hangs on it, and back
    seams = _nearest_corners(points, starts)
    for (begin, end), (here, there) in zip(pairwise(starts[1:].tolist()), seams, strict=True):
        around = [*range(there, end), *range(begin, there + 1)]
        detours.setdefault(here, []).extend([*around, here])
    order: list[int] = []
    under_way = [iter(range(len(polygons[0])))]
    while under_way:
        corner = next(under_way[-1], None)
        if corner is None:
            under_way.pop()
            continue
        order.append(corner)
        if corner in detours:
            under_way.append(iter(detours.pop(corner)))
    return points[order]


def _nearest_corners(
    points: NDArray[np.float64], starts: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """For each polygon but the first: which corner of those before it is nearest to which of its
    own, both as places in `points`.

    Halves against halves: a polygon is compared with what lies before it in its own half, and all
    of the later half with all of the earlier one, so that the work grows little faster than the
    points do.

    Args:
        points: [N,2] of all polygons, one after the other.
        starts: [P+1] where each begins, and the end of the last.
    """
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    nearest, partners = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    spans = [(0, len(starts) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        begin, end = starts[first], starts[last]
        if end - begin <= _FEW_POINTS:
            few, whose = points[begin:end], owners[begin:end]
            distances = np.linalg.norm(few[:, None] - few, axis=-1)
            distances[whose[:, None] <= whose] = np.inf
            begin_later, corners = begin, distances.argmin(axis=1)
            distances = distances.min(axis=1)
        else:
            from scipy.spatial import cKDTree  # slow to import, and few masks need it

            middle = int(np.searchsorted(starts, (begin + end) // 2))
            middle = min(max(middle, first + 1), last - 1)
            begin_later = starts[middle]
            distances, corners = cKDTree(points[begin:begin_later]).query(points[begin_later:end])
            spans += [(first, middle), (middle, last)]
        closer = np.flatnonzero(distances < nearest[begin_later:end])
        nearest[begin_later + closer] = distances[closer]
        partners[begin_later + closer] = begin + corners[closer]
    for begin, end in pairwise(starts[1:].tolist()):
        own = begin + int(nearest[begin:end].argmin())
        yield int(partners[own]), own


def trainer_suffix(suffix: str, head: bytes) -> str | None:
    """The suffix under which trainers open a picture's file as it is; None where they open it under
    none, so that it has to be converted.

    Args:
        suffix: of the file, with its dot.
        head: how the file begins, `HEAD_BYTES` of it.
    """
    suffix = suffix.lower()
    usual = next((suffixes for start, suffixes in _OPENED if start.match(head)), None)
    if usual is None:
        return None
    # A picture under the suffix of another kind is opened all the same: they look into it.
    return suffix if any(suffix in suffixes for _, suffixes in _OPENED) else usual[0]


def data_yaml(names: Sequence[str], *, train: str, val: str) -> str:
    """The file that tells a trainer where pictures lie, relative to itself, and what the names are.

    Args:
        names: of the classes, in the order of their numbers.
        train: the folder of pictures to train on.
        val: the folder of pictures to validate on.

    Raises:
        MasqclipError: a name holds half a character (a lone surrogate), which no file can.
    """
    lines = [f"  {i}: {_yaml_string(name)}" for i, name in enumerate(names)]
    return "\n".join([f"train: {train}", f"val: {val}", "names:", *lines, ""])


def _yaml_string(text: str) -> str:
    """A text in quotes. A JSON string is one of YAML, but for what YAML wants escaped."""
    if half := re.search("[\ud800-\udfff]", text):
        raise MasqclipError(
            f"the name {text!r:.80} holds half a character, {half[0]!r}: leave it out"
        )
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]",
        lambda found: f"\\u{ord(found[0]):04x}",
        json.dumps(text, ensure_ascii=False),
    )
