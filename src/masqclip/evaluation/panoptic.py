"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019, sec. 4).

A predicted and a true segment of one class match when their IoU is above one half, which no segment
can reach twice. PQ = sum of matched IoU / (matches + half of what is left over on either side).
Void pixels of the truth do not count, and a predicted segment that lies mostly on void or on a
crowd region of its class is no false positive.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.evaluation.groups import Groups, group_means


@dataclass
class _Tally:
    iou: float = 0.0
    matches: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def weight(self) -> float:
        """The denominator of PQ; 0 where the class occurs nowhere."""
        return self.matches + 0.5 * self.false_positives + 0.5 * self.false_negatives


class PanopticQuality:
    """Matches segments picture by picture and keeps one tally a class.

    Args:
        things: for each category id whether it is a thing.
    """

    def __init__(self, things: Mapping[int, bool]) -> None:
        self.things = dict(things)
        self.tallies = {category: _Tally() for category in things}

    def update(
        self,
        prediction: np.ndarray,
        predicted: Sequence[Mapping[str, Any]],
        target: np.ndarray,
        true: Sequence[Mapping[str, Any]],
    ) -> float:
        """Add one picture.

        Args:
            prediction, target: [H,W] segment ids, 0 = void.
            predicted, true: segments as ``{"id", "category_id"}``; true ones may be ``iscrowd``.

        Returns:
            The quality of this picture, all its segments taken together; NaN if there are none.
        """
        before = self._sums()
        ids, cells = np.unique(
            target.astype(np.int64) * 2**32 + prediction.astype(np.int64), return_counts=True
        )
        shared = {
            (int(i) >> 32, int(i) & 0xFFFFFFFF): int(n) for i, n in zip(ids, cells, strict=True)
        }
        true_area: dict[int, int] = {}
        guess_area: dict[int, int] = {}
        for (t, p), n in shared.items():
            true_area[t] = true_area.get(t, 0) + n
            guess_area[p] = guess_area.get(p, 0) + n
        classes = {int(s["id"]): int(s["category_id"]) for s in true}
        crowd = {int(s["id"]) for s in true if s.get("iscrowd")}
        guesses = {int(s["id"]): int(s["category_id"]) for s in predicted}
        matched_true: set[int] = set()
        matched_guess: set[int] = set()
        for (t, p), n in shared.items():
            if t not in classes or t in crowd or guesses.get(p) != classes[t]:
                continue
            union = true_area[t] + guess_area[p] - n - shared.get((0, p), 0)
            if n / union > 0.5:
                tally = self.tallies[classes[t]]
                tally.iou += n / union
                tally.matches += 1
                matched_true.add(t)
                matched_guess.add(p)
        for t, category in classes.items():
            if t not in matched_true and t not in crowd:
                self.tallies[category].false_negatives += 1
        for p, category in guesses.items():
            if p in matched_guess or p not in guess_area:
                continue
            void = shared.get((0, p), 0) + sum(
                shared.get((t, p), 0) for t in crowd if classes[t] == category
            )
            if void / guess_area[p] <= 0.5:
                self.tallies[category].false_positives += 1
        iou, weight = self._sums() - before
        return float(iou / weight) if weight else float("nan")

    def _sums(self) -> NDArray[np.float64]:
        """The sum of IoUs and the denominator of PQ, over all classes."""
        rows = [(tally.iou, tally.weight) for tally in self.tallies.values()]
        return np.array(rows, np.float64).reshape(-1, 2).sum(axis=0)

    def merge(self, other: PanopticQuality) -> None:
        """Add another's tallies, for instance another process's."""
        for category, tally in other.tallies.items():
            mine = self.tallies[category]
            mine.iou += tally.iou
            mine.matches += tally.matches
            mine.false_positives += tally.false_positives
            mine.false_negatives += tally.false_negatives

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """``PQ``, ``SQ`` and ``RQ`` of each category, in order; NaN where there is no segment."""
        rows = np.full((len(self.tallies), 3), np.nan)
        for row, tally in zip(rows, self.tallies.values(), strict=True):
            if tally.weight:
                quality = tally.iou / tally.matches if tally.matches else 0.0
                row[:] = tally.iou / tally.weight, quality, tally.matches / tally.weight
        return dict(zip(("PQ", "SQ", "RQ"), rows.T, strict=True))

    def results(self, groups: Groups | None = None) -> dict[str, float]:
        """``PQ``, ``SQ``, ``RQ`` over the classes that occur, and over things and stuff; 0..1.

        Args:
            groups: further parts to average on their own, as positions of categories.
        """
        flags = list(self.things.values())
        parts: dict[str, Collection[int]] = {
            name: [i for i, thing in enumerate(flags) if thing is wanted]
            for name, wanted in (("things", True), ("stuff", False))
        }
        parts |= groups or {}
        scores: dict[str, float] = {}
        for name, values in self.per_class().items():
            scores |= group_means(name, values, parts)
        return scores
