"""What a published dataset consists of: which parts are there, lacking, or can be made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masqclip.data.class_lists import read_class_list
from masqclip.data.coco_datasets import (
    COCO_BASE_NOVEL,
    COCO_INSTANCES,
    COCO_PANOPTIC,
    base_novel_split,
)
from masqclip.data.datasets import Dataset, Part, Progress, convert_labels
from masqclip.data.locks import lock_folder
from masqclip.data.pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_459
from masqclip.errors import MasqclipError


def make(sources: Sequence[Path], target: Path, report: Progress) -> None:
    report(1, 2)
    target.write_text(" ".join(source.name for source in sources))
    report(2, 2)


def read(found: dict[str, Path]) -> Any:
    return {key: path.name for key, path in found.items()}


DATASET = Dataset(
    "small",
    folder="small_folder",
    parts={
        "images": Part("the pictures", ("new", "old"), "somewhere", ("semantic", "panoptic")),
        "one": Part("the first", ("one.txt",), "a page"),
        "two": Part("the second", ("two.txt",), "another page"),
        "made": Part(
            "what is made", ("ready.txt", "masqclip/made.txt"), tasks=("panoptic",),
            convert=make, inputs=("one", "two"),
        ),
    },
    pictures=3,
    read=read,
)  # fmt: skip


def states(root: Path) -> list[tuple[str, str]]:
    return [(finding.state, finding.remark) for finding in DATASET.check(root)]


def lacking(root: Path) -> dict[str, list[str]]:
    return {task: [p.about for p in parts] for task, parts in DATASET.lacking(root).items()}


def test_a_check_tells_each_part_in_its_order(tmp_path: Path) -> None:
    missing = [
        ("missing", "new: somewhere"), ("missing", "one.txt: a page"),
        ("missing", "two.txt: another page"), ("missing", "is made from the first, the second"),
    ]  # fmt: skip
    assert states(tmp_path) == missing
    assert lacking(tmp_path) == {
        "semantic": ["the pictures"], "panoptic": ["the pictures", "what is made"]
    }  # fmt: skip
    (tmp_path / "old").mkdir()
    (tmp_path / "one.txt").touch()
    assert states(tmp_path) == [
        ("there", "old"), ("there", "one.txt"), missing[2],
        ("missing", "is made from the second"),
    ]  # fmt: skip
    (tmp_path / "new").mkdir()
    (tmp_path / "two.txt").touch()
    assert states(tmp_path)[0] == ("there", "new")
    assert states(tmp_path)[3] == ("convertible", "--convert makes masqclip/made.txt")
    assert lacking(tmp_path) == {"semantic": [], "panoptic": ["what is made"]}
    assert [finding.part for finding in DATASET.check(tmp_path)] == list(DATASET.parts.values())


def test_what_can_be_made_is_made_once(tmp_path: Path) -> None:
    reported: list[tuple[str, int, int]] = []

    def report(*told: Any) -> None:
        reported.append(told)

    (tmp_path / "one.txt").touch()
    assert DATASET.convert(tmp_path, report) == []
    (tmp_path / "two.txt").touch()
    made = tmp_path / "masqclip" / "made.txt"
    assert DATASET.convert(tmp_path, report) == [made]
    assert made.read_text() == "one.txt two.txt"
    assert reported == [("what is made", 1, 2), ("what is made", 2, 2)]
    assert DATASET.convert(tmp_path, report) == []
    assert states(tmp_path)[3] == ("there", "masqclip/made.txt")
    made.unlink()
    (tmp_path / "ready.txt").touch()
    assert DATASET.convert(tmp_path, report) == []
    assert len(reported) == 2


def test_one_process_converts_at_a_time(tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).touch()
    with lock_folder(tmp_path / "masqclip"), pytest.raises(MasqclipError, match="is at work"):
        DATASET.convert(tmp_path, lambda *_: None)


def test_the_folder_given_is_the_dataset_s_or_the_one_above(tmp_path: Path) -> None:
    assert DATASET.root(str(tmp_path)) == tmp_path
    (tmp_path / "small_folder").touch()
    assert DATASET.root(tmp_path) == tmp_path
    (tmp_path / "small_folder").unlink()
    (tmp_path / "small_folder").mkdir()
    assert DATASET.root(tmp_path) == tmp_path / "small_folder"
    with pytest.raises(
        MasqclipError,
        match=r"^--root .*gone: there is no such folder; 'masqclip data check small' says",
    ):
        DATASET.root(tmp_path / "gone")


def test_what_is_read_is_all_that_is_there(tmp_path: Path) -> None:
    def said(*tasks: str) -> str:
        with pytest.raises(MasqclipError) as caught:
            DATASET.load(tmp_path, tasks)
        return str(caught.value)

    what = f": masqclip data check small --root {tmp_path} says what to do"
    assert said() == said("panoptic") == f"small in {tmp_path} lacks the pictures{what}"
    (tmp_path / "old").mkdir()
    assert DATASET.load(tmp_path) == {"images": "old"}
    assert DATASET.load(tmp_path, ["semantic"]) == {"images": "old"}
    assert said("semantic", "panoptic") == f"small in {tmp_path} lacks what is made{what}"
    (tmp_path / "two.txt").touch()
    (tmp_path / "ready.txt").touch()
    expected = {"images": "old", "two": "two.txt", "made": "ready.txt"}
    assert DATASET.load(tmp_path, ["panoptic"]) == expected


# Label files


def test_label_files_are_converted_in_order_and_whole(tmp_path: Path) -> None:
    target, told = tmp_path / "deep" / "labels", list[tuple[int, int]]()
    unfinished = tmp_path / "deep" / ".labels.unfinished"

    def convert(path: Path) -> np.ndarray:
        if path.name == "bad":
            raise MasqclipError("bad")
        return np.full((2, 3), int(path.name), np.uint8)

    def report(*done: int) -> None:
        assert not target.exists()
        told.append((done[0], done[1]))

    with pytest.raises(MasqclipError, match="bad"):
        convert_labels({"a": Path("1"), "b": Path("bad")}, target, convert, report)
    assert told == [(1, 2)]
    assert [path.name for path in unfinished.iterdir()] == ["a.png"]
    # What was made before is not made again, though it would come out otherwise.
    convert_labels({"a": Path("7"), "b": Path("2")}, target, convert, report)
    assert told == [(1, 2), (1, 2), (2, 2)]
    assert not unfinished.exists()
    assert sorted(path.name for path in target.iterdir()) == ["a.png", "b.png"]
    for stem, value in (("a", 1), ("b", 2)):
        with Image.open(target / f"{stem}.png") as image:
            assert (np.asarray(image) == value).all()
            assert image.size == (3, 2)


@pytest.mark.parametrize("stem", ["../a", "a/b", "..", "/a"])
def test_a_label_s_name_has_no_folders(stem: str, tmp_path: Path) -> None:
    def convert(_: Path) -> np.ndarray:
        return np.zeros((1, 1), np.uint8)

    if stem == "..":  # is made "...png", which is a name
        convert_labels({stem: Path("x")}, tmp_path / "l", convert, lambda *_: None)
        return
    with pytest.raises(MasqclipError) as caught:
        convert_labels({stem: Path("x")}, tmp_path / "l", convert, lambda *_: None)
    assert str(caught.value) == f"{stem!r} is no name of a picture: a name has no folders"


# What is published


def described(dataset: Dataset) -> dict[str, tuple[Any, ...]]:
    return {
        key: (part.paths, part.tasks, part.inputs, part.convert is not None)
        for key, part in dataset.parts.items()
    }


def test_the_parts_of_coco() -> None:
    instances = "annotations/instances_val2017.json"
    assert described(COCO_INSTANCES) == {
        "images": (("val2017",), ("instance",), (), False),
        "instances": ((instances,), ("instance",), (), False),
    }
    assert described(COCO_BASE_NOVEL) == {
        "images": (("val2017",), ("instance",), (), False),
        "instances": ((instances,), (), (), False),
        "split": (
            ("masqclip/instances_val2017_base_novel.json",), ("instance",), ("instances",), True
        ),
    }  # fmt: skip
    maps = ("panoptic_val2017", "annotations/panoptic_val2017")
    assert described(COCO_PANOPTIC) == {
        "images": (("val2017",), ("instance", "semantic", "panoptic"), (), False),
        "instances": ((instances,), ("instance",), (), False),
        "panoptic": (
            ("annotations/panoptic_val2017.json",), ("semantic", "panoptic"), (), False
        ),
        "maps": (maps, ("semantic", "panoptic"), (), False),
    }  # fmt: skip
    datasets = (COCO_INSTANCES, COCO_BASE_NOVEL, COCO_PANOPTIC)
    assert [dataset.pictures for dataset in datasets] == [5000, 0, 5000]
    assert {dataset.folder for dataset in datasets} == {"coco"}


@pytest.mark.parametrize(("dataset", "count"), [(PASCAL_CONTEXT_59, 59), (PASCAL_CONTEXT_459, 459)])
def test_the_parts_of_pascal_context(dataset: Dataset, count: int) -> None:
    labels = f"labels_{count}"
    assert described(dataset) == {
        "images": (("images", "JPEGImages"), ("semantic",), (), False),
        "list": (("val.txt",), ("semantic",), (), False),
        "originals": (("trainval",), (), (), False),
        "labels": (
            (labels, f"masqclip/{labels}"), ("semantic",), ("originals", "list"), True
        ),
    }  # fmt: skip
    assert (dataset.name, dataset.folder, dataset.pictures) == (
        f"pascal-context-{count}", "pascal_context_full", 5105
    )  # fmt: skip
    stored = "8 bits, 255 = ignored" if count == 59 else "16 bits, 65535 = ignored"
    assert dataset.parts["labels"].about == f"the class maps ({stored})"


@pytest.mark.parametrize("dataset", [COCO_INSTANCES, COCO_BASE_NOVEL, COCO_PANOPTIC,
                                     PASCAL_CONTEXT_59, PASCAL_CONTEXT_459])  # fmt: skip
def test_what_is_not_made_is_got_somewhere(dataset: Dataset) -> None:
    for part in dataset.parts.values():
        assert bool(part.source) != (part.convert is not None)
        assert part.about


@pytest.mark.parametrize(("dataset", "count"), [(PASCAL_CONTEXT_59, 59), (PASCAL_CONTEXT_459, 459)])
def test_every_number_of_pascal_context_has_its_label(
    dataset: Dataset, count: int, tmp_path: Path
) -> None:
    from scipy.io import savemat

    numbers = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    (tmp_path / "trainval").mkdir()
    savemat(tmp_path / "trainval" / "a.mat", {"LabelMap": numbers})
    (tmp_path / "val.txt").write_text("a\n")
    (target,) = dataset.convert(tmp_path, lambda *_: None)
    with Image.open(target / "a.png") as image:
        labels = np.asarray(image).astype(np.int64).ravel()
    ignored = 255 if count == 59 else 65535
    expected = np.full(1 << 16, ignored)
    if count == 459:
        expected[1:460] = np.arange(459)
    else:
        for position, entry in enumerate(read_class_list("pascal-context-59").classes):
            assert entry.category_id is not None
            expected[entry.category_id] = position
    np.testing.assert_array_equal(labels, expected)


def test_what_is_no_annotation_of_pascal_context_is_named(tmp_path: Path) -> None:
    (tmp_path / "trainval").mkdir()
    (tmp_path / "val.txt").write_text("a\n")
    (tmp_path / "trainval" / "a.mat").write_bytes(b"no matrix")
    with pytest.raises(MasqclipError, match=r"a\.mat is no annotation of Pascal Context \("):
        PASCAL_CONTEXT_59.convert(tmp_path, lambda *_: None)
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MasqclipError, match=r"val\.txt is not UTF-8 text: get it again"):
        PASCAL_CONTEXT_59.convert(tmp_path, lambda *_: None)


def split(tmp_path: Path, document: dict[str, Any]) -> Any:
    source, target, told = tmp_path / "in.json", tmp_path / "out.json", list[tuple[int, int]]()
    source.write_text(json.dumps(document))
    base_novel_split([source], target, lambda *done: told.append((done[0], done[1])))
    assert told == [(1, 1)]
    return json.loads(target.read_text())


def test_base_and_novel_keep_their_entries_as_they_are(tmp_path: Path) -> None:
    classes = {entry.name: entry.id for entry in read_class_list("coco-base-novel").classes}
    cat, person, street = classes["cat"], classes["person"], 10  # a traffic light is of neither
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9}]
    annotations = [
        {"id": 1, "image_id": 8, "category_id": cat, "x": "kept"},
        {"id": 2, "image_id": 7, "category_id": street},
        {"id": 3, "image_id": 8, "category_id": street},
        {"id": 4, "image_id": 9, "category_id": person},
    ]
    categories = [
        {"id": person, "name": "person"}, {"id": street, "name": "traffic light"},
        {"id": cat, "name": "cat", "supercategory": "animal"},
    ]  # fmt: skip
    whole = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
    assert split(tmp_path, whole) == {
        "info": {"description": "COCO cut to 48 base and 17 novel classes by masqclip"},
        "images": images[1:],
        "annotations": [annotations[0], annotations[3]],
        "categories": [
            {"id": person, "name": "person", "split": "base"},
            {"id": cat, "name": "cat", "supercategory": "animal", "split": "novel"},
        ],
    }
    for key in ("images", "annotations", "categories"):
        with pytest.raises(MasqclipError, match=r"in\.json: .*"):
            split(tmp_path, {**whole, key: [{"name": "without ids"}]})
    with pytest.raises(MasqclipError) as caught:
        split(tmp_path, {**whole, "annotations": [{"category_id": cat}]})
    assert str(caught.value).endswith(
        "an entry is not as COCO writes it (KeyError: 'image_id'); download it again"
    )
