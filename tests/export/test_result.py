"""Results in other tools' formats hold the same masks."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data.label_maps import ids_to_rgb, rgb_to_ids
from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError
from masqclip.export.panoptic import semantic_png
from masqclip.result import Segmentation, Task
from masqclip.segment import Segment


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


def test_what_was_not_found_is_known() -> None:
    assert segmentation(names=("dog", "cat", "sky", "tree")).not_found == ("dog", "tree")
    assert segmentation().not_found == ()


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
    with pytest.raises(MasqclipError, match="kind 'polygons': give 'brush', 'bitmask', 'polygon'"):
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


def layered() -> Segmentation:
    """Three instances that overlap, none of which is the best by its place."""
    masks = np.zeros((3, 4, 6), bool)
    masks[0, :, :4], masks[1, :, 1:5], masks[2, :, 2:] = True, True, True
    segments = tuple(
        Segment(n + 1, name, n, score, n != 2, mask)
        for n, (name, score, mask) in enumerate(
            zip(("cat", "dog", "sky"), (0.7, 0.912345, 0.5), masks, strict=True)
        )
    )
    notes = ("transparency put on white", "turned upright")
    return Segmentation(
        np.zeros((4, 6, 3), np.uint8), "instance", ("cat", "dog", "sky"), segments, notes
    )


def test_the_best_instance_lies_on_top_of_a_class_map(tmp_path: Path) -> None:
    classes = np.asarray(Image.open(layered().to_semantic_png(tmp_path / "s.png")))
    assert classes.tolist() == [[0, 1, 1, 1, 1, 2]] * 4


def test_numbers_of_the_dataset_and_what_is_a_thing() -> None:
    result = layered()
    assert [entry["category_id"] for entry in result.segments_info([9, 4, 7])] == [9, 4, 7]
    assert [entry["category_id"] for entry in result.segments_info()] == [0, 1, 2]
    assert [entry["category_id"] for entry in result.to_coco()] == [0, 1, 2]
    assert [entry["image_id"] for entry in result.to_coco()] == [0, 0, 0]
    info = result.segments_info()
    assert [entry["isthing"] for entry in info] == [1, 1, 0]
    assert [entry["iscrowd"] for entry in info] == [0, 0, 0]
    assert [entry["id"] for entry in info] == [1, 2, 3]
    assert [entry["name"] for entry in info] == ["cat", "dog", "sky"]
    assert [entry["score"] for entry in info] == [0.7, 0.9123, 0.5]
    assert [entry["bbox"] for entry in info] == [[0, 0, 4, 4], [1, 0, 4, 4], [2, 0, 4, 4]]
    assert [entry["area"] for entry in info] == [16, 16, 16]


def test_json_holds_everything_but_the_picture() -> None:
    result = layered()
    document = result.to_json()
    assert document.keys() == {
        "task", "height", "width", "vocabulary", "notes", "segments",
    }  # fmt: skip
    assert document["vocabulary"] == ["cat", "dog", "sky"]
    assert document["notes"] == ["transparency put on white", "turned upright"]
    assert [entry["score"] for entry in document["segments"]] == [0.7, 0.9123, 0.5]
    assert document["segments"][1]["bbox"] == [1, 0, 4, 4]
    again = Segmentation.from_json(document)
    assert (again.task, again.names, again.notes) == (result.task, result.names, result.notes)
    assert not again.image.any()
    for before, after in zip(result.segments, again.segments, strict=True):
        for name in ("id", "name", "class_id", "thing"):
            assert getattr(after, name) == getattr(before, name)
        assert after.score == pytest.approx(before.score, abs=1e-4)
        assert np.array_equal(after.mask, before.mask)


def test_a_summary_counts_what_is_there_more_than_once() -> None:
    result = layered()
    twice = Segmentation(result.image, "instance", result.names, (*result.segments[1:],) * 2)
    assert twice.summary() == "dog x2, sky x2"
    assert (len(twice), len(result)) == (4, 3)


@pytest.mark.parametrize(("names", "unlabelled"), [(255, 255), (256, 65535)])
def test_sixteen_bits_begin_where_eight_end(names: int, unlabelled: int) -> None:
    """255 classes have the values 0 to 254; of more, the last would be "unlabelled"."""
    png = semantic_png(np.array([[0, names - 1, -1]]), names)
    assert np.asarray(Image.open(BytesIO(png))).tolist() == [[0, names - 1, unlabelled]]


def test_no_png_tells_more_than_65535_classes() -> None:
    assert semantic_png(np.array([[65534, -1]]), 65535)
    with pytest.raises(MasqclipError, match="65536 classes do not fit"):
        semantic_png(np.array([[0]]), 65536)


def test_drawing_options_reach_the_picture(tmp_path: Path) -> None:
    result = layered()
    drawn = {
        name: Image.open(result.save(tmp_path / f"{name}.png", **options)).tobytes()
        for name, options in (
            ("plain", {}),
            ("opaque", {"opacity": 1.0}),
            ("bare", {"labels": False}),
        )
    }
    assert len(set(drawn.values())) == 3
    assert drawn["plain"] == result.plot().tobytes()
    assert drawn["plain"] == result.plot(opacity=0.55, labels=True).tobytes()
    assert drawn["opaque"] == result.plot(opacity=1.0).tobytes()
    assert drawn["bare"] == result.plot(labels=False).tobytes()
