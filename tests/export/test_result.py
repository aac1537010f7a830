"""Results in other tools' formats hold the same masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data.label_maps import ids_to_rgb, rgb_to_ids
from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError
from masqclip.export.panoptic import semantic_png
from masqclip.result import Segment, Segmentation, Task


def segmentation(task: Task = "panoptic", names: tuple[str, ...] = ("sky", "cat")) -> Segmentation:
    top, cat = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    top[:8] = True
    cat[10:15, 4:9] = True
    segments = (
        Segment(1, "sky", names.index("sky"), 0.9, False, top),
        Segment(2, "cat", names.index("cat"), 0.8, True, cat),
    )
    return Segmentation(np.zeros((20, 30, 3), np.uint8), task, names, segments)


def test_boxes_and_areas() -> None:
    sky, cat = segmentation().segments
    assert sky.box == (0, 0, 30, 8)
    assert cat.box == (4, 10, 9, 15)
    assert (sky.area, cat.area) == (240, 25)
    assert Segment(1, "x", 0, 1.0, True, np.zeros((3, 3), bool)).box == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_masks_of_0_and_1_are_masks(kind: type) -> None:
    _, cat = segmentation().segments
    again = Segment(2, "cat", 1, 0.8, True, cat.mask.astype(kind))
    assert again.mask.dtype == bool
    assert np.array_equal(again.mask, cat.mask)


@pytest.mark.parametrize("numbers", [(0.9, 0.1), (3.0, -3.0), (np.nan, 0.0), (255, 0)])
def test_what_is_no_mask_is_refused(numbers: tuple[float, float]) -> None:
    _, cat = segmentation().segments
    with pytest.raises(MasqclipError, match=r"the mask of the segment 'cat' holds .*: give bool"):
        Segment(2, "cat", 1, 0.8, True, np.where(cat.mask, *numbers))


@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 1)])
def test_a_mask_has_two_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(MasqclipError, match=r"has the shape .*: give \[H, W\]"):
        Segment(1, "cat", 0, 1.0, True, np.ones(shape, bool))


def test_maps() -> None:
    panoptic = segmentation("panoptic").label_map
    assert sorted(np.unique(panoptic).tolist()) == [0, 1, 2]
    semantic = segmentation("semantic").label_map
    assert semantic[0, 0] == 0
    assert semantic[12, 5] == 1
    assert semantic[19, 29] == -1
    with pytest.raises(MasqclipError, match="overlap"):
        _ = segmentation("instance").label_map


def test_coco_holds_the_masks_under_the_datasets_numbers() -> None:
    result = segmentation()
    entries = result.to_coco(image_id=7, category_ids=[91, 17])
    assert [entry["category_id"] for entry in entries] == [91, 17]
    assert entries[1]["bbox"] == [4.0, 10.0, 5.0, 5.0]
    for entry, segment in zip(entries, result.segments, strict=True):
        assert np.array_equal(decode_rle(entry["segmentation"]), segment.mask)
        assert entry["image_id"] == 7
    json.dumps(entries)


@pytest.mark.parametrize("numbers", [[], [91], [91, 17, 4]])
def test_numbers_that_are_not_one_for_each_name_are_refused(numbers: list[int]) -> None:
    with pytest.raises(MasqclipError, match=rf"{len(numbers)} category_ids do not fit 2 names"):
        segmentation().to_coco(category_ids=numbers)
    with pytest.raises(MasqclipError, match="do not fit 2 names"):
        segmentation().segments_info(numbers)


def test_a_kind_of_region_that_is_none_is_refused() -> None:
    with pytest.raises(MasqclipError, match="kind 'polygons': give 'brush' or 'polygon'"):
        segmentation().to_label_studio(kind="polygons")  # type: ignore[arg-type]


def test_names_follow_when_the_vocabulary_is_in_another_order(tmp_path: Path) -> None:
    result = segmentation("semantic", ("dog", "cat", "sky"))
    classes = np.asarray(Image.open(result.to_semantic_png(tmp_path / "s.png")))
    assert result.names[classes[0, 0]] == "sky"
    assert result.names[classes[12, 5]] == "cat"
    assert classes[19, 29] == 255


def test_panoptic_png_and_its_segments(tmp_path: Path) -> None:
    result = segmentation()
    info = result.to_panoptic_png(tmp_path / "p.png")
    ids = rgb_to_ids(np.asarray(Image.open(tmp_path / "p.png")))
    assert np.array_equal(ids, result.label_map)
    written = json.loads((tmp_path / "p.json").read_text())
    assert written == {"file_name": "p.png", "segments_info": info}
    assert [(ids == entry["id"]).sum() for entry in info] == [entry["area"] for entry in info]
    with pytest.raises(MasqclipError, match="panoptic"):
        segmentation("semantic").to_panoptic_png(tmp_path / "q.png")


def test_ids_as_colours_and_back() -> None:
    ids = np.array([[0, 255, 256], [65535, 65536, 2**24 - 1]])
    assert np.array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)


def test_many_classes_take_sixteen_bits(tmp_path: Path) -> None:
    classes = np.array([[0, 300], [-1, 846]])
    (tmp_path / "many.png").write_bytes(semantic_png(classes, 847))
    assert np.asarray(Image.open(tmp_path / "many.png")).tolist() == [[0, 300], [65535, 846]]


def test_json_and_summary() -> None:
    document = json.loads(json.dumps(segmentation().to_json()))
    assert [segment["name"] for segment in document["segments"]] == ["sky", "cat"]
    assert (document["height"], document["width"]) == (20, 30)
    assert segmentation().summary() == "sky, cat"
    nothing = Segmentation(np.zeros((2, 2, 3), np.uint8), "panoptic", ("cat",), ())
    assert nothing.summary() == "nothing found"
    assert len(nothing) == 0


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_json_and_back(task: Task) -> None:
    result = segmentation(task)
    document = json.loads(json.dumps(result.to_json()))
    again = Segmentation.from_json(document)
    assert again.to_json() == document
    assert again.image.shape == result.image.shape
    for before, after in zip(result.segments, again.segments, strict=True):
        assert np.array_equal(before.mask, after.mask)
        assert (before.box, before.area) == (after.box, after.area)
    assert Segmentation.from_json(document, result.image).image is result.image


def test_yolo_and_label_studio_hold_every_segment() -> None:
    result = segmentation("instance")
    lines = result.to_yolo()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    corners = np.array(lines[1].split()[1:], float).reshape(-1, 2) * (30, 20)
    pixels = corners.astype(int)
    assert (*pixels.min(axis=0), *pixels.max(axis=0)) == (4, 10, 8, 14)
    for kind in ("brush", "polygon"):
        regions = result.to_label_studio(kind)  # type: ignore[arg-type]
        assert [region["value"][f"{kind}labels"] for region in regions] == [["sky"], ["cat"]]
        assert len({region["id"] for region in regions}) == 2
        json.dumps(regions)


def test_supervision() -> None:
    pytest.importorskip("supervision")
    result = segmentation()
    detections = result.to_supervision()
    assert detections.mask.shape == (2, 20, 30)
    assert detections.data["class_name"].tolist() == ["sky", "cat"]
    empty = Segmentation(result.image, "panoptic", result.names, ()).to_supervision()
    assert len(empty) == 0
