"""Label Studio's formats: regions of a prediction, and the labelling interface that shows them.

A region is a mask painted with the brush or pixel by pixel (a bitmask), both of which are exact, a
polygon, which is easier to edit, a rectangle, which is the mask's box, or an ellipse of the mask's
middle, area and axes. Sizes in a region are shares of the picture in per cent: of its width
across, of its height down. An ellipse lies there by its middle, though Label Studio's pages speak
of a corner, and is turned clockwise in pixels, after its radii have become such.

Where shape and label are controls of their own (``Brush`` beside ``Labels``), a region is two
entries of one id, and both hold the shape.

A brush mask is a run-length code of the RGBA bytes of the painted layer, as the library rle-pack
writes it; Label Studio reads the alpha byte of each pixel. In bits, the most significant first:

- 32: the number of words; 5: bits of a word, less one; 4 times 4: the four sizes of a count, in
  bits, less one;
- then records: 1: whether it is a run of one word; 2: which size its count has; the count, less
  one; and the word (a record that is no run holds that many words, and is not needed here).
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from masqclip.errors import MasqclipError
from masqclip.export.polygons import mask_polygons
from masqclip.export.xml_text import check_xml

RegionKind = Literal["brush", "bitmask", "polygon", "rectangle", "ellipse"]
#: What the tags of the labelling interface are called: the labels, and the picture.
FROM_NAME, TO_NAME = "label", "image"

# What a reader would take for blanks.
_ESCAPED = {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
# Schemes of addresses that are read as a browser reads them.
_ENCODED_SCHEMES = ("http", "https", "ftp", "file")
_WORD_BITS = 8
_COUNT_BITS = np.array([4, 8, 12, 16])
_LONGEST_RUN = 1 << 16


class LabelStudioValue(TypedDict, total=False):
    """A region's shape and label.

    The shape is ``rle`` (see above); ``imageDataURL``, a PNG that is black where the mask is and
    transparent elsewhere; or, in per cent, ``points`` of x and y, a rectangle's corner and sides,
    or an ellipse's middle and radii. ``rotation`` is in degrees.
    """

    format: str
    rle: list[int]
    imageDataURL: str
    points: list[list[float]]
    closed: bool
    x: float
    y: float
    width: float
    height: float
    radiusX: float
    radiusY: float
    rotation: float
    labels: list[str]
    brushlabels: list[str]
    bitmasklabels: list[str]
    polygonlabels: list[str]
    rectanglelabels: list[str]
    ellipselabels: list[str]


class LabelStudioRegion(TypedDict):
    """An entry of a prediction's ``result``."""

    id: str
    type: str
    from_name: str
    to_name: str
    original_width: int
    original_height: int
    image_rotation: int
    score: float
    value: LabelStudioValue
    item_index: NotRequired[int]  # the page, of a task with several


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """A mask [H,W] as Label Studio's brush stroke: the bytes of its ``rle``, 0..255 each."""
    runs, painted = _runs(mask)
    counts = 4 * runs - 1  # a pixel is four bytes, all 0 or all 255
    size = np.searchsorted(_COUNT_BITS, np.ceil(np.log2(counts + 1)))
    count_bits = _COUNT_BITS[size]
    records = (4 + size) << count_bits | counts  # the leading bit says that it is a run
    records = records << _WORD_BITS | np.where(painted, 255, 0)
    header = [4 * mask.size, _WORD_BITS - 1, *(_COUNT_BITS - 1)]
    values = np.concatenate([np.array(header, np.int64), records])
    widths = np.concatenate([[32, 5, 4, 4, 4, 4], 3 + count_bits + _WORD_BITS])
    # Every value's bits, the most significant first, one value after the other.
    ends = np.repeat(np.cumsum(widths), widths)
    bits = np.repeat(values, widths) >> (ends - 1 - np.arange(len(ends))) & 1
    packed: list[int] = np.packbits(bits.astype(np.uint8)).tolist()
    return packed


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lengths of the mask's runs in pixels, row by row, and whether each is painted."""
    flat = mask.ravel().astype(bool)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    longest = _LONGEST_RUN // 4
    # A run too long for its count goes on as another one.
    starts = np.union1d(changes, np.arange(0, flat.size, longest))
    return np.diff(starts, append=flat.size), flat[starts]


def mask_regions(
    mask: NDArray[np.bool_],
    *,
    region_id: str,
    name: str,
    score: float,
    kind: RegionKind = "brush",
    from_name: str = FROM_NAME,
    to_name: str = TO_NAME,
    shape_name: str = "",
) -> list[LabelStudioRegion]:
    """One mask as entries of a prediction's ``result``.

    A mask is one region, but polygons are one for each of its parts.

    Args:
        mask: [H,W] of the segment.
        region_id: unlike any other of the picture.
        name: the label.
        score: 0..1.
        kind: ``brush``, ``bitmask``, ``polygon``, ``rectangle`` or ``ellipse``; holes of polygons
            are filled.
        from_name: the name of the tag that holds the labels.
        to_name: the name of the tag that shows the picture.
        shape_name: the name of the tag that draws the shape, where the labels are those of a tag
            ``Labels``; empty where one tag does both.
    """
    height, width = mask.shape
    shapes = _shapes(mask, kind)
    entries: list[LabelStudioRegion] = []
    for part, shape in enumerate(shapes, start=1):

        def entry(
            type_: str, tag: str, value: LabelStudioValue, part: int = part
        ) -> LabelStudioRegion:
            return {
                "id": region_id if len(shapes) == 1 else f"{region_id}-{part}",
                "type": type_,
                "from_name": tag,
                "to_name": to_name,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": score,
                "value": value,
            }

        if shape_name:
            entries.append(entry(kind, shape_name, shape))
            entries.append(entry("labels", from_name, {**shape, "labels": [name]}))
        else:
            entries.append(entry(f"{kind}labels", from_name, _labelled(shape, kind, name)))
    return entries


def _labelled(shape: LabelStudioValue, kind: RegionKind, name: str) -> LabelStudioValue:
    if kind == "brush":
        return {**shape, "brushlabels": [name]}
    if kind == "bitmask":
        return {**shape, "bitmasklabels": [name]}
    if kind == "polygon":
        return {**shape, "polygonlabels": [name]}
    if kind == "rectangle":
        return {**shape, "rectanglelabels": [name]}
    return {**shape, "ellipselabels": [name]}


def _shapes(mask: NDArray[np.bool_], kind: RegionKind) -> list[LabelStudioValue]:
    """What a mask looks like in a region's ``value``."""
    height, width = mask.shape
    if kind == "brush":
        return [{"format": "rle", "rle": brush_rle(mask)}]
    if kind == "bitmask":
        return [{"imageDataURL": _bitmask_address(mask)}]
    if kind == "polygon":
        return [
            {"points": (polygon * (100 / width, 100 / height)).round(4).tolist(), "closed": True}
            for polygon in mask_polygons(mask)
        ]
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return []
    if kind == "ellipse":
        return [_ellipse(mask)]
    x, y = 100 * columns[0] / width, 100 * rows[0] / height
    right, bottom = 100 * (columns[-1] + 1) / width, 100 * (rows[-1] + 1) / height
    return [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "width": round(float(right - x), 4),
            "height": round(float(bottom - y), 4),
            "rotation": 0,
        }
    ]


def _bitmask_address(mask: NDArray[np.bool_]) -> str:
    """A mask as the ``data:`` address of a PNG of two colours: black, and none at all."""
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette([0] * 6)
    file = io.BytesIO()
    picture.save(file, "PNG", bits=1, transparency=b"\x00\xff")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _ellipse(mask: NDArray[np.bool_]) -> LabelStudioValue:
    """The ellipse that lies as a mask does: of the same moments, made as large as the mask."""
    height, width = mask.shape
    ys, xs, area = np.arange(height), np.arange(width), int(mask.sum())
    down, across = mask.sum(axis=1), mask.sum(axis=0)  # pixels of each row and column
    y, x = down @ ys / area, across @ xs / area
    # Row by row: places of all pixels of a large picture take gigabytes.
    both = sum(at * int(np.flatnonzero(row).sum()) for at, row in enumerate(mask)) / area - x * y
    # A pixel is a square, not a point: it has an extent of its own.
    spread = np.array([[across @ (xs - x) ** 2 / area, both], [both, down @ (ys - y) ** 2 / area]])
    spread += np.eye(2) / 12
    variances, directions = np.linalg.eigh(spread)
    # Of an ellipse without gaps an axis is twice the deviation along it.
    short, long = axes = 2 * np.sqrt(variances)
    short, long = axes * np.sqrt(area / (np.pi * short * long))
    angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1])) % 180
    return {
        "x": round(100 * (float(x) + 0.5) / width, 4),
        "y": round(100 * (float(y) + 0.5) / height, 4),
        "radiusX": round(100 * float(long) / width, 4),
        "radiusY": round(100 * float(short) / height, 4),
        "rotation": round(float(angle), 4),
    }


def picture_address(prefix: str, path: str) -> str:
    """Where Label Studio finds a picture.

    In the address of a web server, or of Label Studio's own local files, the path is
    percent-encoded. In that of a store (``s3://``, ``gs://``, ``azure-blob://``) it is a key, which
    Label Studio takes letter by letter.

    Args:
        prefix: what stands before the path.
        path: of the picture; bytes that are not UTF-8 are surrogates, as Python has them.

    Raises:
        MasqclipError: a key is not UTF-8.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", prefix)
    if scheme is None or scheme[1].lower() in _ENCODED_SCHEMES:
        return prefix + quote(os.fsencode(path))
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise MasqclipError(
            f"{path!r:.200}: its name is not UTF-8, and so no key of {scheme[0]}: rename it"
        ) from error
    return prefix + path


def labeling_config(colours: Mapping[str, tuple[int, int, int]], kind: RegionKind = "brush") -> str:
    """The labelling interface, as XML, for regions of this kind.

    Args:
        colours: the names, in order, and the colour (sRGB, 0..255) that each is shown in.
        kind: ``brush``, ``bitmask``, ``polygon``, ``rectangle`` or ``ellipse``.

    Raises:
        MasqclipError: a name holds a character that XML cannot.
    """
    for name in colours:
        check_xml(name, what="the name", tool="Label Studio")
    tag = f"{kind.capitalize()}Labels"
    labels = [
        f'    <Label value={quoteattr(name, _ESCAPED)} background="#{bytes(colour).hex()}"/>'
        for name, colour in colours.items()
    ]
    # Whoever paints pixels must see them.
    sharp = ' smoothing="false"' if kind == "bitmask" else ""
    lines = [
        "<View>",
        f'  <Image name="{TO_NAME}" value="$image" zoom="true"{sharp}/>',
        f'  <{tag} name="{FROM_NAME}" toName="{TO_NAME}">',
        *labels,
        f"  </{tag}>",
        "</View>",
    ]
    return "\n".join([*lines, ""])
