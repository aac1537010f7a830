"""Metrics on cases that can be worked out by hand, and against reference implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from masqclip.data.rle import encode_rle
from masqclip.evaluation.instance import AveragePrecision, Backend
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
    assert matrix.results()["mAcc"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert matrix.results()["fwIoU"] == pytest.approx((2 * 1 / 2 + 2 * 1 / 3) / 4)
    assert matrix.update(prediction, target) == pytest.approx(2 / 4), "of the picture alone"
    assert math.isnan(matrix.update(prediction, np.full_like(target, 255)))
    assert matrix.update(prediction, np.where(target == 255, 9, target), ignore=9) == 0.5
    twice = ConfusionMatrix(3)
    twice.merge(matrix)
    twice.merge(matrix)
    assert twice.results() == matrix.results()


def test_a_class_of_a_single_pixel_counts() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[1, 0]]), np.array([[1, 255]]))
    assert matrix.results() == {"mIoU": 1.0, "fwIoU": 1.0, "mAcc": 1.0, "pAcc": 1.0}
    assert np.isnan(matrix.per_class()["IoU"][0])


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


def test_a_segment_matches_above_one_half_and_nothing_else_does() -> None:
    """IoU is taken without void, a crowd matches nothing, and classes must be the same."""
    target, prediction = np.zeros((1, 40), int), np.zeros((1, 40), int)
    target[0, :10], target[0, 10:20], target[0, 20:30] = 1, 2, 3
    prediction[0, :5] = 1  # half of it: an IoU of one half is no match
    prediction[0, 10:16] = 2  # 6 of 10 match
    prediction[0, 20:40] = 3  # half lies on void, which does not count: 10 of 10
    true = [{"id": i, "category_id": 7} for i in (1, 2, 3)]
    quality = PanopticQuality({7: True, 8: False})
    found = quality.update(prediction, true, target, true)
    tally = quality.tallies[7]
    assert (tally.matches, tally.false_positives, tally.false_negatives) == (2, 1, 1)
    assert tally.iou == pytest.approx(0.6 + 1.0)
    assert found == pytest.approx(1.6 / 3)
    assert quality.per_class()["SQ"][0] == pytest.approx(0.8)
    assert quality.per_class()["RQ"][0] == pytest.approx(2 / 3)
    assert math.isnan(quality.results()["PQ stuff"])
    assert quality.results({"novel": [0]})["PQ novel"] == pytest.approx(1.6 / 3)

    other = PanopticQuality({7: True, 8: False})
    wrong = [{"id": i, "category_id": 8} for i in (1, 2, 3)]
    assert other.update(prediction, wrong, target, true) == 0
    crowds = [{**entry, "iscrowd": 1} for entry in true]
    assert math.isnan(PanopticQuality({7: True}).update(prediction, true, target, crowds))
    # A segment of which no pixel is there is no false positive; a picture's quality is its own.
    ghost = [*true, {"id": 9, "category_id": 7}]
    assert quality.update(prediction, ghost, target, true) == pytest.approx(1.6 / 3)


@pytest.mark.parametrize(("void", "wrong"), [(5, 1), (6, 0)])
def test_void_and_crowd_of_the_class_excuse_more_than_half(void: int, wrong: int) -> None:
    """Exactly half is not enough; a crowd of another class excuses nothing."""
    prediction = np.ones((1, 10), int)
    for crowd_class, expected in ((7, wrong), (8, 1)):
        target = np.full((1, 10), 2)
        target[0, : void - 2], target[0, void - 2 : void] = 0, 1
        quality = PanopticQuality({7: True, 8: True})
        true = [
            {"id": 1, "category_id": crowd_class, "iscrowd": 1},
            {"id": 2, "category_id": 8, "iscrowd": 0},
        ]
        quality.update(prediction, [{"id": 1, "category_id": 7}], target, true)
        assert quality.tallies[7].false_positives == expected
        assert quality.tallies[8].false_negatives == 1


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


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_a_pictures_quality_by_hand(backend: Backend) -> None:
    """Of as many of the best results as there are objects, those with an IoU of one half or more
    with an object of their class. Crowds are no objects, and the rest is not looked at."""
    image = {"id": 1, "height": 40, "width": 40}
    whole, half = box_mask(0, 0), box_mask(0, 0)
    half[5:] = False
    less = half.copy()
    less[4, 9] = False

    def quality(*found: tuple[float, int, np.ndarray], crowd: int = 0) -> float:
        truth = [
            annotation(1, 1, whole),
            annotation(2, 2, box_mask(20, 20)) | {"iscrowd": crowd},
            annotation(3, 1, box_mask(0, 30)),
        ]
        results = [
            {"image_id": 1, "category_id": c, "score": s, "segmentation": encode_rle(mask)}
            for s, c, mask in found
        ]
        return AveragePrecision([1, 2], backend=backend).update(image, truth, results)

    assert quality((0.9, 1, half)) == pytest.approx(1 / 3)
    assert quality((0.9, 1, less)) == 0
    assert quality((0.9, 2, whole)) == 0
    assert quality((0.9, 2, box_mask(20, 20)), crowd=0) == pytest.approx(1 / 3)
    assert quality((0.9, 2, box_mask(20, 20)), crowd=1) == 0
    assert quality((0.9, 1, whole), crowd=1) == pytest.approx(1 / 2)
    empty = np.zeros((40, 40), bool)
    beside = [(0.8, 1, empty), (0.7, 1, empty), (0.6, 1, empty)]
    assert quality((0.1, 1, whole), *beside) == 0
    assert quality((0.65, 1, whole), *beside) == pytest.approx(1 / 3)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_masks_match_at_cocos_thresholds(backend: Backend) -> None:
    """From an IoU of 0.5 in steps of 0.05: 0.75 reaches six of ten."""
    image = {"id": 1, "height": 40, "width": 40}
    found = np.zeros((40, 40), bool)
    found[:3, :10] = True
    truth = np.zeros((40, 40), bool)
    truth[:4, :10] = True
    metric = AveragePrecision([1, 2, 3], backend=backend)
    results = [
        {"image_id": 1, "category_id": c, "score": 0.5, "segmentation": encode_rle(mask)}
        for c, mask in ((1, found), (3, truth))
    ]
    metric.update(image, [annotation(1, 1, truth), annotation(2, 3, truth)], results)
    values = metric.per_class()
    np.testing.assert_allclose(values["AP"], [0.6, np.nan, 1.0], atol=1e-6)
    np.testing.assert_allclose(values["AP50"], [1.0, np.nan, 1.0], atol=1e-6)
    scores = metric.results({"base": [0], "none": [1]})
    assert scores["AP"] == pytest.approx(0.8)
    assert scores["AP75"] == scores["AP75 base"] == pytest.approx(1.0)
    assert scores["AP base"] == pytest.approx(0.6)
    assert math.isnan(scores["AP none"])
    assert scores["ARs"] == scores["AR1"] == pytest.approx(0.8)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_masks_of_the_truth_as_coco_writes_them(backend: Backend) -> None:
    """Polygons of several parts; and numbers of pixels in turns, as of crowds. Areas follow."""
    image = {"id": 1, "height": 4, "width": 6}
    mask = np.zeros((4, 6), bool)
    mask[:, :2], mask[:, 4:] = True, True
    written: list[object] = [
        [[0, 0, 2, 0, 2, 4, 0, 4], [4, 0, 6, 0, 6, 4, 4, 4]],
        {"size": [4, 6], "counts": [0, 8, 8, 8]},
        encode_rle(mask),
    ]
    found = [{"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": encode_rle(mask)}]
    for segmentation in written:
        metric = AveragePrecision([1], backend=backend)
        truth = [{"category_id": 1, "segmentation": segmentation}]
        assert metric.update(image, truth, found) == 1
        assert metric.results()["APs"] == pytest.approx(1.0)
        assert metric._complete(1, truth[0], image)["area"] == 16


def test_no_truth_has_no_score() -> None:
    metric = AveragePrecision([1, 2])
    assert math.isnan(metric.update({"id": 1, "height": 40, "width": 40}, [], []))
    assert math.isnan(metric.results()["AP"])
    assert math.isnan(ConfusionMatrix(2).results()["mIoU"])
    assert math.isnan(PanopticQuality({1: True}).results()["PQ"])
