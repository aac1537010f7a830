"""Ids, sizes, flags, areas and headings as tools write them: what can mean only one thing is it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masqclip.data import coco_files
from masqclip.data.coco_files import CocoFile, check_stated_size, read_coco
from masqclip.data.coco_values import (
    no_classes,
    numbering,
    read_area,
    read_file_name,
    read_flag,
    read_key,
    read_side,
)
from masqclip.errors import MasqclipError


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (0, 0), (-3, -3), (7.0, 7), ("7", 7), ("a", "a"), ("07", "07"), ("-7", "-7"), (" 7", " 7"),
        ("1" * 16, int("1" * 16)), ("1" * 17, "1" * 17), ("\u0667", "\u0667"), (2**70, 2**70),
    ],
)  # fmt: skip
def test_an_id_is_a_number_or_a_word(written: Any, key: Any) -> None:
    found = read_key({"id": written}, "id")
    assert (found, type(found)) == (key, type(key))


@pytest.mark.parametrize("written", [None, True, 1.5, "", [], float("nan"), float("inf")])
def test_anything_else_is_no_id(written: Any) -> None:
    with pytest.raises(MasqclipError, match=r"its 'id' is .*; give a whole number or a word"):
        read_key({"id": written}, "id")
    with pytest.raises(MasqclipError, match="it has no 'id'"):
        read_key({}, "id")


def test_ids_keep_their_numbers_or_get_their_places() -> None:
    """Other programs know whole numbers from 0 to below 2^53; numbers go before words."""
    most = 2**53 - 1
    assert numbering([5, 0, most]) == {5: 5, 0: 0, most: most}
    assert numbering([5, 0, 2**53]) == {0: 1, 5: 2, 2**53: 3}
    assert numbering([5, -1]) == {-1: 1, 5: 2}
    assert numbering(["b", 10, "a", 9]) == {9: 1, 10: 2, "a": 3, "b": 4}
    assert numbering([]) == {}


@pytest.mark.parametrize(
    ("written", "side"),
    [(None, 0), (0, 0), (1, 1), (480, 480), (480.0, 480), ("480", 480), (" 480 ", 480)],
)
def test_a_side_is_a_number_of_pixels(written: Any, side: int) -> None:
    assert read_side({"width": written}, "width") == side
    assert read_side({}, "width") == 0


@pytest.mark.parametrize("written", [-1, 0.5, True, "x", "", "4.0", [], float("inf")])
def test_anything_else_is_no_side(written: Any) -> None:
    with pytest.raises(MasqclipError, match=r"its 'width' is .*; give a number of pixels"):
        read_side({"width": written}, "width")


@pytest.mark.parametrize(
    ("written", "flag"),
    [
        (None, False), (False, False), (True, True), (0, False), (1, True), (0.0, False),
        (1.0, True), ("0", False), ("1", True), ("False", False), ("TRUE", True),
    ],
)  # fmt: skip
def test_a_flag_is_yes_or_no(written: Any, flag: bool) -> None:
    assert read_flag({"iscrowd": written}, "iscrowd") is flag
    assert read_flag({}, "iscrowd") is False


@pytest.mark.parametrize("written", [2, -1, 0.5, "", "yes", [], {}, float("nan")])
def test_anything_else_is_no_flag(written: Any) -> None:
    with pytest.raises(MasqclipError, match=r"its 'iscrowd' is .*; give 0 or 1"):
        read_flag({"iscrowd": written}, "iscrowd")


@pytest.mark.parametrize(
    ("written", "pixels", "area"),
    [
        (12, 12, 12.0), (13, 12, None), (12.1, 12, None), (0.5, 12, 0.5), (0, 12, None),
        (-1, 12, None), ("6", 12, 6.0), ("x", 12, None), (True, 12, None), (None, 12, None),
        (1e30, 0, 1e30), (float("inf"), 0, None), (float("nan"), 0, None), (10**400, 0, None),
    ],
)  # fmt: skip
def test_an_area_is_of_some_pixels_and_no_more_than_there_are(
    written: Any, pixels: int, area: float | None
) -> None:
    assert read_area(written, pixels) == area


@pytest.mark.parametrize("written", [None, "", " ", 5, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(written: Any) -> None:
    with pytest.raises(MasqclipError, match="its 'file_name' is"):
        read_file_name({"file_name": written})
    assert read_file_name({"file_name": " a b.png"}) == " a b.png"


def entry(name: str, above: str | None = None) -> dict[str, Any]:
    return {"name": name} if above is None else {"name": name, "supercategory": above}


@pytest.mark.parametrize(
    ("categories", "left_out"),
    [
        ([entry("farm", "none"), entry("cow", "farm"), entry("pig", "farm")], [0]),
        ([entry("farm", "none"), entry("cow", "farm"), entry("pig")], [0]),
        ([entry("cow", "farm"), entry("farm", "none")], [1]),
        ([entry("farm", "none"), entry("cow", "farm"), entry("car", "street")], []),
        ([entry("cow", "none"), entry("pig", "none")], []),  # all are tops: no heading
        ([entry("farm", "none"), entry("barn", "none"), entry("cow", "farm")], []),
        ([entry("cow", "none")], []),  # alone
        ([entry("Background"), entry("cow"), entry("_ignore_")], [0, 2]),
        ([entry("background sky"), entry("cow")], []),
    ],
)
def test_headings_and_backgrounds_are_no_classes_unless_they_are_used(
    categories: list[dict[str, Any]], left_out: list[int]
) -> None:
    by_key = dict(enumerate(categories))
    assert [key for _, key in no_classes(by_key, [])] == left_out
    for key in left_out:
        used = no_classes(by_key, [{"category_id": key}])
        assert [other for _, other in used] == [other for other in left_out if other != key]
        assert key not in [other for _, other in no_classes(by_key, [{"category_id": str(key)}])]


def test_a_size_is_that_of_the_picture_or_refused() -> None:
    check_stated_size(Path("a.png"), (2, 4, 3), (2, 4))
    with pytest.raises(MasqclipError, match=r"is 2 x 4 pixels .* for 4 x 2; .* save it upright"):
        check_stated_size(Path("a.png"), (2, 4), (4, 2))
    for stated in ((2, 5), (3, 4)):
        with pytest.raises(MasqclipError, match="replace the picture by its original"):
            check_stated_size(Path("a.png"), (2, 4), stated)


# Whole files

PICTURE = {"id": 1, "file_name": "a.png", "height": 4, "width": 6}
MASK = {"image_id": 1, "category_id": 3, "segmentation": [[0, 0, 3, 0, 3, 3]]}
SEGMENT = {"id": 1, "category_id": 3}
MAP = {"image_id": 1, "file_name": "a.png", "segments_info": [SEGMENT]}
CATEGORY = {"id": 3, "name": "cat", "isthing": 1}


def read(folder: Path, annotations: list[Any], **changes: Any) -> CocoFile:
    content = {"images": [PICTURE], "annotations": annotations, "categories": [CATEGORY]}
    (folder / "a.json").write_text(json.dumps(content | changes))
    return read_coco(folder / "a.json", folder)


def test_a_picture_may_be_as_large_as_any_and_no_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_files, "MAX_PIXELS", 24)
    assert read(tmp_path, [MASK]).pictures[0].height == 4
    monkeypatch.setattr(coco_files, "MAX_PIXELS", 23)
    with pytest.raises(MasqclipError, match=r"'a\.png' is of 4 x 6 pixels, more than the limit"):
        read(tmp_path, [MASK])


@pytest.mark.parametrize("known", [{}, {"height": 4}, {"width": 6}, {"height": 0, "width": 6}])
def test_a_size_that_is_not_stated_whole_is_the_pictures(
    tmp_path: Path, known: dict[str, int]
) -> None:
    Image.new("RGB", (8, 5)).save(tmp_path / "a.png")
    (found,) = read(tmp_path, [MASK], images=[{"id": 1, "file_name": "a.png", **known}]).pictures
    assert (found.height, found.width) == (5, 8)


def test_a_picture_that_is_listed_twice_over_is_read_once(tmp_path: Path) -> None:
    found = read(tmp_path, [MASK], images=[PICTURE, PICTURE | {"id": "1"}])
    assert len(found.pictures) == 1
    assert "1 pictures that are listed twice over, read once (the first: images[1])" in str(
        found.notes
    )
    for change in ({"file_name": "b.png"}, {"height": 5}, {"width": 5}):
        with pytest.raises(MasqclipError, match="the id 1 stands for"):
            read(tmp_path, [MASK], images=[PICTURE, PICTURE | change])


def test_pictures_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    images = [PICTURE | {"id": i, "file_name": f"{i}.png"} for i in (9, 1, 10, 2)]
    assert [p.id for p in read(tmp_path, [MASK], images=images).pictures] == [1, 2, 9, 10]


@pytest.mark.parametrize("number", [1, (1 << 24) - 1])
def test_a_segment_has_the_id_of_a_colour(tmp_path: Path, number: int) -> None:
    entry = MAP | {"segments_info": [SEGMENT | {"id": number}]}
    (found,) = read(tmp_path, [entry]).annotations[1]
    assert found["segments_info"] == [{"id": number, "category_id": 3, "iscrowd": 0}]


@pytest.mark.parametrize("number", [0, -1, 1 << 24, "a"])
def test_any_other_id_is_no_segment_s(tmp_path: Path, number: Any) -> None:
    with pytest.raises(MasqclipError, match="a segment has the id"):
        read(tmp_path, [MAP | {"segments_info": [SEGMENT | {"id": number}]}])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (MAP | {"segments_info": [SEGMENT, SEGMENT]}, "two segments have the id 1"),
        (MAP | {"segments_info": {}}, "is no list of objects"),
        (MAP | {"segments_info": [1]}, "is no list of objects"),
        (MAP | {"file_name": None}, "its 'file_name' is None"),
        (MASK | {"segmentation": [[0, 0, 1, 0, 1, 1]]}, "has its corners within 1 x 1"),
        (MASK | {"iscrowd": 2}, "its 'iscrowd' is 2"),
    ],
)
def test_entries_that_mean_nothing_are_named(
    tmp_path: Path, entry: dict[str, Any], said: str
) -> None:
    with pytest.raises(MasqclipError, match=rf"a\.json: annotations\[0\]: .*{said}"):
        read(tmp_path, [entry])


def test_a_second_map_of_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=r"annotations\[1\]: 'a.png' has two panoptic"):
        read(tmp_path, [MAP, MAP])


def test_a_mask_of_one_pixel_may_lie_within_1_x_1(tmp_path: Path) -> None:
    """Where the whole picture does, and where a corner lies beyond."""
    one = PICTURE | {"height": 1, "width": 1}
    entry = MASK | {"segmentation": [[0, 0, 1, 0, 1, 1]]}
    assert len(read(tmp_path, [entry], images=[one]).annotations[1]) == 1
    beyond = MASK | {"segmentation": [[0, 0, 1, 0, 1, 1.1]]}
    assert len(read(tmp_path, [beyond]).annotations[1]) == 1
    several = MASK | {"segmentation": [[0, 0, 1, 0, 1, 1], [2, 2, 3, 2, 3, 3]]}
    assert len(read(tmp_path, [several]).annotations[1]) == 1


def test_areas_crowds_and_repetitions_are_read_and_told(tmp_path: Path) -> None:
    runs = {"size": [4, 6], "counts": [0, 24]}
    entries = [
        MASK | {"area": 24},
        MASK | {"area": 25, "iscrowd": "1"},
        MASK | {"segmentation": runs, "area": 5},
        MASK | {"segmentation": runs},
    ]
    found = read(tmp_path, entries)
    kept = found.annotations[1]
    assert [entry.get("area") for entry in kept] == [24.0, None, 5.0, None]
    assert [entry["iscrowd"] for entry in kept] == [0, 1, 0, 0]
    # Repeated is what is the same mask of the same class, crowd or not, whatever its area.
    assert found.notes.found == {
        coco_files.NO_AREA: (1, "annotations[1]"),
        coco_files.REPEATED: (1, "annotations[3], of a.png"),
    }
    assert [mask["iscrowd"] for mask in found.masks()] == [0, 1, 0, 0]


def test_what_is_left_out_is_counted_with_the_first(tmp_path: Path) -> None:
    entries = [
        MASK,
        MASK | {"image_id": 5},
        MASK | {"category_id": 8},
        MASK | {"category_id": 9},
        MASK | {"segmentation": None},
    ]
    found = read(tmp_path, entries)
    assert len(found.annotations[1]) == 1
    assert found.left_out.found == {
        coco_files.UNKNOWN_PICTURES: (1, "annotations[1], with image_id 5"),
        coco_files.UNKNOWN_CATEGORIES: (2, "annotations[2], with category_id 8"),
        coco_files.NO_MASK: (1, "annotations[4], of a.png"),
    }
    assert str(found.left_out).startswith(
        "1 annotations of pictures that 'images' does not list (the first: annotations[1], with"
    )
    assert not read(tmp_path, [MASK]).left_out


def test_pictures_without_a_map_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, [MAP], images=[PICTURE, {"id": 2, "file_name": "b.png"}])
    assert found.left_out.found == {coco_files.NO_ENTRY: (1, "b.png")}
    listed = read(tmp_path, [MAP | {"segments_info": [SEGMENT | {"category_id": 8}]}])
    assert listed.left_out.found == {coco_files.UNKNOWN_CATEGORIES: (1, "annotations[0], of a.png")}
    (kept,) = listed.annotations[1]
    assert kept["segments_info"] == [{"id": 1, "category_id": None, "iscrowd": 0}]


@pytest.mark.parametrize(
    ("categories", "said"),
    [
        ([{"id": 3, "name": ""}], "its 'name' is ''"),
        ([{"id": 3, "name": True}], "its 'name' is True"),
        ([{"id": 3, "name": "cat", "split": 5}], "its 'split' is 5"),
        ([{"id": 3, "name": "cat", "isthing": "maybe"}], "its 'isthing' is 'maybe'"),
        ([CATEGORY, {"id": 3, "name": "dog"}], "the id 3 stands for 'cat' and 'dog'"),
        ([CATEGORY, {"id": 4, "name": "cat"}], "3 and 4 are both named 'cat'; name"),
    ],
)
def test_categories_that_mean_nothing_are_refused(
    tmp_path: Path, categories: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(MasqclipError, match=said):
        read(tmp_path, [MASK], categories=categories)


def test_categories_are_read_as_what_they_mean(tmp_path: Path) -> None:
    (number,) = read(tmp_path, [MASK], categories=[{"id": 3, "name": 7, "isthing": "0"}]).categories
    assert number == {"id": 3, "name": "7", "isthing": 0}
    (silent,) = read(tmp_path, [MASK], categories=[{"id": 3, "name": "cat", "isthing": None}] * 2
                     ).categories  # fmt: skip
    assert silent == {"id": 3, "name": "cat"}
    with pytest.raises(MasqclipError, match="does not say whether it is a thing"):
        read(tmp_path, [MAP], categories=[{"id": 3, "name": "cat"}])
    words = read(tmp_path, [MASK | {"category_id": "b"}, MASK | {"category_id": "a"}],
                 categories=[{"id": "b", "name": "bee"}, {"id": "a", "name": "ant"}])  # fmt: skip
    assert [(c["id"], c["name"]) for c in words.categories] == [(2, "bee"), (1, "ant")]
    assert [mask["category_id"] for mask in words.masks()] == [2, 1]


def test_the_kind_of_a_file_is_that_of_its_annotations(tmp_path: Path) -> None:
    caption = {"image_id": 1, "caption": "a cat"}
    assert read(tmp_path, [MAP]).kind == "panoptic"
    assert read(tmp_path, [caption]).kind == "captions"
    assert list(read(tmp_path, [caption]).masks()) == []
    assert read(tmp_path, [MASK | {"caption": "a cat"}]).kind == "instances"
    assert read(tmp_path, []).kind == "instances"
    for kind in ("instances", "panoptic"):
        with pytest.raises(MasqclipError, match=f"holds COCO captions, not {kind}"):
            read_coco(Path(read(tmp_path, [caption]).path), tmp_path, kind=kind)
    assert read_coco(read(tmp_path, []).path, tmp_path, kind="panoptic").kind == "panoptic"
    with pytest.raises(MasqclipError, match="its 'caption' is 5; give a sentence"):
        read(tmp_path, [{"image_id": 1, "caption": 5}])


def test_published_classes_stand_in_for_categories_that_are_not_there(tmp_path: Path) -> None:
    path = read(tmp_path, [MASK], categories=[]).path
    assert not read_coco(path, tmp_path).annotations
    assert len(read_coco(path, tmp_path, classes=[3]).annotations[1]) == 1
    assert np.array_equal([1], list(read_coco(path, tmp_path, classes=[3]).annotations))
