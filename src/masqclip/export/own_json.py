"""The package's own JSON of a result: everything but the picture."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from masqclip.data.rle import Rle, encode_rle
from masqclip.export.coco import box_xywh
from masqclip.export.segment import ExportedSegment


class SegmentJson(TypedDict):
    """One segment; ``bbox`` is x, y, width, height in pixels, ``score`` has four digits.

    ``suggestion``, of what was found without being asked for: the name that comes nearest.
    """

    id: int
    name: str
    class_id: int
    score: float
    thing: bool
    area: int
    bbox: list[float]
    segmentation: Rle
    suggestion: NotRequired[str]


class SegmentationJson(TypedDict):
    """A result; ``height`` and ``width`` are the picture's, in pixels.

    ``kinds``, where the vocabulary has parents: for a name what it is a kind of, the widest first.
    """

    task: str
    height: int
    width: int
    vocabulary: list[str]
    notes: list[str]
    segments: list[SegmentJson]
    kinds: NotRequired[dict[str, list[str]]]


def segment_json(segment: ExportedSegment) -> SegmentJson:
    """One segment, ready for `json.dumps`."""
    document: SegmentJson = {
        "id": segment.id,
        "name": segment.name,
        "class_id": segment.class_id,
        "score": round(segment.score, 4),
        "thing": segment.thing,
        "area": segment.area,
        "bbox": box_xywh(segment.box),
        "segmentation": encode_rle(segment.mask),
    }
    if segment.suggestion is not None:
        document["suggestion"] = segment.suggestion
    return document
