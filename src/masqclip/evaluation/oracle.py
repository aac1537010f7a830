"""Which half is to blame: naming, measured on perfect masks, or masks, measured without names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.evaluation.groups import Groups, mean

#: Numbers of proposals, best object score first, at which recall is told.
COUNTS = (1, 10, 50, 100)
_THRESHOLDS = np.arange(50, 100, 5) / 100
# COCO's limits of small, medium and large, in pixels.
_SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}


class MaskAccuracy:
    """How often a true mask gets its own name: ``--oracle masks``.

    Args:
        num_classes: how many classes compete.
    """

    def __init__(self, num_classes: int) -> None:
        self.right = np.zeros(num_classes, np.int64)
        self.total = np.zeros(num_classes, np.int64)
        self.sizes = {name: np.zeros(2, np.int64) for name in _SIZES}  # right, all
        self.overlap = 0.0

    def update(self, records: Sequence[Mapping[str, Any]]) -> float:
        """Add one picture's masks: ``{"class", "predicted", "iou", "area"}``, the classes by their
        positions, areas in pixels.

        Returns:
            The share that is named right; NaN without masks.
        """
        for record in records:
            right = record["class"] == record["predicted"]
            self.total[record["class"]] += 1
            self.right[record["class"]] += right
            self.overlap += record["iou"]
            for name, (low, high) in _SIZES.items():
                if low <= record["area"] < high:
                    self.sizes[name] += (right, 1)
        hits = [float(record["class"] == record["predicted"]) for record in records]
        return mean(np.array(hits))

    def merge(self, other: MaskAccuracy) -> None:
        """Add another's counts."""
        self.right += other.right
        self.total += other.total
        for name, counts in other.sizes.items():
            self.sizes[name] += counts
        self.overlap += other.overlap

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """``accuracy`` of each class; NaN where the truth has none."""
        with np.errstate(invalid="ignore"):
            return {"accuracy": self.right / self.total}

    def results(self, groups: Groups | None = None) -> dict[str, float]:
        """``mask accuracy`` over all masks, those of each group and of each of COCO's sizes; the
        mean over classes; and ``mask quality``, the mean IoU of the masks that were named with the
        true ones."""
        total = self.total.sum()
        parts: Groups = {"": range(len(self.total)), **(groups or {})}
        scores = {}
        for name, positions in parts.items():
            chosen = list(positions)
            masks = self.total[chosen].sum()
            share = self.right[chosen].sum() / masks if masks else float("nan")
            scores[f"mask accuracy {name}".strip()] = float(share)
        for name, (right, number) in self.sizes.items():
            scores[f"mask accuracy {name}"] = float(right / number) if number else float("nan")
        scores["class accuracy"] = mean(self.per_class()["accuracy"])
        scores["mask quality"] = self.overlap / total if total else float("nan")
        return scores


class ProposalRecall:
    """How many true masks the proposals hold, whatever their names: ``--oracle classes``.

    A mask is recalled at k and t if one of the k proposals of the highest object score has an IoU
    of t or more with it. AR is the mean over t = 0.5, 0.55, ... 0.95, as in COCO.
    """

    def __init__(self) -> None:
        self.ious: list[list[float]] = []  # the best IoU of each mask, a column for each of COUNTS
        self.areas: list[int] = []
        self.classes: list[int] = []

    def update(self, records: Sequence[Mapping[str, Any]]) -> float:
        """Add one picture's masks: ``{"class", "area", "ious"}``, an IoU for each of `COUNTS`.

        Returns:
            The mean IoU of each mask's best proposal; NaN without masks.
        """
        for record in records:
            self.ious.append(list(record["ious"]))
            self.areas.append(int(record["area"]))
            self.classes.append(int(record["class"]))
        return mean(np.array([record["ious"][-1] for record in records], float))

    def merge(self, other: ProposalRecall) -> None:
        """Add another's masks."""
        self.ious += other.ious
        self.areas += other.areas
        self.classes += other.classes

    def per_class(self, num_classes: int) -> dict[str, NDArray[np.float64]]:
        """``AR@100`` of each class; NaN where the truth has none."""
        recalls, classes = self._recalls()[:, -1], np.array(self.classes, int)
        values = [mean(recalls[classes == position]) for position in range(num_classes)]
        return {"AR@100": np.array(values)}

    def results(self, groups: Groups | None = None) -> dict[str, float]:
        """``AR@k`` at each count; at 100 also by size and for each group; recall at IoU 0.5; and
        ``matched IoU``, also of each group: how well those masks fit that are recalled at 0.5."""
        recalls, classes = self._recalls(), np.array(self.classes, int)
        areas = np.array(self.areas, float)
        scores = {f"AR@{k}": mean(recalls[:, column]) for column, k in enumerate(COUNTS)}
        last = recalls[:, -1]
        for name, (low, high) in _SIZES.items():
            scores[f"AR@100 {name}"] = mean(last[(areas >= low) & (areas < high)])
        best = np.array(self.ious, float).reshape(-1, len(COUNTS))[:, -1]
        matched = best >= 0.5
        scores["recall at IoU 0.5"] = mean(matched.astype(float))
        scores["mean best IoU"] = mean(best)
        scores["matched IoU"] = mean(best[matched])
        for name, positions in (groups or {}).items():
            members = np.isin(classes, list(positions))
            scores[f"AR@100 {name}"] = mean(last[members])
            scores[f"matched IoU {name}"] = mean(best[members & matched])
        return scores

    def _recalls(self) -> NDArray[np.float64]:
        """[masks, counts]: the share of thresholds that each mask's best IoU reaches."""
        ious = np.array(self.ious, float).reshape(-1, len(COUNTS))
        return (ious[..., None] >= _THRESHOLDS).mean(axis=-1)
