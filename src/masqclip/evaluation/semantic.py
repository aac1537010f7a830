"""Semantic segmentation: intersection over union from one confusion matrix.

Means are taken as in the published evaluation (detectron2's): over the classes that occur in the
truth. A class that is only ever predicted does lower the IoU of others, and is no zero of its own,
as it is in mmsegmentation's mean over classes in truth or prediction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from masqclip.evaluation.groups import Groups, group_means


class ConfusionMatrix:
    """Counts pixels by true and predicted class, picture after picture.

    Args:
        num_classes: K; the last column counts pixels that were left unlabelled.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, prediction: np.ndarray, target: np.ndarray, *, ignore: int = 255) -> float:
        """Add one picture.

        Args:
            prediction: [H,W] class ids; negative = unlabelled, which counts as wrong.
            target: [H,W] class ids.
            ignore: the target value of pixels that do not count.

        Returns:
            The share of this picture's pixels that are right; NaN if none counts.
        """
        counted = target != ignore
        truth = target[counted].astype(np.int64)
        guess = prediction[counted].astype(np.int64)
        guess = np.where(guess < 0, self.num_classes, guess)
        cells = truth * (self.num_classes + 1) + guess
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)
        return float((truth == guess).mean()) if truth.size else float("nan")

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts, for instance another process's."""
        self.counts += other.counts

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """``IoU`` and ``Acc`` of each class, [K]; NaN where the truth does not have it."""
        right = np.diagonal(self.counts).astype(float)
        true = self.counts.sum(1).astype(float)
        union = true + self.counts[:, :-1].sum(0) - right
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "IoU": np.where(true > 0, right / union, np.nan),
                "Acc": np.where(true > 0, right / true, np.nan),
            }

    def results(self, groups: Groups | None = None) -> dict[str, float]:
        """Means over the classes in the truth, 0..1.

        Args:
            groups: class ids of each part to average on its own, for instance base and novel.

        Returns:
            ``mIoU`` (and ``mIoU PART``), ``fwIoU`` (weighted by the pixels of a class), ``mAcc``
            (its recall of pixels), ``pAcc`` (of all pixels).
        """
        values = self.per_class()
        true = self.counts.sum(1).astype(float)
        pixels = true.sum()
        weighted = np.nansum(values["IoU"] * true)
        return {
            **group_means("mIoU", values["IoU"], groups or {}),
            "fwIoU": float(weighted / pixels) if pixels else float("nan"),
            **group_means("mAcc", values["Acc"], {}),
            "pAcc": float(np.trace(self.counts) / pixels) if pixels else float("nan"),
        }
