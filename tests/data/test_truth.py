"""Truth to measure on: which classes, pictures and masks of a dataset count, and in what order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data.class_lists import ClassEntry, read_class_list
from masqclip.data.label_maps import ids_to_rgb
from masqclip.data.rle import encode_rle
from masqclip.data.truth import (
    GroundTruth,
    InstanceTruth,
    PanopticTruth,
    Picture,
    SemanticTruth,
    digest,
    files_version,
    labelled_truth,
)
from masqclip.errors import MasqclipError

CLASSES = (
    ClassEntry(7, "sky", ("sky",), thing=False, split="base"),
    ClassEntry(3, "cat", ("cat",), thing=True, split="novel"),
    ClassEntry(5, "dog", ("dog",), thing=True, split="base"),
)
IDS = np.array([[0, 10, 10, 20], [30, 30, 20, 20], [40, 40, 40, 50]])
SEGMENTS = [
    {"id": 10, "category_id": 5, "iscrowd": 0},
    {"id": 20, "category_id": 7, "iscrowd": 0},
    {"id": 30, "category_id": 3, "iscrowd": 0},
    {"id": 40, "category_id": 5, "iscrowd": 1},
    {"id": 50, "category_id": 99, "iscrowd": 0},  # of a class that does not count
    {"id": 60, "category_id": 3, "iscrowd": 0},  # of no pixel
]
PICTURE = Picture(1, Path("1.jpg"), 3, 4)


def instance(mask: np.ndarray, category: int, crowd: int = 0) -> dict[str, object]:
    return {"category_id": category, "segmentation": encode_rle(mask), "iscrowd": crowd}


INSTANCES = InstanceTruth(
    {
        1: [
            instance(IDS == 40, 5, 1),
            instance(IDS == 99, 3),  # of no pixel
            instance(IDS == 10, 5),
            instance(IDS == 20, 99),
            instance(IDS == 30, 3),
        ],
        2: [instance(IDS == 10, 3)],
        4: [instance(IDS == 10, 99)],
    },
    "i",
)


@pytest.fixture
def panoptic(tmp_path: Path) -> GroundTruth:
    Image.fromarray(ids_to_rgb(IDS)).save(tmp_path / "map.png")
    truth = PanopticTruth({1: tmp_path / "map.png"}, {1: SEGMENTS}, "p")
    return GroundTruth("small", CLASSES, (PICTURE,), panoptic=truth)


@pytest.fixture
def semantic(tmp_path: Path) -> GroundTruth:
    labels = np.array([[1, 1, 2, 9], [0, 2, 2, 255], [3, 3, 1, 1]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    truth = SemanticTruth({1: tmp_path / "labels.png"}, {1: 5, 2: 7, 3: 42}, "s")
    return GroundTruth("small", CLASSES, (PICTURE,), semantic=truth)


def given(truth: GroundTruth) -> list[tuple[int, list[list[int]]]]:
    """Each mask's position and pixels."""
    masks, positions = truth.masks_of(PICTURE)
    assert masks.shape == (len(positions), 3, 4)
    assert masks.dtype == bool
    return [(p, np.argwhere(m).tolist()) for p, m in zip(positions, masks, strict=True)]


def pixels(number: int) -> list[list[int]]:
    return np.argwhere(number == IDS).tolist()


def test_masks_of_a_panoptic_map_are_its_segments_but_crowds_and_empty_ones(
    panoptic: GroundTruth,
) -> None:
    assert given(panoptic) == [(2, pixels(10)), (0, pixels(20)), (1, pixels(30))]
    # The map comes first: it has things and stuff.
    assert given(replace(panoptic, instances=InstanceTruth({}, "i"))) == given(panoptic)


def test_masks_of_instances_are_those_of_things_but_crowds_and_empty_ones() -> None:
    truth = GroundTruth("small", CLASSES, (PICTURE,), instances=INSTANCES)
    assert given(truth) == [(2, pixels(10)), (1, pixels(30))]
    assert [entry["iscrowd"] for entry in truth.instances_of(PICTURE)] == [1, 0, 0, 0]
    assert given(replace(truth, instances=InstanceTruth({}, "i"))) == []


def test_instances_come_before_a_class_map(semantic: GroundTruth) -> None:
    assert len(given(replace(semantic, instances=INSTANCES))) == 2


def test_a_class_of_a_class_map_is_one_mask(semantic: GroundTruth) -> None:
    sky, dog = [[0, 2], [1, 1], [1, 2]], [[0, 0], [0, 1], [2, 2], [2, 3]]
    assert given(semantic) == [(0, sky), (2, dog)]
    assert semantic.class_map_of(PICTURE).tolist() == [
        [2, 2, 0, -1], [-1, 0, 0, -1], [-1, -1, 2, 2]
    ]  # fmt: skip


def test_a_panoptic_map_tells_the_class_of_each_pixel(panoptic: GroundTruth) -> None:
    """Those of crowds too; void and other classes do not count."""
    assert panoptic.class_map_of(PICTURE).tolist() == [
        [-1, 2, 2, 0], [1, 1, 0, 0], [2, 2, 2, -1]
    ]  # fmt: skip


def test_segments_of_other_classes_become_void(panoptic: GroundTruth) -> None:
    ids, segments = panoptic.panoptic_of(PICTURE)
    assert ids.tolist() == np.where(IDS == 50, 0, IDS).tolist()
    assert [segment["id"] for segment in segments] == [10, 20, 30, 40, 60]


def test_a_split_has_its_classes_and_the_pictures_that_hold_any() -> None:
    pictures = tuple(Picture(i, Path(f"{i}.jpg"), 3, 4) for i in (4, 2, 1, 3))
    truth = GroundTruth("small", CLASSES, pictures, instances=INSTANCES)
    base, novel = truth.only("base"), truth.only("novel")
    assert [entry.id for entry in base.classes] == [7, 5]
    assert [[p.id for p in cut.pictures] for cut in (base, novel)] == [[1], [2, 1]]
    assert (truth.split, base.split, novel.split) == ("", "base", "novel")
    assert len(replace(truth, instances=None).only("base").pictures) == 4
    with pytest.raises(MasqclipError, match=r"split 'new': choose base or novel"):
        truth.only("new")
    unsplit = replace(truth, classes=(replace(CLASSES[0], split=None),))
    with pytest.raises(MasqclipError, match=r"split 'base': it is not split"):
        unsplit.only("base")


def test_the_first_pictures_are_the_first_in_order() -> None:
    pictures = tuple(Picture(i, Path(f"{i}.jpg")) for i in (4, 2, 1))
    truth = GroundTruth("small", CLASSES, pictures)
    assert [p.id for p in truth.first(2).pictures] == [4, 2]
    assert truth.first(9) == truth


def test_what_can_be_scored_is_what_is_annotated(
    panoptic: GroundTruth, semantic: GroundTruth
) -> None:
    assert panoptic.tasks == ("semantic", "panoptic")
    assert semantic.tasks == ("semantic",)
    assert replace(panoptic, instances=INSTANCES).tasks == ("instance", "semantic", "panoptic")
    assert GroundTruth("small", CLASSES, (PICTURE,), instances=INSTANCES).tasks == ("instance",)
    assert GroundTruth("small", CLASSES, (PICTURE,)).tasks == ()


def test_a_version_is_of_what_a_task_is_scored_by(
    panoptic: GroundTruth, semantic: GroundTruth
) -> None:
    whole = replace(panoptic, instances=INSTANCES, semantic=semantic.semantic)
    other = replace(INSTANCES, version="j")
    tasks = ("instance", "semantic", "panoptic", "all")

    def changed(by: GroundTruth) -> list[str]:
        return [task for task in tasks if by.version(task) != whole.version(task)]

    assert changed(replace(whole, instances=other)) == ["instance", "all"]
    assert changed(replace(whole, semantic=None)) == ["semantic", "all"]
    assert whole.semantic is not None
    assert whole.panoptic is not None
    anew = replace(whole.semantic, version="t")
    assert changed(replace(whole, semantic=anew)) == ["semantic", "all"]
    assert changed(replace(whole, panoptic=replace(whole.panoptic, version="q"))) == [
        "panoptic", "all"
    ]  # fmt: skip
    for picture in (Picture(2, Path("1.jpg")), Picture(1, Path("2.jpg"))):
        assert changed(replace(whole, pictures=(picture,))) == list(tasks)
    # Where the pictures lie does not count, nor their size.
    assert changed(replace(whole, pictures=(Picture(1, Path("elsewhere/1.jpg")),))) == []
    assert changed(replace(whole, classes=CLASSES[:1], notes=("n",))) == []


def test_a_digest_keeps_its_parts_apart_and_their_order() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("c", "ab"), ("abc",), ("abc", ""), ()]
    assert len({digest(*some) for some in parts}) == len(parts)
    assert digest("\u00e4") == digest("\u00e4".encode())
    assert digest("\udc80")  # a name may hold half a character
    assert len(digest("a")) == 12


def test_the_version_of_files_is_of_their_names_and_contents(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_text("x")
    before = files_version(paths)
    (tmp_path / "deep").mkdir()
    moved = [path.rename(tmp_path / "deep" / path.name) for path in paths]
    assert files_version(moved) == before
    assert files_version([*moved, tmp_path / "nowhere", tmp_path]) == before
    assert files_version(moved[:2]) != before
    assert files_version(moved[::-1]) != before
    moved[1].write_text("y")
    assert files_version(moved) != before


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    pictures = ("deep/b.png", "a.JPG", "c.jpeg", "d.gif")
    maps = ("b.tif", "a.PNG", "deep/c.png", "notes.txt")
    for name in [f"images/{name}" for name in pictures] + [f"labels/{name}" for name in maps]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names(truth: GroundTruth) -> list[str]:
    return [picture.path.name for picture in truth.pictures]


def test_pictures_and_labels_share_their_stem(labelled: Path) -> None:
    """Pictures are searched with their folders, labels are not."""
    images, labels = labelled / "images", labelled / "labels"
    truth = labelled_truth("small", CLASSES, images=images, labels=labels, values={1: 5})
    assert names(truth) == ["a.JPG", "b.png"]  # those that have labels, sorted
    assert truth.semantic is not None
    assert [path.name for path in truth.semantic.files.values()] == ["a.PNG", "b.tif"]
    assert [picture.id for picture in truth.pictures] == list(truth.semantic.files) == [0, 1]
    assert truth.semantic.class_ids == {1: 5}
    without = labelled_truth("small", CLASSES, images=images, labels=None, values={})
    assert names(without) == ["a.JPG", "b.png", "c.jpeg"]
    assert without.semantic is None


def test_stems_that_are_given_keep_their_order(labelled: Path) -> None:
    asked = {"images": labelled / "images", "labels": labelled / "labels", "values": {1: 5}}
    truth = labelled_truth("small", CLASSES, stems=["b", "a"], **asked)
    assert names(truth) == ["b.png", "a.JPG"]
    (labelled / "labels/z.png").write_text("z")
    assert names(labelled_truth("small", CLASSES, stems=["z"], **asked)) == ["z.jpg"]
    with pytest.raises(MasqclipError, match="no labels of c and 1 others"):
        labelled_truth("small", CLASSES, stems=["c", "a", "x"], **asked)
    (labelled / "labels/a.tiff").write_text("another")
    with pytest.raises(MasqclipError, match="have one stem"):
        labelled_truth("small", CLASSES, stems=["a"], **asked)
    assert labelled_truth("small", CLASSES, stems=["b"], **asked).pictures


def test_a_shipped_list_says_which_classes_compete() -> None:
    listed = [
        entry
        for entry in read_class_list("stickers2").classes
        if entry.name in ("bear", "lava", "cat")
    ]
    own = replace(CLASSES[0], id=9000, name="no such thing")
    truth = GroundTruth("world", (*listed, own), ())
    assert {entry.name for entry in truth.only("stickers2").classes} == {"bear", "cat", "lava"}
    nested = [{e.name for e in truth.only(f"stickers2-{n}").classes} for n in (150, 459)]
    assert nested[0] < nested[1]
    with pytest.raises(MasqclipError, match="no classes of the split 'coco-panoptic-x'"):
        truth.only("coco-panoptic-x")
