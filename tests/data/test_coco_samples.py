"""What becomes of COCO annotations in a sample: crowds, masks of no pixel, choices of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masqclip.data import coco
from masqclip.data.coco import CocoCaptions, CocoInstances, CocoPanoptic, is_base
from masqclip.data.label_maps import ids_to_rgb
from masqclip.data.rle import encode_rle
from masqclip.errors import MasqclipError

IDS = np.repeat(np.array([[1, 2, 3, 4]]), 2, axis=0)
CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1, "split": "base"},
    {"id": 5, "name": "owl", "isthing": 1, "split": "novel"},
    {"id": 9, "name": "grass", "isthing": 0, "split": "base"},
]
#: Category and crowd of the segments 1 to 5, of which the last has no pixel.
SEGMENTS = [(9, 0), (3, 1), (3, 0), (5, 0), (3, 0)]


def written(folder: Path, **changes: list[dict[str, Any]]) -> Path:
    """Pictures 0 to 3, of which 1 has the segments and 2 a crowd alone, in all three formats."""
    for name in ("images", "panoptic", "annotations"):
        (folder / name).mkdir(exist_ok=True)
    for number in range(4):
        Image.new("RGB", (4, 2), (number, 0, 0)).save(folder / f"images/{number}.png")
    Image.fromarray(ids_to_rgb(IDS)).save(folder / "panoptic/1.png")
    Image.fromarray(ids_to_rgb(IDS * 0 + 2)).save(folder / "panoptic/2.png")
    images = [{"id": i, "file_name": f"{i}.png", "height": 2, "width": 4} for i in range(4)]
    segments = [{"id": i, "category_id": c, "iscrowd": crowd}
                for i, (c, crowd) in enumerate(SEGMENTS, start=1)]  # fmt: skip
    panoptic = [
        {"image_id": 1, "file_name": "1.png", "segments_info": segments},
        {"image_id": 2, "file_name": "2.png", "segments_info": segments[1:2]},
    ]
    runs = [encode_rle(i == IDS) for i in range(1, 5)]
    sliver = [[2.6, 0.6, 2.9, 0.6, 2.9, 0.9]]  # encloses the middle of no pixel
    instances = [
        {"image_id": 1, "category_id": c, "iscrowd": crowd, "segmentation": mask}
        for (c, crowd), mask in zip(SEGMENTS, [*runs, sliver], strict=True)
    ] + [{"image_id": 2, "category_id": 3, "iscrowd": 1, "segmentation": runs[1]}]
    captions = [{"image_id": i, "caption": text} for i, text in ((3, "c"), (1, "a"), (3, "b"))]
    for name, listed in (
        ("panoptic", panoptic), ("instances", instances), ("captions", captions)
    ):  # fmt: skip
        content = {"images": images, "annotations": listed, "categories": CATEGORIES}
        (folder / f"annotations/{name}.json").write_text(json.dumps(content | changes))
    return folder


@pytest.mark.parametrize("kind", [CocoPanoptic, CocoInstances])
def test_crowds_and_masks_of_no_pixel_are_in_no_sample(tmp_path: Path, kind: type[Any]) -> None:
    dataset = kind(written(tmp_path))
    sample = dataset[1]
    assert sample.category_ids.tolist() == [9, 3, 5]
    assert sample.is_thing.tolist() == [False, True, True]
    for mask, number in zip(sample.masks, (1, 3, 4), strict=True):
        assert np.array_equal(mask, number == IDS)
    assert (sample.masks.dtype, sample.category_ids.dtype) == (bool, np.int64)
    for row, number in ((0, 0), (2, 2)):  # of no annotation, of a crowd alone
        assert dataset[row].masks.shape == (0, 2, 4)
        assert (dataset[row].image_id, dataset[row].captions) == (number, ())


@pytest.mark.parametrize("kind", [CocoPanoptic, CocoInstances])
def test_annotated_are_the_pictures_with_a_mask_that_is_kept(
    tmp_path: Path, kind: type[Any]
) -> None:
    """A crowd is none, and neither is a category that is not kept."""
    dataset = kind(written(tmp_path))

    def ids(some: Any) -> list[int]:
        return [some.entry(row)["id"] for row in range(len(some))]

    assert ids(dataset) == [0, 1, 2, 3]
    assert ids(dataset.annotated()) == [1]
    assert ids(dataset.keeping(lambda c: c["name"] == "owl").annotated()) == [1]
    assert ids(dataset.keeping(lambda c: c["name"] == "dog").annotated()) == []
    assert ids(dataset.part([3, 1])) == [3, 1]
    assert ids(dataset) == [0, 1, 2, 3]
    # Another choice is of the copy alone.
    assert dataset.keeping(is_base).categories.kept == {3, 9}
    assert dataset.categories.kept == {3, 5, 9}
    assert dataset.keeping(is_base).keeping(None).categories.kept == {3, 5, 9}


@pytest.mark.parametrize("kind", [CocoPanoptic, CocoInstances])
def test_masks_are_counted_by_category_and_crowds_apart(tmp_path: Path, kind: type[Any]) -> None:
    categories = kind(written(tmp_path)).categories
    assert categories.masks == {9: 1, 3: 2, 5: 1}
    assert categories.crowds == {3: 2}
    assert categories.names == {3: "cat", 5: "owl", 9: "grass"}


def test_categories_that_do_not_say_so_are_things(tmp_path: Path) -> None:
    silent = [{"id": c["id"], "name": c["name"]} for c in CATEGORIES]
    written(tmp_path, categories=silent)
    assert CocoInstances(tmp_path)[1].is_thing.all()


def test_captions_are_of_the_pictures_that_have_any_by_their_ids(tmp_path: Path) -> None:
    dataset = CocoCaptions(written(tmp_path))
    assert [dataset.entry(row)["id"] for row in range(len(dataset))] == [1, 3]
    assert dataset.all_captions() == ["a", "c", "b"]
    assert dataset.captions(1) == dataset[1].captions == ("c", "b")
    assert dataset[1].masks.shape == (0, 2, 4)
    assert dataset[1].category_ids.shape == dataset[1].is_thing.shape == (0,)


@pytest.mark.parametrize(("kind", "count"), [(CocoPanoptic, 3), (CocoInstances, 5)])
def test_the_masks_of_a_picture_take_so_much_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any], count: int
) -> None:
    dataset = kind(written(tmp_path))
    monkeypatch.setattr(coco, "_MAX_MASK_BYTES", count * 2 * 4)
    assert len(dataset[1].masks) == 3
    monkeypatch.setattr(coco, "_MAX_MASK_BYTES", count * 2 * 4 - 1)
    with pytest.raises(MasqclipError, match=f"1.png has {count} annotations of 2 x 4 pixels"):
        dataset[1]
    assert len(dataset[0].masks) == 0


def test_a_share_of_the_pictures_is_held_out_one_at_least(tmp_path: Path) -> None:
    dataset = CocoInstances(written(tmp_path))
    for share, held in ((0.5, 2), (0.1, 1), (0.001, 1), (0.75, 3), (0.4, 2)):
        rest, out = dataset.hold_out(share)
        assert (len(rest), len(out)) == (4 - held, held)
        ids = [[part.entry(row)["id"] for row in range(len(part))] for part in (rest, out)]
        assert sorted(ids[0] + ids[1]) == [0, 1, 2, 3]
        assert ids == [sorted(part) for part in ids]
    # By the CRC-32 of the ids' digits, the lowest first: the same ones in every version.
    _, out = dataset.hold_out(0.5)
    assert [out.entry(row)["id"] for row in range(2)] == [2, 3]
    for share in (0, 1, -0.5, 1.5, 0.9, float("nan"), float("inf")):
        with pytest.raises(MasqclipError, match="cannot be held out"):
            dataset.hold_out(share)
    with pytest.raises(MasqclipError, match="1 pictures cannot be held out"):
        dataset.part([1]).hold_out(0.5)


@pytest.mark.parametrize("kind", [CocoPanoptic, CocoInstances])
def test_the_fingerprint_is_of_pictures_annotations_and_kept_categories(
    tmp_path: Path, kind: type[Any]
) -> None:
    dataset = kind(written(tmp_path))
    before = dataset.fingerprint()
    others = [dataset.keeping(is_base), dataset.part([0, 1]), dataset.part([1, 0, 2, 3])]
    assert len({before, *(other.fingerprint() for other in others)}) == 4
    assert kind(tmp_path).keeping(None).fingerprint() == before
    renamed = [c | {"name": c["name"] + "s"} for c in CATEGORIES]
    assert kind(written(tmp_path, categories=renamed)).fingerprint() != before
    # A file as it was, its keys in another order, is the same one.
    turned = [dict(reversed(c.items())) for c in CATEGORIES]
    assert kind(written(tmp_path, categories=turned)).fingerprint() == before


def test_a_size_that_the_file_does_not_state_is_the_pictures(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(4)]
    dataset = CocoInstances(written(tmp_path, images=images))
    entry = {"id": 1, "file_name": "1.png", "height": 2, "width": 4}
    assert dataset.entry(1) == entry
    (tmp_path / "images/1.png").unlink()
    assert CocoInstances(tmp_path).entry(1) == entry | {"height": None, "width": None}
