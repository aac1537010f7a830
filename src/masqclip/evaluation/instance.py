"""Instance segmentation: average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from masqclip.errors import require

_IOU_50, _ALL_AREAS, _MOST_DETECTIONS = 0, 0, 2


def instance_precision(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    splits: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, float]:
    """Average precision of masks.

    Args:
        ground_truth: a COCO instances document.
        results: entries of a COCO results file, with ``segmentation`` and ``score``.
        splits: category ids of each part to report on its own, for instance base and novel. All
            categories compete, as in the generalised setting; a part averages over its own.

    Returns:
        ``AP``, ``AP50``, ``AP75``, and ``AP50 NAME`` for each split; 0..1.

    Raises:
        MasqclipError: pycocotools is not installed (extra ``eval``).
    """
    coco: Any = require("pycocotools.coco", extra="eval", purpose="instance AP")
    cocoeval: Any = require("pycocotools.cocoeval", extra="eval", purpose="instance AP")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = coco.COCO()
        # Copies, because pycocotools writes its own marks into the entries that it is given.
        annotations = [dict(annotation) for annotation in ground_truth["annotations"]]
        truth.dataset = {**ground_truth, "annotations": annotations}
        truth.createIndex()
        found = truth.loadRes([dict(result) for result in results]) if results else coco.COCO()
        evaluation = cocoeval.COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = dict(zip(("AP", "AP50", "AP75"), map(float, evaluation.stats[:3]), strict=True))
    # [IoU thresholds, recall points, categories, areas, detections]; -1 where there is no truth.
    precision = evaluation.eval["precision"][_IOU_50, :, :, _ALL_AREAS, _MOST_DETECTIONS]
    for name, categories in (splits or {}).items():
        columns = [i for i, c in enumerate(evaluation.params.catIds) if c in set(categories)]
        present = [i for i in columns if (precision[:, i] > -1).all()]
        scores[f"AP50 {name}"] = float(np.mean(precision[:, present])) if present else float("nan")
    return scores
