"""Masks in COCO's formats: result dictionaries, segments of a panoptic map, run lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np

from masqclip.data.rle import Rle, encode_rle
from masqclip.export.segment import ExportedSegment


class CocoResult(TypedDict):
    """An entry of a COCO results file; ``bbox`` is x, y, width, height in pixels."""

    image_id: int
    category_id: int
    segmentation: Rle
    bbox: list[float]
    area: int
    score: float


class PanopticSegment(TypedDict):
    """An entry of ``segments_info`` in COCO's panoptic format."""

    id: int
    category_id: int
    name: str
    isthing: int
    score: float
    area: int
    bbox: list[float]
    iscrowd: int


def masks_to_rle(masks: Iterable[np.ndarray]) -> list[Rle]:
    """COCO's compressed run-length encoding, ``{"size": [h, w], "counts": str}``, of each mask."""
    return [encode_rle(mask) for mask in masks]


def box_xywh(box: Sequence[float]) -> list[float]:
    """A box (x0, y0, x1, y1), ends exclusive, as COCO writes it: x, y, width, height."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return [x0, y0, x1 - x0, y1 - y0]


def coco_result(segment: ExportedSegment, *, image_id: int, category_id: int) -> CocoResult:
    """One mask as an entry of a COCO results file.

    Args:
        segment: the mask, and what is known of it.
        image_id: of the picture.
        category_id: of the class, in the dataset's own numbers.
    """
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": encode_rle(segment.mask),
        "bbox": box_xywh(segment.box),
        "area": segment.area,
        "score": float(segment.score),
    }


def panoptic_segment(segment: ExportedSegment, *, category_id: int) -> PanopticSegment:
    """What COCO's panoptic format says of one segment.

    Args:
        segment: whose id is the value in the map.
        category_id: of the class, in the dataset's own numbers.
    """
    return {
        "id": segment.id,
        "category_id": category_id,
        "name": segment.name,
        "isthing": int(segment.thing),
        "score": round(segment.score, 4),
        "area": segment.area,
        "bbox": box_xywh(segment.box),
        "iscrowd": 0,
    }
