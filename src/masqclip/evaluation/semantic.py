"""Semantic segmentation: intersection over union from one confusion matrix."""

from __future__ import annotations

import numpy as np


class ConfusionMatrix:
    """Counts pixels by true and predicted class, picture after picture.

    Args:
        num_classes: K; the last column counts pixels that were left unlabelled.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, prediction: np.ndarray, target: np.ndarray, *, ignore: int = 255) -> None:
        """Add one picture.

        Args:
            prediction: [H,W] class ids; negative = unlabelled, which counts as wrong.
            target: [H,W] class ids.
            ignore: the target value of pixels that do not count.
        """
        counted = target != ignore
        truth = target[counted].astype(np.int64)
        guess = prediction[counted].astype(np.int64)
        guess = np.where(guess < 0, self.num_classes, guess)
        cells = truth * (self.num_classes + 1) + guess
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts, for instance another process's."""
        self.counts += other.counts

    def results(self) -> dict[str, float]:
        """``mIoU`` over classes that occur in truth or prediction, ``pAcc``, ``mAcc``; 0..1."""
        right = np.diagonal(self.counts).astype(float)
        true = self.counts.sum(1).astype(float)
        guessed = self.counts[:, :-1].sum(0).astype(float)
        union = true + guessed - right
        seen, present = union > 0, true > 0
        return {
            "mIoU": float((right[seen] / union[seen]).mean()) if seen.any() else float("nan"),
            "mAcc": float((right[present] / true[present]).mean())
            if present.any()
            else float("nan"),
            "pAcc": float(right.sum() / true.sum()) if true.sum() else float("nan"),
        }
