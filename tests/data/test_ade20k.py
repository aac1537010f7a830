"""ADE20K's own coding of instances and classes, converted to COCO and to class maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data.ade20k import full_labels, instances_to_coco, panoptic_to_coco
from masqclip.data.class_lists import read_class_list
from masqclip.data.label_maps import read_labels, read_segment_ids
from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError

CLASSES = read_class_list("ade20k-150").classes
THINGS = [entry for entry in CLASSES if entry.thing]
STUFF = [entry for entry in CLASSES if not entry.thing]
#: Numbers of things (from 1) and of instances of each, as red and green; 0 = none.
KINDS = np.array([[0, 1, 1, 0], [2, 2, 1, 100], [0, 0, 1, 5]])
NUMBERS = np.array([[0, 1, 1, 3], [1, 1, 2, 1], [0, 0, 2, 0]])


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Class maps, instances and pictures; the stem of "a" comes before "a-b", its name after."""
    labels, instances, images = (tmp_path / name for name in ("labels", "instances", "images"))
    for folder in (labels, instances, images):
        folder.mkdir()
    coded = np.stack([KINDS, NUMBERS, np.full_like(KINDS, 9)], axis=-1).astype(np.uint8)
    stuff = np.full((3, 4), STUFF[0].id + 1, np.uint8)
    stuff[2] = [0, STUFF[1].id + 1, STUFF[1].id + 1, 0]
    for name in ("a", "a-b"):
        Image.fromarray(coded).save(instances / f"{name}.png")
        Image.fromarray(stuff).save(labels / f"{name}.png")
    (images / "a.jpg").touch()
    (images / "a-b.png").touch()
    (instances / "notes.txt").touch()
    return [labels, instances, images]


def test_instances_are_the_pairs_of_a_kind_and_a_number(folders: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    target = folders[0].parent / "out.json"
    instances_to_coco(folders[1:], target, lambda *done: told.append(done))
    content = json.loads(target.read_text())
    assert told == [(1, 2), (2, 2)]
    assert content["images"] == [
        {"id": 0, "file_name": "a.jpg", "height": 3, "width": 4},
        {"id": 1, "file_name": "a-b.png", "height": 3, "width": 4},
    ]
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, 9))
    assert [entry["image_id"] for entry in content["annotations"]] == [0] * 4 + [1] * 4
    for entry, (kind, number), box in zip(
        content["annotations"],
        [(1, 1), (2, 1), (100, 1), (1, 2)],
        [[1, 0, 2, 1], [0, 1, 2, 1], [3, 1, 1, 1], [2, 1, 1, 2]],
        strict=False,
    ):
        mask = (kind == KINDS) & (number == NUMBERS)
        assert np.array_equal(decode_rle(entry["segmentation"]), mask)
        assert (entry["category_id"], entry["iscrowd"]) == (THINGS[kind - 1].id, 0)
        assert (entry["area"], entry["bbox"]) == (mask.sum(), box)
    assert [c["id"] for c in content["categories"]] == [entry.id for entry in THINGS]
    assert {c["isthing"] for c in content["categories"]} == {1}


def test_a_kind_beyond_the_hundred_is_refused(folders: list[Path]) -> None:
    coded = np.zeros((3, 4, 3), np.uint8)
    coded[0, 0] = (101, 1, 0)
    Image.fromarray(coded).save(folders[1] / "a.png")
    with pytest.raises(MasqclipError, match=r"a\.png: class 101 of 100"):
        instances_to_coco(folders[1:], folders[0].parent / "out.json", lambda *done: None)


def test_things_lie_over_stuff_in_a_panoptic_map(folders: list[Path]) -> None:
    target = folders[0].parent / "out.json"
    panoptic_to_coco(folders, target, lambda *done: None)
    content = json.loads(target.read_text())
    assert [entry["file_name"] for entry in content["annotations"]] == ["a.png", "a-b.png"]
    assert len(content["categories"]) == 150
    assert sum(c["isthing"] for c in content["categories"]) == 100
    found = content["annotations"][0]
    ids = read_segment_ids(target.with_suffix("") / "a.png")
    segments = found["segments_info"]
    assert [s["id"] for s in segments] == sorted(set(ids.ravel().tolist()) - {0})
    assert [s["area"] for s in segments] == [(ids == s["id"]).sum() for s in segments]
    assert all(s["iscrowd"] == 0 for s in segments)
    by_class = {s["id"]: s["category_id"] for s in segments}
    sky, wall = STUFF[0].id, STUFF[1].id
    one, two, last = (THINGS[kind - 1].id for kind in (1, 2, 100))
    classes = [[by_class.get(i, -1) for i in row] for row in ids.tolist()]
    assert classes == [[sky, one, one, sky], [two, two, one, last], [-1, wall, one, -1]]
    assert ids[0, 1] != ids[1, 2]  # two instances of one kind


def test_maps_of_another_size_are_refused(folders: list[Path]) -> None:
    Image.new("L", (4, 4)).save(folders[0] / "a.png")
    with pytest.raises(MasqclipError, match="differ in size"):
        panoptic_to_coco(folders, folders[0].parent / "out.json", lambda *done: None)


def test_an_empty_folder_is_said(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MasqclipError, match=r"holds no \*\.png: unpack"):
        instances_to_coco([tmp_path / "empty", folders[2]], tmp_path / "o", lambda *done: None)


def test_the_full_set_s_classes_are_coded_in_red_and_green(tmp_path: Path) -> None:
    """A number is ten times red's tens and green: R / 10 * 256 + G; blue tells instances apart."""
    classes = read_class_list("ade20k-847").classes
    chosen = [0, 1, 500, 846]
    row = [(classes[k].id // 256 * 10 + 7, classes[k].id % 256, k % 256) for k in chosen]
    coded = np.array([[*row, (255, 255, 0)]])
    (tmp_path / "in/deep").mkdir(parents=True)
    Image.fromarray(coded.astype(np.uint8)).save(tmp_path / "in/deep/x_seg.png")
    full_labels([tmp_path / "in"], tmp_path / "out", lambda *done: None)
    (made,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert made.stem == "x"
    assert read_labels(made).tolist() == [[*chosen, 65535]]
