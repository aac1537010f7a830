"""Readers of LabelMe, VOC and CVAT, written from those formats' own definitions."""

from __future__ import annotations

import base64
import io
from pathlib import PureWindowsPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from masqclip.data.segmentations import segmentation_mask

Shape = tuple[str, np.ndarray, int | None]


def read_labelme(document: dict[str, Any]) -> list[Shape]:
    """Shapes of a LabelMe file as (label, mask, group), by what its loader asserts of them."""
    for key in ("version", "imageData", "imagePath", "shapes", "imageHeight", "imageWidth"):
        assert key in document
    assert PureWindowsPath(document["imagePath"]).as_posix() == document["imagePath"]
    size = document["imageHeight"], document["imageWidth"]
    if document["imageData"] is not None:
        picture = Image.open(io.BytesIO(base64.b64decode(document["imageData"])))
        assert picture.size == size[::-1]
    shapes = []
    for shape in document["shapes"]:
        points = shape["points"]
        assert isinstance(shape["label"], str)
        assert points
        assert all(len(p) == 2 and all(isinstance(v, int | float) for v in p) for p in points)
        assert isinstance(shape["flags"], dict)
        assert isinstance(shape["description"], str)
        assert shape["group_id"] is None or isinstance(shape["group_id"], int)
        mask = np.zeros(size, bool)
        if shape["shape_type"] == "polygon":
            assert len(points) > 2
            drawn = Image.new("L", size[::-1])  # as LabelMe draws it
            ImageDraw.Draw(drawn).polygon([tuple(p) for p in points], outline=1, fill=1)
            mask = np.asarray(drawn).astype(bool)
        elif shape["shape_type"] == "rectangle":
            (x0, y0), (x1, y1) = points
            mask[y0:y1, x0:x1] = True
        else:
            assert shape["shape_type"] == "mask"
            (x0, y0), (x1, y1) = points
            crop = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
            mask[y0 : y1 + 1, x0 : x1 + 1] = crop.astype(bool)
        shapes.append((shape["label"], mask, shape["group_id"]))
    return shapes


def read_voc(text: str) -> tuple[dict[str, str], list[tuple[str, tuple[int, ...]]]]:
    """What a VOC file says of its picture, and its objects: (name, 1-based inclusive box)."""
    root = ElementTree.fromstring(text)
    assert root.tag == "annotation"
    about = {tag: root.findtext(tag) or "" for tag in ("folder", "filename", "segmented")}
    about |= {tag: root.findtext(f"size/{tag}") or "" for tag in ("width", "height", "depth")}
    assert root.findtext("source/database")
    objects = []
    for thing in root.findall("object"):
        assert thing.findtext("pose") == "Unspecified"
        assert thing.findtext("truncated") == thing.findtext("difficult") == "0"
        edges = tuple(
            int(thing.findtext(f"bndbox/{e}") or "") for e in ("xmin", "ymin", "xmax", "ymax")
        )
        objects.append((thing.findtext("name") or "", edges))
    return about, objects


def read_cvat(text: str) -> tuple[list[str], list[tuple[str, tuple[int, int], list[Shape]]]]:
    """Labels of a CVAT file, and its images: (name, (height, width), shapes)."""
    root = ElementTree.fromstring(text)
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    labels = [label.findtext("name") or "" for label in root.findall("meta/task/labels/label")]
    images = []
    for place, image in enumerate(root.findall("image")):
        assert image.attrib["id"] == str(place)
        size = int(image.attrib["height"]), int(image.attrib["width"])
        shapes = [_cvat_shape(shape, size) for shape in image]
        images.append((image.attrib["name"], size, shapes))
    return labels, images


def _cvat_shape(shape: ElementTree.Element, size: tuple[int, int]) -> Shape:
    mask = np.zeros(size, bool)
    get = shape.attrib
    assert get["occluded"] == get["z_order"] == "0"
    if shape.tag == "mask":
        left, top, width, height = (int(get[key]) for key in ("left", "top", "width", "height"))
        runs = list(map(int, get["rle"].split(",")))
        assert sum(runs) == width * height
        assert all(run > 0 for run in runs[1:])
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        mask[top : top + height, left : left + width] = inside
    elif shape.tag == "polygon":
        numbers = [float(v) for pair in get["points"].split(";") for v in pair.split(",")]
        mask = segmentation_mask([numbers], *size)
    else:
        assert shape.tag == "box"
        x0, y0, x1, y1 = (round(float(get[key])) for key in ("xtl", "ytl", "xbr", "ybr"))
        mask[y0:y1, x0:x1] = True
    group = get.get("group_id")
    return get["label"], mask, None if group is None else int(group)
