"""COCO's three formats, read from a small dataset written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import masqclip
from masqclip.data.coco import (
    CocoCaptions,
    CocoInstances,
    CocoPanoptic,
    is_base,
)
from masqclip.data.open_coco import keep_classes, open_coco
from masqclip.data.rle import encode_rle
from masqclip.data.segmentations import segmentation_mask
from masqclip.errors import MasqclipError

CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1, "split": "base"},
    {"id": 5, "name": "owl", "isthing": 1, "split": "novel"},
    {"id": 9, "name": "grass", "isthing": 0, "split": "base"},
]
IDS = np.zeros((6, 8), np.int64)
IDS[:, :] = 70_000  # needs all three channels: 112 + 17 * 256 + 1 * 65536
IDS[1:3, 1:4] = 1
IDS[4:, 5:] = 300
IDS[0, 0] = 0
SEGMENTS = [
    {"id": 70_000, "category_id": 9, "iscrowd": 0},
    {"id": 1, "category_id": 3, "iscrowd": 0},
    {"id": 300, "category_id": 5, "iscrowd": 0},
    {"id": 999, "category_id": 3, "iscrowd": 0},  # nowhere in the picture
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "panoptic", "annotations"):
        (tmp_path / name).mkdir()
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    for number in (2, 7):
        Image.fromarray(pixels + number).save(tmp_path / f"images/{number:06d}.png")
    coded = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(coded).save(tmp_path / "panoptic/000002.png")
    images = [
        {"id": number, "file_name": f"{number:06d}.png", "height": 6, "width": 8}
        for number in (7, 2)
    ]
    write(tmp_path, "panoptic", images, [
        {"image_id": 2, "file_name": "000002.png", "segments_info": SEGMENTS}
    ])  # fmt: skip
    write(tmp_path, "instances", images, [
        {"id": 1, "image_id": 2, "category_id": 3, "segmentation": encode_rle(IDS == 1)},
        {"id": 2, "image_id": 2, "category_id": 5, "segmentation": [[5, 4, 8, 4, 8, 6, 5, 6]]},
        {"id": 3, "image_id": 2, "category_id": 3, "iscrowd": 1,
         "segmentation": encode_rle(IDS == 0)},
    ])  # fmt: skip
    write(tmp_path, "captions", images, [
        {"id": 1, "image_id": 2, "caption": "a cat"},
        {"id": 2, "image_id": 7, "caption": "nothing"},
        {"id": 3, "image_id": 2, "caption": "an owl"},
    ])  # fmt: skip
    return tmp_path


def write(folder: Path, name: str, images: list[Any], annotations: list[Any]) -> None:
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / f"annotations/{name}.json").write_text(json.dumps(content))


def test_panoptic(folder: Path) -> None:
    dataset = CocoPanoptic(folder)
    assert len(dataset) == 2
    sample = dataset[0]  # by id, not by place in the file
    assert sample.image_id == 2
    assert sample.image.shape == (6, 8, 3)
    assert sample.category_ids.tolist() == [9, 3, 5]
    assert sample.is_thing.tolist() == [False, True, True]
    for mask, number in zip(sample.masks, (70_000, 1, 300), strict=True):
        assert np.array_equal(mask, number == IDS)


def test_instances(folder: Path) -> None:
    sample = CocoInstances(folder)[0]
    assert sample.category_ids.tolist() == [3, 5]  # the crowd is left out
    assert np.array_equal(sample.masks[0], IDS == 1)
    assert np.array_equal(sample.masks[1], IDS == 300)
    assert sample.is_thing.all()


def test_captions(folder: Path) -> None:
    dataset = CocoCaptions(folder)
    assert dataset[0].captions == ("a cat", "an owl")
    assert dataset[0].masks.shape == (0, 6, 8)
    assert dataset.all_captions() == ["a cat", "an owl", "nothing"]


def test_novel_categories_can_be_left_out(folder: Path) -> None:
    assert CocoPanoptic(folder, keep=is_base)[0].category_ids.tolist() == [9, 3]
    assert CocoInstances(folder, keep=is_base)[0].category_ids.tolist() == [3]


@pytest.mark.parametrize("kind", [CocoPanoptic, CocoInstances])
def test_a_picture_without_annotation_is_a_sample(folder: Path, kind: type[Any]) -> None:
    sample = kind(folder)[1]
    assert sample.image_id == 7
    assert sample.masks.shape == (0, 6, 8)
    assert sample.category_ids.shape == sample.is_thing.shape == (0,)


def test_names_of_another_layout(folder: Path) -> None:
    (folder / "panoptic").rename(folder / "train2017_masks")
    (folder / "images").rename(folder / "train2017")
    dataset = CocoPanoptic(folder, images="train2017", masks="train2017_masks")
    assert len(dataset[0].masks) == 3


def test_polygons_union_and_stay_within_a_pixel_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    blob = np.stack([40 + 25 * np.cos(angles), 30 + 20 * np.sin(angles)], -1).ravel().tolist()
    square = [5, 5, 15, 5, 15, 12, 5, 12]
    ours = segmentation_mask([blob, square, [1, 2, 3, 4]], 60, 80)
    theirs = coco.decode(coco.merge(coco.frPyObjects([blob, square], 60, 80))).astype(bool)
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.98
    assert abs(int(ours.sum()) - int(theirs.sum())) < 0.02 * theirs.sum()


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n broken", None])
def test_a_broken_picture_is_named(folder: Path, damage: bytes | None) -> None:
    path = folder / "images/000002.png"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    dataset = CocoPanoptic(folder)
    with pytest.raises(MasqclipError, match=r"000002\.png"):
        dataset[0]
    assert dataset[1].image_id == 7  # the others stay usable


def test_a_picture_of_another_size_is_named(folder: Path) -> None:
    Image.new("RGB", (9, 6)).save(folder / "images/000002.png")
    with pytest.raises(MasqclipError, match=r"000002\.png is 6 x 9 pixels"):
        CocoInstances(folder)[0]
    with pytest.raises(MasqclipError, match=r"000002\.png is 6 x 9 pixels"):
        CocoPanoptic(folder)[0]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(MasqclipError, match="2 x 2"):
        segmentation_mask(encode_rle(np.ones((2, 2), bool)), 3, 3)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"images": []}'])
def test_a_broken_json_is_named(folder: Path, content: str | None) -> None:
    path = folder / "annotations/captions.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(MasqclipError, match=r"captions\.json"):
        CocoCaptions(folder)


def test_either_format_is_recognised(folder: Path) -> None:
    instances, panoptic = (folder / f"annotations/{name}.json" for name in INSTANCES_PANOPTIC)
    assert isinstance(open_coco(folder), CocoPanoptic)
    images = folder / "images"
    assert open_coco(instances, images=images)[0].category_ids.tolist() == [3, 5]
    (folder / "panoptic").rename(folder / "annotations/panoptic")  # COCO's own layout
    assert open_coco(panoptic, images=images)[0].category_ids.tolist() == [9, 3, 5]
    panoptic.unlink()
    assert isinstance(open_coco(folder), CocoInstances)
    with pytest.raises(MasqclipError, match="--images"):
        open_coco(instances)
    with pytest.raises(MasqclipError, match="none of the categories"):
        open_coco(instances, images=images, keep=lambda category: False)


INSTANCES_PANOPTIC = ("instances", "panoptic")


def test_coco_has_48_base_classes_by_the_shipped_list() -> None:
    names = json.loads(
        (Path(masqclip.__file__).parent / "data/vocabularies/coco-instances.json").read_text()
    )
    categories = [{"id": entry["id"], "name": entry["name"]} for entry in names["classes"]]
    kept = list(filter(keep_classes("coco-base-novel"), categories))
    assert (len(categories), len(kept)) == (80, 48)
    assert not {"cat", "dog", "airplane"} & {category["name"] for category in kept}
    assert len(list(filter(keep_classes("coco-novel"), categories))) == 0


def test_a_part_is_held_out_by_ids_alone(folder: Path) -> None:
    content = json.loads((folder / "annotations/instances.json").read_text())
    content["images"] = [{"id": i, "file_name": f"{i}.png"} for i in range(1, 41)]
    path = folder / "annotations/instances.json"
    path.write_text(json.dumps(content))

    def split() -> tuple[list[int], list[int]]:
        rest, held = CocoInstances(folder).hold_out(0.25)
        return [rest.entry(i)["id"] for i in range(30)], [held.entry(i)["id"] for i in range(10)]

    first = split()
    assert sorted(first[0] + first[1]) == list(range(1, 41))
    content["images"].reverse()
    path.write_text(json.dumps(content))
    assert split() == first
    for share in (0.0, 1.0, 0.99):
        with pytest.raises(MasqclipError, match="held out"):
            CocoInstances(folder).hold_out(share)


@pytest.mark.parametrize("entry", [{}, {"segmentation": None}, {"segmentation": [[1, 2, 3, 4]]}])
def test_an_annotation_without_a_mask_is_left_out_and_said(
    folder: Path, entry: dict[str, Any]
) -> None:
    add_annotation(folder, {"id": 9, "image_id": 2, "category_id": 3} | entry)
    dataset = CocoInstances(folder)
    assert len(dataset[1].masks if dataset.entry(1)["id"] == 2 else dataset[0].masks) == 2
    assert len(dataset.notes) == 1
    assert "left out: 1 annotations without a mask" in dataset.notes[0]
    assert "annotations[3], of 000002.png" in dataset.notes[0]


def test_an_annotation_that_can_mean_nothing_is_named(folder: Path) -> None:
    add_annotation(folder, {"image_id": 2, "category_id": 3, "segmentation": [[1, 2, 3, 4, 5]]})
    with pytest.raises(MasqclipError, match=r"instances\.json: annotations\[3\]: .*000002\.png"):
        CocoInstances(folder)


def add_annotation(folder: Path, entry: dict[str, Any]) -> None:
    path = folder / "annotations/instances.json"
    content = json.loads(path.read_text())
    content["annotations"].append(entry)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"iscrowd": 1}, "3 crowds"),
        ({"segmentation": []}, "3 annotations without a mask"),
        ({"image_id": 99}, "3 annotations of pictures that 'images' does not list"),
        ({"category_id": 77}, "3 annotations of categories that 'categories' does not list"),
        (None, "no annotation"),
    ],
)
def test_nothing_to_learn_from_is_refused_and_counted(
    folder: Path, change: dict[str, Any] | None, said: str
) -> None:
    path = folder / "annotations/instances.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a | change for a in content["annotations"]] if change else []
    path.write_text(json.dumps(content))
    with pytest.raises(MasqclipError, match=f"holds no mask to learn from.*{said}"):
        open_coco(path, images=folder / "images")


def test_a_map_of_other_segments_is_refused(folder: Path) -> None:
    coded = np.stack([np.full((6, 8), 5), IDS * 0, IDS * 0], axis=-1).astype(np.uint8)
    Image.fromarray(coded).save(folder / "panoptic/000002.png")
    with pytest.raises(MasqclipError, match=r"holds the segment 5, which .* does not list"):
        CocoPanoptic(folder)[0]
    Image.fromarray(coded[..., 0]).save(folder / "panoptic/000002.png")
    with pytest.raises(MasqclipError, match="is greyscale"):
        CocoPanoptic(folder)[0]


def test_the_fingerprint_is_of_contents(folder: Path) -> None:
    """A picture or a map that was replaced by one of as many bytes is another one."""
    before = CocoPanoptic(folder).fingerprint()
    for name in ("images/000002.png", "panoptic/000002.png"):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert CocoPanoptic(folder).fingerprint() != before
        path.write_bytes(content)
    assert CocoPanoptic(folder).fingerprint() == before


def test_captions_without_a_word_are_left_out_and_said(folder: Path) -> None:
    path = folder / "annotations/captions.json"
    content = json.loads(path.read_text())
    content["annotations"] += [{"image_id": 2, "caption": None}, {"image_id": 2, "caption": " "}]
    path.write_text(json.dumps(content))
    dataset = CocoCaptions(folder)
    assert dataset.all_captions() == ["a cat", "an owl", "nothing"]
    assert "2 captions without a word" in dataset.notes[0]


def test_an_annotation_that_stands_twice_is_said(folder: Path) -> None:
    content = json.loads((folder / "annotations/instances.json").read_text())
    add_annotation(folder, content["annotations"][0] | {"id": 77})
    assert "1 annotations that stand twice" in CocoInstances(folder).notes[0]


@pytest.mark.parametrize("name", ["./000002.png", "x/../000002.png", ".//000002.png"])
def test_a_picture_under_two_ids_is_refused_however_it_is_written(folder: Path, name: str) -> None:
    path = folder / "annotations/instances.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 70, "file_name": name, "height": 6, "width": 8})
    path.write_text(json.dumps(content))
    with pytest.raises(MasqclipError, match="is listed under the ids 2 and 70"):
        CocoInstances(folder)


def add_categories(folder: Path, *entries: dict[str, object]) -> None:
    path = folder / "annotations/instances.json"
    content = json.loads(path.read_text())
    content["categories"] += entries
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["background", "_background_", "__ignore__", "\uff22ackground"])
def test_a_background_that_is_in_no_annotation_is_left_out_and_said(
    folder: Path, name: str
) -> None:
    add_categories(folder, {"id": 70, "name": name})
    dataset = CocoInstances(folder)
    assert 70 not in dataset.categories.names
    assert "are the background and in no annotation" in dataset.notes[0]


def test_a_heading_that_is_called_background_is_left_out_once(folder: Path) -> None:
    add_categories(folder, {"id": 70, "name": "background", "supercategory": "none"})
    dataset = CocoInstances(folder)
    assert 70 not in dataset.categories.names
    assert "1 categories that only head the others" in dataset.notes[0]


def test_two_categories_that_are_one_name_to_clip_are_refused(folder: Path) -> None:
    add_categories(folder, {"id": 70, "name": "R&D"}, {"id": 71, "name": "R&amp;D"})
    with pytest.raises(MasqclipError, match="named 'R&amp;D', to CLIP the same as 'R&D'; name the"):
        CocoInstances(folder)
