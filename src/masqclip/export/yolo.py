"""The text files of YOLO segmentation: a line per mask, and the ``data.yaml`` of a folder.

A line is the class's number and one polygon, ``x y`` after ``x y``, each as a share of the
picture's width or height. One polygon for one mask: its parts, where something else cuts it in two,
and its holes are joined by seams. Trainers draw polygons with their outlines, so a polygon follows
the outermost pixels, as OpenCV's contours do, and the drawn mask is the mask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError
from masqclip.export.polygons import TOLERANCE, mask_polygons


def yolo_line(
    mask: NDArray[np.bool_], class_id: int, *, tolerance: float = TOLERANCE
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
    shares = polygon / (mask.shape[1], mask.shape[0])
    return " ".join([str(class_id), *(f"{share:.6f}" for share in shares.ravel())])


def join_polygons(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Several polygons as one [N,2]: a seam goes from each to the nearest corner, and back."""
    joined = polygons[0]
    for polygon in polygons[1:]:
        distances = np.linalg.norm(joined[:, None] - polygon, axis=-1)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        joined = np.concatenate(
            [joined[: here + 1], polygon[there:], polygon[: there + 1], joined[here:]]
        )
    return joined


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
