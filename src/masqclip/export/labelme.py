"""LabelMe's JSON: polygons, masks or boxes, and where the picture is.

- (0, 0) is the picture's upper left corner. LabelMe draws a polygon with its outline, and cuts off
  fractions: so polygons go through the outermost pixels, near their centres, and what is drawn is
  the mask, holes filled, to a pixel along slanted edges.
- The polygons of one mask's parts are a group.
- A mask is a PNG of its box, whose last row and column LabelMe counts in.
- LabelMe turns pictures upright as they are read here, so that both mean the same pixels.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from masqclip.data.label_maps import png_bytes
from masqclip.export.polygons import mask_polygons
from masqclip.export.segment import ExportedSegment, check_kind
from masqclip.export.yolo import PIXEL_CENTRE, PIXEL_TOLERANCE

LabelMeKind = Literal["polygon", "mask", "rectangle"]

# The version of LabelMe whose files these are: the first that knows masks.
_VERSION = "5.3.0"


class LabelMeShape(TypedDict):
    """One polygon, mask or box; ``points`` are [x, y] in pixels."""

    label: str
    points: list[list[float]]
    group_id: int | None
    description: str
    shape_type: LabelMeKind
    flags: dict[str, bool]
    mask: str | None


class LabelMeDocument(TypedDict):
    """A file of LabelMe; ``imageData`` is the picture itself in base 64, or null."""

    version: str
    flags: dict[str, bool]
    shapes: list[LabelMeShape]
    imagePath: str
    imageData: str | None
    imageHeight: int
    imageWidth: int


def labelme_document(
    segments: Iterable[ExportedSegment],
    image: NDArray[np.uint8],
    *,
    image_path: str,
    embed_image: bool,
    kind: LabelMeKind = "polygon",
) -> LabelMeDocument:
    """The file of one picture; empty masks are left out.

    Args:
        segments: of the picture.
        image: [H,W,3].
        image_path: of the picture's file, from the folder that the JSON lies in.
        embed_image: put the picture into the file, as PNG.
        kind: ``polygon`` is easy to edit, and its holes are filled; ``mask`` is exact;
            ``rectangle``, the box.

    Raises:
        MasqclipError: there is no such kind.
    """
    check_kind(kind, get_args(LabelMeKind))
    shapes = [
        shape
        for group, segment in enumerate(segments, start=1)
        if segment.area
        for shape in _shapes(segment, kind, group)
    ]
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": base64.b64encode(png_bytes(image)).decode() if embed_image else None,
        "imageHeight": image.shape[0],
        "imageWidth": image.shape[1],
    }


def _shapes(segment: ExportedSegment, kind: LabelMeKind, group: int) -> list[LabelMeShape]:
    x0, y0, x1, y1 = segment.box
    mask, number = None, None
    outlines: list[list[list[float]]]
    if kind == "polygon":
        rings = mask_polygons(segment.mask, tolerance=PIXEL_TOLERANCE, outline="pixels")
        # LabelMe reads no polygon of fewer than three points.
        outlines = [
            (np.resize(ring, (max(3, len(ring)), 2)) + PIXEL_CENTRE).tolist() for ring in rings
        ]
        number = group if len(outlines) > 1 else None
    elif kind == "mask":
        crop = segment.mask[y0:y1, x0:x1].astype(np.uint8) * np.uint8(255)
        mask = base64.b64encode(png_bytes(crop)).decode()
        outlines = [[[x0, y0], [x1 - 1, y1 - 1]]]
    else:
        outlines = [[[x0, y0], [x1, y1]]]
    return [
        {
            "label": segment.name,
            "points": outline,
            "group_id": number,
            "description": "",
            "shape_type": kind,
            "flags": {},
            "mask": mask,
        }
        for outline in outlines
    ]


def picture_path(picture: Path, document: Path | None) -> str:
    """The path of a picture as a file of LabelMe names it: from that file's folder, with slashes.

    Args:
        picture: where it is.
        document: where the file goes; None = beside the picture.
    """
    if document is None:
        return picture.name
    try:
        return Path(os.path.relpath(picture, document.parent)).as_posix()
    except ValueError:  # another drive
        return picture.absolute().as_posix()
