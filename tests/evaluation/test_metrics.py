"""Metrics on cases that can be worked out by hand, and against reference implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from masqclip.data.rle import encode_rle
from masqclip.evaluation.instance import AveragePrecision
from masqclip.evaluation.panoptic import PanopticQuality
from masqclip.evaluation.semantic import ConfusionMatrix


def test_iou_by_hand() -> None:
    matrix = ConfusionMatrix(3)
    target = np.array([[0, 0, 1, 1, 255]])
    prediction = np.array([[0, 1, 1, -1, 2]])
    matrix.update(prediction, target)
    # class 0: 1 of 2 right, union 2; class 1: 1 right, union 1 + 1 + 1; class 2: only on ignored.
    assert matrix.results()["mIoU"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert matrix.results()["pAcc"] == pytest.approx(2 / 4)
    twice = ConfusionMatrix(3)
    twice.merge(matrix)
    twice.merge(matrix)
    assert twice.results() == matrix.results()


def test_panoptic_quality_by_hand() -> None:
    target = np.zeros((4, 10), int)
    target[:, :4], target[:, 4:8] = 1, 2  # the last two columns are void
    prediction = np.zeros((4, 10), int)
    prediction[:, :3], prediction[:, 4:6], prediction[:, 6:10] = 1, 2, 3
    quality = PanopticQuality({7: True, 8: False})
    quality.update(
        prediction,
        [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 8}, {"id": 3, "category_id": 8}],
        target,
        [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 8}],
    )
    # class 7: IoU 3/4. class 8: both halves overlap the truth by exactly one half: no match.
    results = quality.results()
    assert results["PQ things"] == pytest.approx(0.75)
    assert results["PQ stuff"] == 0.0
    assert results["PQ"] == pytest.approx(0.375)
    tally = quality.tallies[8]
    assert (tally.matches, tally.false_positives, tally.false_negatives) == (0, 2, 1)


def test_void_and_crowd_swallow_false_positives() -> None:
    target = np.zeros((2, 10), int)
    target[:, :5] = 1  # a crowd of class 7; the rest is void
    prediction = np.zeros((2, 10), int)
    prediction[:, :4], prediction[:, 6:] = 1, 2
    quality = PanopticQuality({7: True})
    quality.update(
        prediction,
        [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 7}],
        target,
        [{"id": 1, "category_id": 7, "iscrowd": 1}],
    )
    tally = quality.tallies[7]
    assert (tally.matches, tally.false_positives, tally.false_negatives) == (0, 0, 0)


def box_mask(y: int, x: int, side: int = 10) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def annotation(number: int, category: int, mask: np.ndarray) -> dict[str, object]:
    return {
        "id": number, "image_id": 1, "category_id": category, "iscrowd": 0,
        "area": int(mask.sum()), "bbox": [0, 0, 1, 1], "segmentation": encode_rle(mask),
    }  # fmt: skip


def test_precision_of_each_split() -> None:
    image = {"id": 1, "height": 40, "width": 40}
    truth = [
        annotation(1, 1, box_mask(0, 0)),
        annotation(2, 2, box_mask(20, 20)),
        annotation(3, 3, box_mask(0, 25)),
    ]
    results = [
        {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": encode_rle(box_mask(0, 0))},
        # The dog is taken for an owl, more surely than the owl itself is found.
        {"image_id": 1, "category_id": 3, "score": 0.8,
         "segmentation": encode_rle(box_mask(20, 20))},
        {"image_id": 1, "category_id": 3, "score": 0.7,
         "segmentation": encode_rle(box_mask(0, 25))},
    ]  # fmt: skip
    metric = AveragePrecision([1, 2, 3])
    assert metric.update(image, truth, results) == pytest.approx(2 / 3)
    scores = metric.results({"base": [0, 1], "novel": [2]})
    assert scores["AP50 base"] == pytest.approx(0.5)
    assert scores["AP50 novel"] == pytest.approx(0.5)
    assert scores["AP50"] == pytest.approx(0.5)
    nothing = AveragePrecision([1, 2, 3])
    assert nothing.update(image, truth, []) == 0
    assert nothing.results()["AP50"] == 0.0


def test_no_truth_has_no_score() -> None:
    metric = AveragePrecision([1, 2])
    assert math.isnan(metric.update({"id": 1, "height": 40, "width": 40}, [], []))
    assert math.isnan(metric.results()["AP"])
    assert math.isnan(ConfusionMatrix(2).results()["mIoU"])
    assert math.isnan(PanopticQuality({1: True}).results()["PQ"])
