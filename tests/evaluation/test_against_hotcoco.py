"""Scores equal those of hotcoco, which follows mmsegmentation and panopticapi bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from masqclip.data.label_maps import ids_to_rgb, png_bytes
from masqclip.evaluation.instance import instance_precision
from masqclip.evaluation.panoptic import PanopticQuality
from masqclip.evaluation.semantic import ConfusionMatrix
from masqclip.export.coco import coco_result

CATEGORIES = {3: True, 5: True, 8: False, 9: False}


def blocks(rng: np.random.Generator, ids: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A map of random rectangles of ids 0 .. ids, in which later ones cover earlier ones."""
    canvas = np.zeros(shape, np.int64)
    for number in rng.permutation(np.arange(1, ids + 1)):
        y, x = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
        height, width = rng.integers(6, 32, 2)
        canvas[y : y + height, x : x + width] = number
    return canvas


def nudged(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """The truth, shifted a little: segments that match, barely match or do not."""
    return np.roll(truth, rng.integers(-4, 5, 2), axis=(0, 1))


def described(rng: np.random.Generator, ids: np.ndarray, crowds: bool) -> list[dict[str, object]]:
    """One entry for each segment that is there; one crowd per class at most, as panopticapi has."""
    info = []
    seen: set[int] = set()
    for number in np.unique(ids[ids > 0]):
        category = int(rng.choice(list(CATEGORIES)))
        crowd = crowds and CATEGORIES[category] and category not in seen and rng.random() < 0.3
        if crowd:
            seen.add(category)
        info.append(
            {
                "id": int(number),
                "category_id": category,
                "iscrowd": int(crowd),
                "area": int((ids == number).sum()),
                "bbox": [0, 0, 1, 1],
            }
        )
    return info


def test_panoptic_quality_equals_panopticapis(tmp_path: Path) -> None:
    hotcoco = pytest.importorskip("hotcoco.panoptic")
    rng = np.random.default_rng(0)
    quality, second_half = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES)
    documents: dict[str, list[dict[str, object]]] = {"true": [], "predicted": []}
    for folder in documents:
        (tmp_path / folder).mkdir()
    images = []
    for image_id in range(24):
        target = blocks(rng, 9)
        true = described(rng, target, crowds=True)
        prediction = nudged(rng, target)
        # Most classes are right, some wrong.
        right = {entry["id"]: entry["category_id"] for entry in true}
        predicted = described(rng, prediction, crowds=False)
        for entry in predicted:
            if rng.random() < 0.7:
                entry["category_id"] = right.get(entry["id"], entry["category_id"])
        half = quality if image_id < 12 else second_half
        half.update(prediction, predicted, target, true)
        name = f"{image_id}.png"
        images.append({"id": image_id, "file_name": name, "height": 48, "width": 64})
        for kind, ids, info in (("true", target, true), ("predicted", prediction, predicted)):
            (tmp_path / kind / name).write_bytes(png_bytes(ids_to_rgb(ids)))
            documents[kind].append({"image_id": image_id, "file_name": name, "segments_info": info})
    quality.merge(second_half)

    categories = [
        {"id": number, "name": str(number), "isthing": int(thing)}
        for number, thing in CATEGORIES.items()
    ]
    for kind, entries in documents.items():
        document = {"images": images, "annotations": entries, "categories": categories}
        (tmp_path / f"{kind}.json").write_text(json.dumps(document))
    expected = hotcoco.pq_compute(
        str(tmp_path / "true.json"),
        str(tmp_path / "predicted.json"),
        str(tmp_path / "true"),
        str(tmp_path / "predicted"),
    )
    found = quality.results()
    assert 0.1 < found["PQ"] < 0.9, "the pictures must hold hits and misses"
    for ours, theirs in (("", "All"), (" things", "Things"), (" stuff", "Stuff")):
        for key in ("PQ", "SQ", "RQ"):
            assert found[key + ours] == pytest.approx(expected[theirs][key.lower()], abs=1e-9)


def test_iou_equals_mmsegmentations() -> None:
    hotcoco = pytest.importorskip("hotcoco.semantic")
    rng = np.random.default_rng(1)
    matrix, expected = ConfusionMatrix(7), hotcoco.SemanticEval(7)
    for _ in range(10):
        target = blocks(rng, 5).astype(np.uint8)
        prediction = nudged(rng, target).astype(np.uint8)
        target[rng.random(target.shape) < 0.1] = 255
        matrix.update(prediction.astype(np.int64), target)
        expected.update(target, prediction)
    theirs = expected.results()
    found = matrix.results()
    assert 0.1 < found["mIoU"] < 0.95
    for ours, key in (("mIoU", "mIoU"), ("mAcc", "mAcc"), ("pAcc", "aAcc")):
        assert found[ours] == pytest.approx(
            theirs[key] if key in theirs else theirs["metrics"][key]
        )


def test_results_given_to_pycocotools_are_left_as_they_were() -> None:
    pytest.importorskip("pycocotools")
    mask = np.zeros((40, 40), bool)
    mask[:10, :10] = True
    result = coco_result(mask, image_id=1, category_id=1, score=0.5, box=(0, 0, 10, 10))
    truth = {
        "images": [{"id": 1, "height": 40, "width": 40}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{**result, "id": 1, "iscrowd": 0}],
    }
    before = json.dumps([result, truth])
    assert instance_precision(truth, [result])["AP"] == pytest.approx(1.0)
    assert json.dumps([result, truth]) == before
