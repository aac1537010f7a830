"""Masks in COCO's formats: result dictionaries and run-length encodings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from masqclip.data.rle import encode_rle


def masks_to_rle(masks: Iterable[np.ndarray]) -> list[dict[str, Any]]:
    """COCO's compressed run-length encoding, ``{"size": [h, w], "counts": str}``, of each mask."""
    return [encode_rle(mask) for mask in masks]


def box_xywh(box: Sequence[float]) -> list[float]:
    """A box (x0, y0, x1, y1), ends exclusive, as COCO writes it: x, y, width, height."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return [x0, y0, x1 - x0, y1 - y0]


def coco_result(
    mask: np.ndarray, *, image_id: int, category_id: int, score: float, box: Sequence[float]
) -> dict[str, Any]:
    """One mask as an entry of a COCO results file.

    Args:
        mask: [H,W] bool.
        image_id: of the picture.
        category_id: of the class, in the dataset's own numbers.
        score: 0..1.
        box: (x0, y0, x1, y1), ends exclusive.
    """
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": encode_rle(mask),
        "bbox": box_xywh(box),
        "area": int(mask.sum()),
        "score": float(score),
    }
