"""Results as objects of other libraries, which are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import require
from masqclip.export.segment import ExportedSegment

if TYPE_CHECKING:
    import fiftyone as fo
    import pandas as pd
    import supervision as sv


def supervision_detections(
    segments: Sequence[ExportedSegment], size: tuple[int, int]
) -> sv.Detections:
    """See `masqclip.result.Segmentation.to_supervision`; `size` is (height, width)."""
    library: Any = require("supervision", extra="viz", purpose="to_supervision")
    masks = [segment.mask for segment in segments]
    return library.Detections(
        xyxy=np.array([s.box for s in segments], np.float32).reshape(-1, 4),
        mask=np.stack(masks) if masks else np.zeros((0, *size), bool),
        confidence=np.array([s.score for s in segments], np.float32),
        class_id=np.array([s.class_id for s in segments], int),
        data={"class_name": np.array([s.name for s in segments], dtype=object).astype(str)},
    )


def data_frame(segments: Sequence[ExportedSegment]) -> pd.DataFrame:
    """See `masqclip.result.Segmentation.to_dataframe`."""
    library: Any = require("pandas", extra="pandas", purpose="to_dataframe")
    boxes = np.array([s.box for s in segments], np.int64).reshape(-1, 4)
    columns = {
        "id": np.array([s.id for s in segments], np.int64),
        "name": np.array([s.name for s in segments], object),
        "class_id": np.array([s.class_id for s in segments], np.int64),
        "score": np.array([s.score for s in segments], np.float64),
        "thing": np.array([s.thing for s in segments], bool),
        "area": np.array([s.area for s in segments], np.int64),
    }
    edges = dict(zip(("x0", "y0", "x1", "y1"), boxes.T, strict=True))
    return library.DataFrame(columns | edges)


def fiftyone_segmentation(class_map: NDArray[np.int32], number_of_names: int) -> fo.Segmentation:
    """A class map [H,W], -1 = none, as FiftyOne's, which counts from 1."""
    library: Any = require("fiftyone", extra="fiftyone", purpose="to_fiftyone")
    depth = np.uint8 if number_of_names < 256 else np.uint16
    return library.Segmentation(mask=(class_map + 1).astype(depth))


def fiftyone_detections(
    segments: Sequence[ExportedSegment], size: tuple[int, int]
) -> fo.Detections:
    """Masks as FiftyOne's detections; `size` is (height, width)."""
    library: Any = require("fiftyone", extra="fiftyone", purpose="to_fiftyone")
    height, width = size
    detections = []
    for segment in segments:
        x0, y0, x1, y1 = segment.box
        share = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        detection = library.Detection(
            label=segment.name,
            bounding_box=share,
            mask=segment.mask[y0:y1, x0:x1],
            confidence=segment.score,
        )
        detections.append(detection)
    return library.Detections(detections=detections)
