"""Figures equal those of the reference tools, and of definitions written out in full."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import (
    CATEGORIES,
    SIZE,
    blocks,
    definition_of_pq,
    instance_case,
    nudged,
    panoptic_case,
)
from hotcoco.panoptic import pq_compute
from hotcoco.semantic import SemanticEval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from masqclip.data.label_maps import ids_to_rgb, png_bytes
from masqclip.evaluation.instance import AveragePrecision, Backend
from masqclip.evaluation.panoptic import PanopticQuality
from masqclip.evaluation.semantic import ConfusionMatrix

TWELVE = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


# Instances


def pycocotools_stats(cases: list[Any]) -> list[float]:
    """The twelve figures, by pycocotools from end to end."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [image for image, _, _ in cases],
            "annotations": [dict(entry) for _, entries, _ in cases for entry in entries],
            "categories": [{"id": i, "name": str(i)} for i in CATEGORIES],
        }
        truth.createIndex()
        found = truth.loadRes([dict(entry) for _, _, entries in cases for entry in entries])
        evaluation = COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    rng = np.random.default_rng(7)
    return [instance_case(rng, image_id, 1 + 10 * image_id) for image_id in range(40)]


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_precision_equals_pycocotools(backend: Backend, cases: list[Any]) -> None:
    expected = pycocotools_stats(cases)
    assert min(expected) > 0.02, "every figure must be there"
    metric = AveragePrecision(list(CATEGORIES), backend=backend)
    for case in cases:
        metric.update(*case)
    found = metric.results()
    assert [found[name] for name in TWELVE] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_precision_in_two_halves(backend: Backend, cases: list[Any]) -> None:
    """Every second picture here, the others there: as two processes share them."""
    whole = AveragePrecision(list(CATEGORIES), backend=backend)
    halves = [AveragePrecision(list(CATEGORIES), backend=backend) for _ in range(2)]
    for number, case in enumerate(cases):
        whole.update(*case)
        halves[number % 2].update(*case)
    first, second = (pickle.loads(pickle.dumps(half)) for half in halves)
    first.merge(second)
    assert first.results() == pytest.approx(whole.results(), abs=1e-12)
    for name, values in whole.per_class().items():
        np.testing.assert_allclose(first.per_class()[name], values, atol=1e-12)


def test_precision_of_a_part_is_that_of_its_categories(cases: list[Any]) -> None:
    metric = AveragePrecision(list(CATEGORIES))
    for case in cases:
        metric.update(*case)
    results, values = metric.results({"novel": [1, 2]}), metric.per_class()
    assert results["AP novel"] == pytest.approx(values["AP"][1:3].mean())
    assert results["AP50 novel"] == pytest.approx(values["AP50"][1:3].mean())
    alone = [
        (image, *([e for e in entries if e["category_id"] in (5, 8)] for entries in rest))
        for image, *rest in cases
    ]
    assert pycocotools_stats(alone)[0] == pytest.approx(results["AP novel"], abs=1e-6)


def test_what_is_given_is_left_as_it_was(cases: list[Any]) -> None:
    before = json.dumps(cases)
    for backend in ("hotcoco", "pycocotools"):
        metric = AveragePrecision(list(CATEGORIES), backend=backend)
        for case in cases:
            metric.update(*case)
        metric.results()
    assert json.dumps(cases) == before


def test_polygons_and_missing_fields() -> None:
    """People's own files hold polygons, and lack areas and crowd marks."""
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    truth = [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": square}]
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    from masqclip.data.rle import encode_rle

    result = {"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": encode_rle(mask)}
    for backend in ("hotcoco", "pycocotools"):
        metric = AveragePrecision([3], backend=backend)
        assert metric.update({"id": 1, "height": 40, "width": 40}, truth, [result]) == 1
        assert metric.results()["AP"] == pytest.approx(1.0)


# Panoptic


@pytest.mark.parametrize("seed", range(10))
def test_panoptic_quality_equals_its_definition(seed: int) -> None:
    """Ten times 25 pictures with crowds and void."""
    rng = np.random.default_rng(seed)
    cases = [panoptic_case(rng) for _ in range(25)]
    assert any(segment["iscrowd"] for *_, true in cases for segment in true)
    assert any((target == 0).any() for _, _, target, _ in cases)
    metric, second_half = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES)
    for number, case in enumerate(cases):
        (metric if number % 2 else second_half).update(*case)
    metric.merge(second_half)
    expected, results = definition_of_pq(cases), metric.results()
    for column, name in enumerate(("PQ", "SQ", "RQ")):
        for row, category in enumerate(CATEGORIES):
            found = metric.per_class()[name][row]
            assert found == pytest.approx(expected[category][column], abs=1e-9)
        for part, wanted in (("", (True, False)), (" things", (True,)), (" stuff", (False,))):
            values = [v[column] for c, v in expected.items() if CATEGORIES[c] in wanted]
            assert results[name + part] == pytest.approx(np.mean(values), abs=1e-9)
    assert 0.1 < results["PQ"] < 0.9, "there must be hits and misses"


def test_each_picture_alone_equals_its_definition() -> None:
    rng = np.random.default_rng(99)
    for _ in range(200):
        case = panoptic_case(rng)
        metric = PanopticQuality(CATEGORIES)
        metric.update(*case)
        values = metric.per_class()
        expected = definition_of_pq([case])
        for row, category in enumerate(CATEGORIES):
            if category in expected:
                found = [values[name][row] for name in ("PQ", "SQ", "RQ")]
                assert found == pytest.approx(expected[category], abs=1e-9)
            else:
                assert np.isnan(values["PQ"][row])


def test_panoptic_quality_equals_panopticapis(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    quality = PanopticQuality(CATEGORIES)
    documents: dict[str, list[dict[str, object]]] = {"true": [], "predicted": []}
    images = []
    for image_id in range(24):
        prediction, predicted, target, true = panoptic_case(rng)
        quality.update(prediction, predicted, target, true)
        name = f"{image_id}.png"
        images.append({"id": image_id, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for kind, ids, info in (("true", target, true), ("predicted", prediction, predicted)):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / name).write_bytes(png_bytes(ids_to_rgb(ids)))
            documents[kind].append({"image_id": image_id, "file_name": name, "segments_info": info})
    categories = [
        {"id": number, "name": str(number), "isthing": int(thing)}
        for number, thing in CATEGORIES.items()
    ]
    for kind, entries in documents.items():
        document = {"images": images, "annotations": entries, "categories": categories}
        (tmp_path / f"{kind}.json").write_text(json.dumps(document))
    paths = [str(tmp_path / name) for name in ("true.json", "predicted.json", "true", "predicted")]
    expected, found = pq_compute(*paths), quality.results()
    for ours, theirs in (("", "All"), (" things", "Things"), (" stuff", "Stuff")):
        for key in ("PQ", "SQ", "RQ"):
            assert found[key + ours] == pytest.approx(expected[theirs][key.lower()], abs=1e-9)


# Semantic


def semantic_case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    target = blocks(rng, 5)
    prediction = nudged(rng, target)
    target[rng.random(target.shape) < 0.1] = 255
    return prediction, target


def definition_of_iou(cases: list[Any], classes: int) -> dict[str, float]:
    """From an explicit confusion matrix, pixel by pixel; means over the classes in the truth."""
    matrix = [[0] * classes for _ in range(classes)]
    unlabelled = [0] * classes
    for prediction, target in cases:
        for guess, true in zip(prediction.flat, target.flat, strict=True):
            if true != 255 and guess >= 0:
                matrix[true][guess] += 1
            elif true != 255:
                unlabelled[true] += 1
    right = [matrix[k][k] for k in range(classes)]
    true = [sum(matrix[k]) + unlabelled[k] for k in range(classes)]
    guessed = [sum(matrix[j][k] for j in range(classes)) for k in range(classes)]
    present = [k for k in range(classes) if true[k]]
    iou = {k: right[k] / (true[k] + guessed[k] - right[k]) for k in present}
    return {
        "mIoU": sum(iou.values()) / len(present),
        "fwIoU": sum(iou[k] * true[k] for k in present) / sum(true),
        "mAcc": sum(right[k] / true[k] for k in present) / len(present),
        "pAcc": sum(right) / sum(true),
    }


@pytest.mark.parametrize("seed", range(4))
def test_iou_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [semantic_case(rng) for _ in range(3)]
    cases[0][0][:9] = -1  # unlabelled
    cases[1][0][:9] = 7  # a class that the truth never has: no zero of its own
    matrix, second_half = ConfusionMatrix(8), ConfusionMatrix(8)
    for number, case in enumerate(cases):
        (matrix if number % 2 else second_half).update(*case)
    matrix.merge(second_half)
    expected = definition_of_iou(cases, 8)
    assert 0.1 < expected["mIoU"] < 0.95
    assert matrix.results() == pytest.approx(expected, abs=1e-12)
    assert np.isnan(matrix.per_class()["IoU"][7])


def test_iou_equals_mmsegmentations() -> None:
    """Where every predicted class is in the truth, both means are over the same classes."""
    rng = np.random.default_rng(1)
    matrix, expected = ConfusionMatrix(6), SemanticEval(6)
    for _ in range(10):
        prediction, target = semantic_case(rng)
        matrix.update(prediction, target)
        expected.update(target.astype(np.uint8), prediction.astype(np.uint8))
    theirs = expected.results()
    found = matrix.results()
    for ours, key in (("mIoU", "mIoU"), ("fwIoU", "fwIoU"), ("mAcc", "mAcc"), ("pAcc", "aAcc")):
        assert found[ours] == pytest.approx(theirs[key])
