"""Photographs and annotations that nobody here made (photographs/): read as they are meant."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from masqclip.data.coco import CocoCaptions, Sample
from masqclip.data.images import read_image
from masqclip.data.open_coco import open_coco
from masqclip.data.segmentations import segmentation_mask

PHOTOGRAPHS = Path(__file__).parent / "photographs"
IMAGES = PHOTOGRAPHS / "train2017"
ROOT = Path(__file__).parents[2]
NAMES = sorted(path.name for path in IMAGES.glob("*.jpg"))
CC_BY = 4  # in COCO's table of licences
# What PIL does to an upright picture to make one that EXIF turns upright again.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def document(kind: str) -> dict[str, Any]:
    return dict(json.loads((PHOTOGRAPHS / f"{kind}_train2017.json").read_text()))


def entries() -> dict[str, dict[str, Any]]:
    """What COCO says of each picture, by file name."""
    kinds = ("panoptic", "instances", "captions")
    return {image["file_name"]: image for kind in kinds for image in document(kind)["images"]}


def test_every_photograph_may_be_shipped_and_is_credited() -> None:
    assert sorted(entries()) == NAMES
    readme, notice = (PHOTOGRAPHS / "README.md").read_text(), (ROOT / "NOTICE").read_text()
    for kind in ("panoptic", "instances", "captions"):
        licences = {licence["id"]: licence["url"] for licence in document(kind)["licenses"]}
        assert licences[CC_BY] == "http://creativecommons.org/licenses/by/2.0/"
    for name, entry in entries().items():
        assert entry["license"] == CC_BY
        page = entry["flickr_url"].rpartition("/")[2].partition("_")[0]
        assert entry["flickr_url"] in readme
        assert f"photo.gne?id={page})" in readme
        assert any(name in line and line.endswith(f"?id={page}") for line in notice.splitlines())
    assert sum(path.stat().st_size for path in PHOTOGRAPHS.rglob("*.*")) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_photograph_is_read_as_pil_reads_it(name: str) -> None:
    pixels = read_image(IMAGES / name).pixels
    assert pixels.shape == (entries()[name]["height"], entries()[name]["width"], 3)
    with Image.open(IMAGES / name) as image:
        np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["000000000072.jpg", "000000000471.jpg"])
def test_a_photograph_that_lies_on_its_side_is_read_upright(name: str, orientation: int) -> None:
    """As cameras write it: the same picture, up to what JPEG loses once more."""
    upright = read_image(IMAGES / name).pixels
    turned = Image.fromarray(upright).transpose(TURNS[orientation])
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    turned.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    read = read_image(buffer.getvalue()).pixels
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < 2
    assert np.abs(read.astype(int) - upright[::-1, ::-1]).mean() > 20, "the way round is seen"


def box(mask: np.ndarray) -> list[int]:
    """COCO's box (x, y, width, height) of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def edge(mask: np.ndarray) -> np.ndarray:
    """The pixels with a neighbour, across or down, on the other side of a mask's outline."""
    found = np.zeros_like(mask)
    for axis in (0, 1):
        change = np.diff(mask, axis=axis)
        last = [(0, 0), (0, 0)]
        last[axis] = (0, 1)
        found |= np.pad(change, last) | np.pad(change, [pair[::-1] for pair in last])
    return found


def panoptic_samples() -> list[tuple[Sample, list[dict[str, Any]]]]:
    dataset = open_coco(PHOTOGRAPHS / "panoptic_train2017.json", images=IMAGES)
    segments = {a["image_id"]: a["segments_info"] for a in document("panoptic")["annotations"]}
    return [(sample, segments[sample.image_id]) for sample in map(dataset.__getitem__, range(4))]


def test_panoptic_masks_are_what_coco_says_of_them() -> None:
    """Area and box of all 32 segments, to the pixel; none overlaps another."""
    things = {c["id"]: bool(c["isthing"]) for c in document("panoptic")["categories"]}
    count = 0
    for sample, segments in panoptic_samples():
        assert sample.category_ids.tolist() == [s["category_id"] for s in segments]
        assert sample.is_thing.tolist() == [things[s["category_id"]] for s in segments]
        assert sample.masks.shape == (len(segments), *sample.image.shape[:2])
        assert sample.masks.sum(0).max() == 1
        for mask, segment in zip(sample.masks, segments, strict=True):
            assert mask.sum() == segment["area"]
            assert box(mask) == segment["bbox"]
            count += 1
    assert count == 32


def test_masks_lie_on_the_photograph() -> None:
    """The bus is yellow, the sky above it is blue: not mirrored, turned or shifted by much."""
    (sample, _) = panoptic_samples()[3]
    names = {c["id"]: c["name"] for c in document("panoptic")["categories"]}
    masks = {names[int(i)]: m for i, m in zip(sample.category_ids, sample.masks, strict=True)}
    bus, sky = (sample.image[masks[name]].mean(0) for name in ("bus", "sky-other-merged"))
    assert bus[0] > bus[2] + 50
    assert sky[2] > sky[0] + 20


def test_instance_masks_are_what_coco_says_of_them() -> None:
    """About as large as the polygons that people drew, whose thinnest tips fall between the pixels,
    and as COCO's own code draws them, but for pixels on the edge (docs/method.md). Crowds, which
    are nothing to learn from, are run lengths, and equal."""
    dataset = open_coco(PHOTOGRAPHS / "instances_train2017.json", images=IMAGES)
    sample, annotations = dataset[0], document("instances")["annotations"]
    crowds = [a for a in annotations if a["iscrowd"]]
    assert sorted(a["category_id"] for a in crowds) == [1, 62]  # people, chairs
    objects = [a for a in annotations if not a["iscrowd"]]
    assert sample.category_ids.tolist() == [a["category_id"] for a in objects]
    assert len(sample.masks) == 32
    theirs = COCO()
    theirs.dataset = document("instances")
    theirs.createIndex()
    for mask, annotation in zip(sample.masks, objects, strict=True):
        drawn = theirs.annToMask(annotation).astype(bool)
        other = mask != drawn
        assert other.sum() <= 0.1 * drawn.sum()
        assert not (other & ~edge(drawn)).any()
        assert abs(int(mask.sum()) - annotation["area"]) <= 0.5 * sum(annotation["bbox"][2:])
        assert np.abs(np.subtract(box(mask), annotation["bbox"])).max() < 2
    for crowd in crowds:
        mask = segmentation_mask(crowd["segmentation"], *sample.image.shape[:2])
        np.testing.assert_array_equal(mask, theirs.annToMask(crowd).astype(bool))


def test_captions_are_read(tmp_path: Path) -> None:
    dataset = CocoCaptions(PHOTOGRAPHS, annotations="captions_train2017.json", images="train2017")
    assert len(dataset) == 1
    assert [caption.strip() for caption in dataset[0].captions] == [
        entry["caption"].strip() for entry in document("captions")["annotations"]
    ]
    assert len(dataset[0].captions) == 5
