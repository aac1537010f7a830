"""Tables and files of a measurement, from figures that are made up."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from masqclip.errors import MasqclipError
from masqclip.evaluation.oracle import COUNTS, MaskAccuracy, ProposalRecall
from masqclip.evaluation.report import (
    Column,
    Report,
    column,
    paper_column,
    read_column,
    to_markdown,
)

NAN = float("nan")
REPORT = Report(
    dataset="ade20k-150",
    split="",
    pictures=2,
    model={"name": "m", "version": "v"},
    hashes={"semantic": "aaa", "panoptic": "bbb"},
    protocols={"semantic": {}, "panoptic": {}},
    figures={"semantic": {"mIoU": 0.25, "mIoU novel": NAN}, "panoptic": {"PQ": 0.5}},
    classes=[
        {"id": 3, "name": "a, b", "thing": True, "split": "base"},
        {"id": 4, "name": "c", "thing": None, "split": None},
    ],
    per_class={"semantic": {"IoU": [0.5, NAN]}, "panoptic": {"PQ": [0.125, 0.25]}},
    quality={"semantic": {1: 0.5, 2: NAN}},
)


def test_a_table_marks_what_does_not_compare() -> None:
    other = Column("other", {"semantic": "aaa", "panoptic": "ccc"}, {"panoptic": {"PQ": 0.4}})
    paper = paper_column("ade20k-150", "", {"semantic": "aaa", "panoptic": "bbb"})
    assert paper is not None
    assert to_markdown([column("mine", REPORT), other, paper]).splitlines() == [
        "| | mine | other | MasQCLIP (ICCV 2023) | protocol |",
        "| --- | ---: | ---: | ---: | --- |",
        "| mIoU | 25.0 | - | 30.4 | `aaa` |",
        "| mIoU novel | - | - | - | `aaa` |",
        "| PQ | 50.0 | 40.0* | 23.3 | `bbb` |",
        "",
        "\\* measured by another protocol: not comparable.",
    ]
    assert paper_column("coco-base-novel", "novel", {}) is None
    assert paper_column("stickers", "", {}) is None


def test_json_has_null_for_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "report.json"
    file.write_bytes(REPORT.to_json())
    document = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert document["figures"]["semantic"] == {"mIoU": 0.25, "mIoU novel": None}
    again = read_column(tmp_path / "run")
    assert (again.title, again.hashes) == ("run", REPORT.hashes)
    assert "| mIoU novel | - | - |" in to_markdown([column("mine", REPORT), again])
    file.write_text("{}")
    with pytest.raises(MasqclipError, match="no report of masqclip evaluate"):
        read_column(file)


def test_a_row_a_class() -> None:
    rows = list(csv.reader(io.StringIO(REPORT.to_csv().decode())))
    assert rows == [
        ["id", "name", "thing", "split", "IoU", "PQ"],
        ["3", "a, b", "True", "base", "0.500000", "0.125000"],
        ["4", "c", "", "", "", "0.250000"],
    ]


def test_mask_accuracy_by_hand() -> None:
    metric, other = MaskAccuracy(3), MaskAccuracy(3)
    right, wrong = (
        {"class": 0, "predicted": p, "iou": 1.0, "area": area} for p, area in ((0, 1023), (2, 1024))
    )
    assert metric.update([right, wrong, right]) == pytest.approx(2 / 3)
    assert other.update([{"class": 1, "predicted": 1, "iou": 0.5, "area": 10}]) == 1
    assert math.isnan(other.update([]))
    metric.merge(other)
    scores = metric.results({"base": [0], "novel": {1, 2}, "none": [2]})
    assert scores["mask accuracy"] == pytest.approx(3 / 4)
    assert scores["mask accuracy base"] == pytest.approx(2 / 3)
    assert scores["mask accuracy novel"] == 1
    assert math.isnan(scores["mask accuracy none"])
    assert scores["mask accuracy small"] == 1
    assert scores["mask accuracy medium"] == 0
    assert math.isnan(scores["mask accuracy large"])
    assert scores["class accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["mask quality"] == pytest.approx(3.5 / 4)


def test_proposal_recall_by_hand() -> None:
    assert COUNTS == (1, 10, 50, 100)
    metric, other = ProposalRecall(), ProposalRecall()
    metric.update([{"class": 0, "area": 100, "ious": [0.0, 0.5, 0.74, 1.0]}])
    other.update([{"class": 1, "area": 2000, "ious": [0.2, 0.2, 0.6, 0.6]}])
    metric.merge(other)
    scores = metric.results({"novel": {1}})
    # Thresholds 0.50, 0.55 ... 0.95: 0.5 reaches one of ten, 0.6 three, 0.74 five, 1 all.
    assert scores["AR@1"] == 0
    assert scores["AR@10"] == pytest.approx(0.1 / 2)
    assert scores["AR@50"] == pytest.approx((0.5 + 0.3) / 2)
    assert scores["AR@100"] == pytest.approx((1 + 0.3) / 2)
    assert scores["AR@100 small"] == 1
    assert scores["AR@100 medium"] == scores["AR@100 novel"] == pytest.approx(0.3)
    assert math.isnan(scores["AR@100 large"])
    assert scores["recall at IoU 0.5"] == 1
    assert scores["mean best IoU"] == scores["matched IoU"] == pytest.approx(0.8)
    assert scores["matched IoU novel"] == pytest.approx(0.6)
    np.testing.assert_allclose(metric.per_class(3)["AR@100"], [1, 0.3, np.nan])


def test_matched_iou_is_over_recalled_masks_only() -> None:
    metric = ProposalRecall()
    for found, category in [(0.5, 0), (0.9, 0), (0.49, 0), (0.2, 1)]:
        metric.update([{"class": category, "area": 100, "ious": [found] * len(COUNTS)}])
    scores = metric.results({"base": {0}, "novel": {1}})
    assert scores["recall at IoU 0.5"] == pytest.approx(2 / 4)
    assert scores["mean best IoU"] == pytest.approx((0.5 + 0.9 + 0.49 + 0.2) / 4)
    assert scores["matched IoU"] == scores["matched IoU base"] == pytest.approx(0.7)
    assert math.isnan(scores["matched IoU novel"])


def test_cocos_sizes_of_masks_at_their_edges() -> None:
    """Small is below 32 x 32 pixels, medium below 96 x 96."""
    edges = {"small": (1, 1023), "medium": (1024, 9215), "large": (9216, 10**7)}
    for name, areas in edges.items():
        for area in areas:
            found, named = ProposalRecall(), MaskAccuracy(1)
            found.update([{"class": 0, "area": area, "ious": [0.5] * 4}])
            named.update([{"class": 0, "predicted": 0, "iou": 1.0, "area": area}])
            for size in edges:
                recall = found.results()[f"AR@100 {size}"]
                assert recall == pytest.approx(0.1) if size == name else math.isnan(recall)
                accuracy = named.results()[f"mask accuracy {size}"]
                assert accuracy == 1 if size == name else math.isnan(accuracy)


def test_a_pictures_proposals_by_hand() -> None:
    """The mean of what the last count reaches; recall from an IoU of one half, itself included."""
    metric = ProposalRecall()
    records = [{"class": 0, "area": 9, "ious": [0, 0, 0, iou]} for iou in (0.5, 0.499)]
    assert metric.update(records) == pytest.approx(0.4995)
    assert math.isnan(metric.update([]))
    assert metric.results()["recall at IoU 0.5"] == 0.5
    assert metric.results()["AR@100"] == pytest.approx(0.05)
