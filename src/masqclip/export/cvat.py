"""CVAT for images 1.1: masks, polygons or boxes as XML.

- A mask is the run lengths of its box, row by row, the first run outside; a box's ends are
  exclusive, and (0, 0) is the picture's upper left corner.
- The polygons of one mask's parts are a group; their holes are filled.
- CVAT finds a picture by its name in the task, and a label by its own: both must be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from masqclip.export.polygons import mask_polygons
from masqclip.export.segment import ExportedSegment, check_kind
from masqclip.export.xml_text import add_text, check_xml, xml_document

CvatKind = Literal["mask", "polygon", "box"]

_TOOL = "CVAT"


def cvat_xml(
    pictures: Iterable[tuple[str, tuple[int, int], Sequence[ExportedSegment]]],
    names: Sequence[str],
    *,
    kind: CvatKind = "mask",
) -> str:
    """The annotations of pictures; empty masks are left out.

    Args:
        pictures: for each the name of its file, its (height, width), and its segments.
        names: the labels.
        kind: ``mask`` is exact; ``polygon`` is easier to edit, and its holes are filled; ``box``.

    Raises:
        MasqclipError: there is no such kind, or a name holds a character that XML cannot.
    """
    check_kind(kind, get_args(CvatKind))
    pictures = list(pictures)
    root = ElementTree.Element("annotations")
    add_text(root, "version", "1.1")
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    add_text(task, "size", len(pictures))
    add_text(task, "mode", "annotation")
    labels = ElementTree.SubElement(task, "labels")
    for name in names:
        label = ElementTree.SubElement(labels, "label")
        add_text(label, "name", check_xml(name, what="the name", tool=_TOOL))
        add_text(label, "attributes", "")
    for place, (file, (height, width), segments) in enumerate(pictures):
        named = check_xml(file, what="the file name", tool=_TOOL)
        size = {"width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", {"id": str(place), "name": named, **size})
        for group, segment in enumerate(segments, start=1):
            if segment.area:
                _add_shapes(image, segment, kind, group)
    return xml_document(root)


def _add_shapes(
    image: ElementTree.Element, segment: ExportedSegment, kind: CvatKind, group: int
) -> None:
    common = {
        "label": check_xml(segment.name, what="the name", tool=_TOOL),
        "source": "auto",
        "occluded": "0",
        "z_order": "0",
    }
    x0, y0, x1, y1 = segment.box
    if kind == "box":
        box = {"xtl": f"{x0}", "ytl": f"{y0}", "xbr": f"{x1}", "ybr": f"{y1}"}
        ElementTree.SubElement(image, "box", common | box)
        return
    if kind == "mask":
        place = {"left": f"{x0}", "top": f"{y0}", "width": f"{x1 - x0}", "height": f"{y1 - y0}"}
        runs = ", ".join(map(str, row_runs(segment.mask[y0:y1, x0:x1])))
        ElementTree.SubElement(image, "mask", common | {"rle": runs} | place)
        return
    polygons = mask_polygons(segment.mask)
    if len(polygons) > 1:
        common["group_id"] = str(group)
    for polygon in polygons:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in polygon.tolist())
        ElementTree.SubElement(image, "polygon", common | {"points": points})


def row_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of a mask's runs, row by row, outside and inside by turns; the first is outside."""
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(changes, prepend=0, append=mask.size).tolist()
    return runs
