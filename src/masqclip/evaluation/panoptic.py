"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019, sec. 4).

A predicted and a true segment of one class match when their IoU is above one half, which no segment
can reach twice. PQ = sum of matched IoU / (matches + half of what is left over on either side).
Void pixels of the truth do not count, and a predicted segment that lies mostly on void or on a
crowd region of its class is no false positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class _Tally:
    iou: float = 0.0
    matches: int = 0
    false_positives: int = 0
    false_negatives: int = 0


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
    ) -> None:
        """Add one picture.

        Args:
            prediction, target: [H,W] segment ids, 0 = void.
            predicted, true: segments as ``{"id", "category_id"}``; true ones may be ``iscrowd``.
        """
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

    def merge(self, other: PanopticQuality) -> None:
        """Add another's tallies, for instance another process's."""
        for category, tally in other.tallies.items():
            mine = self.tallies[category]
            mine.iou += tally.iou
            mine.matches += tally.matches
            mine.false_positives += tally.false_positives
            mine.false_negatives += tally.false_negatives

    def results(self) -> dict[str, float]:
        """``PQ``, ``SQ``, ``RQ`` over all classes that occur, and over things and stuff; 0..1."""
        scores: dict[str, float] = {}
        for part, wanted in (("", (True, False)), (" things", (True,)), (" stuff", (False,))):
            rows = [
                (tally.iou, tally.matches, tally.false_positives, tally.false_negatives)
                for category, tally in self.tallies.items()
                if self.things[category] in wanted
                and tally.matches + tally.false_positives + tally.false_negatives > 0
            ]
            pq = [iou / (tp + 0.5 * fp + 0.5 * fn) for iou, tp, fp, fn in rows]
            sq = [iou / tp if tp else 0.0 for iou, tp, _, _ in rows]
            rq = [tp / (tp + 0.5 * fp + 0.5 * fn) for _, tp, fp, fn in rows]
            for name, values in (("PQ", pq), ("SQ", sq), ("RQ", rq)):
                scores[name + part] = float(np.mean(values)) if values else float("nan")
        return scores
