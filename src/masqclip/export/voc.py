"""PASCAL VOC: the boxes of a picture as XML.

As the development kit of VOC 2012 has it: pixels are counted from 1 and both ends of a box lie
inside it, so that the box of a whole picture goes from 1 to its width. The kit has no scores, and
what it asks of people (``pose``, ``truncated``, ``difficult``) is left at its plain value.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from masqclip.export.segment import ExportedSegment
from masqclip.export.xml_text import add_text, check_xml, xml_document

_TOOL = "VOC"


def voc_xml(
    segments: Iterable[ExportedSegment], *, size: tuple[int, int], name: str, folder: str = ""
) -> str:
    """The annotation of one picture; empty masks have no box and are left out.

    Args:
        segments: of the picture.
        size: its (height, width).
        name: of its file.
        folder: the name of the folder that it lies in.

    Raises:
        MasqclipError: a name holds a character that XML cannot.
    """
    root = ElementTree.Element("annotation")
    add_text(root, "folder", check_xml(folder, what="the folder", tool=_TOOL))
    add_text(root, "filename", check_xml(name, what="the file name", tool=_TOOL))
    add_text(ElementTree.SubElement(root, "source"), "database", "masqclip")
    measures = ElementTree.SubElement(root, "size")
    for tag, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        add_text(measures, tag, value)
    add_text(root, "segmented", 0)
    for segment in segments:
        if not segment.area:
            continue
        x0, y0, x1, y1 = segment.box
        thing = ElementTree.SubElement(root, "object")
        add_text(thing, "name", check_xml(segment.name, what="the name", tool=_TOOL))
        add_text(thing, "pose", "Unspecified")
        add_text(thing, "truncated", 0)
        add_text(thing, "difficult", 0)
        box = ElementTree.SubElement(thing, "bndbox")
        for tag, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            add_text(box, tag, value)
    return xml_document(root)


def picture_place(path: Path | None, image_name: str | None) -> tuple[str, str]:
    """What a picture's file is called, and the name of the folder that it lies in.

    Args:
        path: where it is, if it is a file.
        image_name: what it is to be called instead.
    """
    if image_name is not None or path is None:
        return image_name or "image.png", ""
    return path.name, path.absolute().parent.name
