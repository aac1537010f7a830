"""Figures on photographs with COCO's annotations, of predictions made from the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import definition_of_pq
from hotcoco.panoptic import pq_compute

from masqclip.cli.main import main
from masqclip.data.label_maps import ids_to_rgb, png_bytes
from masqclip.data.published import load_truth
from masqclip.data.rle import encode_rle
from masqclip.data.segmentations import segmentation_mask
from masqclip.data.truth import GroundTruth, Picture
from masqclip.evaluation.evaluate import make_manifest
from masqclip.evaluation.predictions import PredictionFolder, Segments
from masqclip.evaluation.protocol import Protocol
from masqclip.evaluation.vocabularies import dataset_vocabulary

PHOTOGRAPHS = Path(__file__).parents[1] / "data" / "photographs"
PANOPTIC, INSTANCES = (PHOTOGRAPHS / f"{k}_train2017.json" for k in ("panoptic", "instances"))
IMAGES = PHOTOGRAPHS / "train2017"


def open_truth(file: Path) -> GroundTruth:
    return load_truth(str(file), Path(), images=IMAGES)


def claim(folder: Path, truth: GroundTruth, tasks: tuple[str, ...]) -> PredictionFolder:
    predictions = PredictionFolder(folder)
    model = {"name": "the truth", "version": "1"}
    words = dataset_vocabulary(truth)
    predictions.claim(make_manifest(model, truth, words, Protocol(), tasks))
    return predictions


def true_instances(truth: GroundTruth, picture: Picture) -> list[dict[str, Any]]:
    """Every instance that is no crowd, as an entry of a results file."""
    size = (picture.height, picture.width)
    return [
        {
            "image_id": picture.id,
            "category_id": entry["category_id"],
            "score": 0.5,
            "segmentation": encode_rle(segmentation_mask(entry["segmentation"], *size)),
        }
        for entry in truth.instances_of(picture)
        if not entry["iscrowd"]
    ]


def evaluated(predictions: PredictionFolder, file: Path, out: Path) -> dict[str, dict[str, float]]:
    """The figures that the command writes."""
    data = ["--dataset", str(file), "--images", str(IMAGES)]
    words = ["evaluate", "--predictions", str(predictions.path), *data, "--out", str(out)]
    assert main(words) == 0
    return dict(json.loads((out / "report.json").read_text())["figures"])


def test_the_truth_has_a_panoptic_quality_and_an_iou_of_100(tmp_path: Path) -> None:
    truth = open_truth(PANOPTIC)
    predictions = claim(tmp_path / "predictions", truth, ("semantic", "panoptic"))
    for picture in truth.pictures:
        ids, segments = truth.panoptic_of(picture)
        predictions.write_panoptic(picture.id, ids, [dict(segment) for segment in segments])
        predictions.write_semantic(picture.id, truth.class_map_of(picture), len(truth.classes))
    figures = evaluated(predictions, PANOPTIC, tmp_path / "out")
    for name in ("PQ", "SQ", "RQ"):
        for part in ("", " things", " stuff"):
            assert figures["panoptic"][name + part] == 1
    assert {figures["semantic"][name] for name in ("mIoU", "fwIoU", "mAcc", "pAcc")} == {1}


def test_the_truth_has_an_average_precision_of_100(tmp_path: Path) -> None:
    truth = open_truth(INSTANCES)
    predictions = claim(tmp_path / "predictions", truth, ("instance",))
    for picture in truth.pictures:
        records = true_instances(truth, picture)
        assert len(records) == 32
        predictions.write_records("instance", picture.id, records)
    figures = evaluated(predictions, INSTANCES, tmp_path / "out")["instance"]
    names = ("AP", "AP50", "AP75", "APs", "APm", "AR100", "ARs", "ARm")
    assert [figures[name] for name in names] == pytest.approx([1] * len(names), abs=1e-12)
    assert figures["APl"] is figures["ARl"] is None, "only crowds are large"


def test_what_lies_in_a_crowd_is_no_mistake(tmp_path: Path) -> None:
    """People found within the crowd of people cost nothing; there outside they do."""
    truth = open_truth(INSTANCES)
    (picture,) = truth.pictures
    (crowd,) = (
        segmentation_mask(entry["segmentation"], picture.height, picture.width)
        for entry in truth.instances_of(picture)
        if entry["iscrowd"] and entry["category_id"] == 1
    )
    rows = np.flatnonzero(crowd.any(1))
    part = crowd & (np.arange(picture.height) < rows.mean())[:, None]
    for name, mask, expected in (("in", part, True), ("out", ~crowd, False)):
        guess = {"image_id": picture.id, "category_id": 1, "score": 0.9}
        predictions = claim(tmp_path / name, truth, ("instance",))
        records = [*true_instances(truth, picture), {**guess, "segmentation": encode_rle(mask)}]
        predictions.write_records("instance", picture.id, records)
        figures = evaluated(predictions, INSTANCES, tmp_path / f"{name}-out")["instance"]
        assert (figures["AP"] > 1 - 1e-12) is expected


def damaged(
    rng: np.random.Generator, ids: np.ndarray, segments: Segments, categories: list[int]
) -> tuple[np.ndarray, Segments]:
    """The truth with all shifted by a few pixels, some segments dropped, others renamed."""
    moved = np.roll(ids, rng.integers(-6, 7, 2), axis=(0, 1))
    kept = []
    for segment in segments:
        fate = rng.random()
        if fate < 0.2:
            moved = np.where(moved == segment["id"], 0, moved)
        elif fate < 0.4:
            kept.append({**segment, "category_id": int(rng.choice(categories))})
        else:
            kept.append(dict(segment))
    return moved, kept


def damaged_cases(truth: GroundTruth) -> Iterator[tuple[Picture, Any]]:
    rng = np.random.default_rng(3)
    categories = [entry.id for entry in truth.classes]
    for picture in truth.pictures:
        ids, segments = truth.panoptic_of(picture)
        true = [dict(segment) for segment in segments]
        yield picture, (*damaged(rng, ids, true, categories), ids, true)


def test_panoptic_quality_of_damaged_predictions(tmp_path: Path) -> None:
    """Equal to its definition, in plain loops, and to the reference tool's."""
    truth = open_truth(PANOPTIC)
    things = {entry.id: entry.thing is not False for entry in truth.classes}
    predictions = claim(tmp_path / "predictions", truth, ("panoptic",))
    document = json.loads(PANOPTIC.read_text())
    guesses, cases = [], []
    (tmp_path / "guesses").mkdir()
    for picture, case in damaged_cases(truth):
        ids, segments, _, _ = case
        predictions.write_panoptic(picture.id, ids, segments)
        name = f"{picture.id}.png"
        (tmp_path / "guesses" / name).write_bytes(png_bytes(ids_to_rgb(ids)))
        guesses.append({"image_id": picture.id, "file_name": name, "segments_info": segments})
        cases.append(case)
    guess_file = tmp_path / "guesses.json"
    guess_file.write_text(json.dumps({**document, "annotations": guesses}))
    figures = evaluated(predictions, PANOPTIC, tmp_path / "out")["panoptic"]
    assert 0.2 < figures["PQ"] < 0.9, "there must be hits and misses"
    defined = definition_of_pq(cases, list(things))
    tool = pq_compute(
        str(PANOPTIC), str(guess_file), str(PANOPTIC.with_suffix("")), str(tmp_path / "guesses")
    )
    for part, theirs, wanted in (
        ("", "All", (True, False)), (" things", "Things", (True,)), (" stuff", "Stuff", (False,)),
    ):  # fmt: skip
        for column, name in enumerate(("PQ", "SQ", "RQ")):
            expected = np.mean([v[column] for c, v in defined.items() if things[c] in wanted])
            assert figures[name + part] == pytest.approx(expected, abs=1e-12)
            assert figures[name + part] == pytest.approx(tool[theirs][name.lower()], abs=1e-12)
