"""What Label Studio reads decodes to the same masks."""

from __future__ import annotations

import base64
import io
import os
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from brush_code import brush_words
from masqclip.errors import MasqclipError
from masqclip.export.label_studio import (
    brush_rle,
    labeling_config,
    mask_regions,
    picture_address,
)


def assert_brush_holds(mask: np.ndarray) -> None:
    pixels = brush_words(brush_rle(mask)).reshape(*mask.shape, 4)
    assert np.array_equal(pixels, np.repeat(mask[..., None] * np.uint8(255), 4, axis=2))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_brush_masks_decode_to_the_mask(height: int, width: int, seed: int, share: float) -> None:
    assert_brush_holds(np.random.default_rng(seed).random((height, width)) < share)


@pytest.mark.parametrize("runs", [4, 5, 64, 65, 1024, 1025, 16384, 16385, 40000])
def test_runs_at_the_edges_of_the_count_sizes(runs: int) -> None:
    mask = np.zeros((1, runs + 3), bool)
    mask[0, 1 : 1 + runs] = True
    assert_brush_holds(mask)


def test_a_code_written_by_hand() -> None:
    """One pixel painted: 4 words, 8 bits each, one run of 4 (less one: 3) of 255."""
    bits = f"{4:032b}" + f"{7:05b}" + f"{3:04b}{7:04b}{11:04b}{15:04b}" + "1" + "00" + "0011"
    bits = (bits + "1" * 8).ljust(72, "0")
    assert brush_rle(np.ones((1, 1), bool)) == [int(bits[i : i + 8], 2) for i in range(0, 72, 8)]


def two_parts() -> np.ndarray:
    mask = np.zeros((20, 40), bool)
    mask[0:10, 0:20] = mask[15:20, 30:40] = True
    return mask


def test_a_brush_region() -> None:
    (region,) = mask_regions(two_parts(), region_id="s1", name="cat", score=0.5)
    value = region.pop("value")
    assert region == {
        "id": "s1", "type": "brushlabels", "from_name": "label", "to_name": "image",
        "original_width": 40, "original_height": 20, "image_rotation": 0, "score": 0.5,
    }  # fmt: skip
    assert (value["format"], value["brushlabels"]) == ("rle", ["cat"])
    alpha = brush_words(value["rle"]).reshape(20, 40, 4)[..., 3]
    assert np.array_equal(alpha == 255, two_parts())


def test_polygon_regions_are_per_cent_and_one_a_part() -> None:
    regions = mask_regions(two_parts(), region_id="s1", name="cat", score=0.5, kind="polygon")
    assert [region["id"] for region in regions] == ["s1-1", "s1-2"]
    assert {region["type"] for region in regions} == {"polygonlabels"}
    large, small = (region["value"] for region in regions)
    assert large["polygonlabels"] == ["cat"]
    assert sorted(large["points"]) == [[0, 0], [0, 50], [50, 0], [50, 50]]
    assert sorted(small["points"]) == [[75, 75], [75, 100], [100, 75], [100, 100]]


def test_a_bitmask_is_black_where_the_mask_is_and_transparent_elsewhere() -> None:
    (region,) = mask_regions(two_parts(), region_id="s1", name="cat", score=0.5, kind="bitmask")
    assert region["type"] == "bitmasklabels"
    assert region["value"].keys() == {"imageDataURL", "bitmasklabels"}
    head, code = region["value"]["imageDataURL"].split(",")
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGBA"))
    assert not pixels[..., :3].any()
    assert np.array_equal(pixels[..., 3], two_parts() * np.uint8(255))
    assert len(code) < 200


def drawn_ellipse(value: dict[str, float], height: int, width: int) -> np.ndarray:
    """The pixels in an ellipse as Label Studio draws it: radii in pixels, then turned."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    across, down = xs - value["x"] * width / 100, ys - value["y"] * height / 100
    turn = np.radians(value["rotation"])
    along = across * np.cos(turn) + down * np.sin(turn)
    aside = down * np.cos(turn) - across * np.sin(turn)
    radii = value["radiusX"] * width / 100, value["radiusY"] * height / 100
    return np.asarray((along / radii[0]) ** 2 + (aside / radii[1]) ** 2 <= 1)


@pytest.mark.parametrize("rotation", [0, 30, 90, 150])
def test_an_ellipse_is_found_again(rotation: float) -> None:
    height, width = 120, 200
    drawn = {"x": 45.0, "y": 55.0, "radiusX": 15.0, "radiusY": 10.0, "rotation": float(rotation)}
    mask = drawn_ellipse(drawn, height, width)
    (region,) = mask_regions(mask, region_id="s1", name="cat", score=0.5, kind="ellipse")
    assert region["type"] == "ellipselabels"
    value = dict(region["value"])
    assert value.pop("ellipselabels") == ["cat"]
    again = drawn_ellipse(value, height, width)  # type: ignore[arg-type]
    assert (mask & again).sum() / (mask | again).sum() > 0.98


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (4, 4)])
def test_an_ellipse_of_few_pixels_has_their_area(shape: tuple[int, int]) -> None:
    mask = np.zeros((20, 40), bool)
    mask[3 : 3 + shape[0], 5 : 5 + shape[1]] = True
    (region,) = mask_regions(mask, region_id="s1", name="cat", score=0.5, kind="ellipse")
    value = region["value"]
    area = np.pi * value["radiusX"] * 40 / 100 * value["radiusY"] * 20 / 100
    assert area == pytest.approx(mask.sum(), rel=0.01)
    assert (value["x"] * 0.4, value["y"] * 0.2) == pytest.approx(
        (5 + shape[1] / 2, 3 + shape[0] / 2)
    )
    empty = np.zeros((3, 3), bool)
    assert mask_regions(empty, region_id="s", name="x", score=1, kind="ellipse") == []


@pytest.mark.parametrize(
    ("kind", "tag"),
    [
        ("brush", "BrushLabels"), ("bitmask", "BitmaskLabels"), ("polygon", "PolygonLabels"),
        ("rectangle", "RectangleLabels"), ("ellipse", "EllipseLabels"),
    ],
)  # fmt: skip
def test_the_interface_names_what_regions_refer_to(kind: str, tag: str) -> None:
    colours = {'a "b" & <c>': (255, 0, 16), "cat": (0, 128, 255)}
    view = ElementTree.fromstring(labeling_config(colours, kind))  # type: ignore[arg-type]
    picture, labels = view
    region = mask_regions(two_parts(), region_id="s", name="cat", score=1, kind=kind)[0]  # type: ignore[arg-type]
    assert (picture.tag, labels.tag) == ("Image", tag)
    assert picture.get("name") == labels.get("toName") == region["to_name"]
    assert labels.get("name") == region["from_name"]
    assert [label.get("value") for label in labels] == list(colours)
    assert labels[0].get("background") == "#ff0010"


@pytest.mark.parametrize(
    ("prefix", "encoded"),
    [
        ("/data/local-files/?d=photos/", True), ("https://host/photos/", True),
        ("HTTP://host/get?name=", True), ("s3://bucket/photos/", False),
        ("gs://bucket/", False), ("azure-blob://container/", False),
    ],
)  # fmt: skip
def test_addresses_are_encoded_and_keys_are_not(prefix: str, encoded: bool) -> None:
    """A browser or Django decodes an address; Label Studio hands a key to the store as it is."""
    path = "a b/50% + \u00e9 #1 & 2?.jpg"
    address = picture_address(prefix, path)
    assert address.startswith(prefix)
    rest = address.removeprefix(prefix)
    if encoded:
        assert not set(rest) & set(" #&?+\u00e9")
        assert unquote(rest) == path
    else:
        assert rest == path


def test_a_key_is_text() -> None:
    path = os.fsdecode(b"caf\xe9.jpg")
    assert picture_address("https://host/", path) == "https://host/caf%E9.jpg"
    with pytest.raises(MasqclipError, match=r"caf.*not UTF-8.*rename it"):
        picture_address("s3://bucket/", path)


def test_tags_may_have_other_names_and_polygons_four_digits() -> None:
    mask = np.zeros((7, 30), bool)
    mask[1:4, 1:8] = True
    (region,) = mask_regions(
        mask, region_id="s9", name="cat", score=0.25, kind="polygon", from_name="f", to_name="t"
    )
    assert (region["id"], region["from_name"], region["to_name"]) == ("s9", "f", "t")
    assert (region["original_width"], region["original_height"]) == (30, 7)
    assert region["score"] == 0.25
    assert region["value"]["closed"] is True
    assert region["value"].keys() == {"points", "closed", "polygonlabels"}
    corners = [[3.3333, 14.2857], [3.3333, 57.1429], [26.6667, 14.2857], [26.6667, 57.1429]]
    assert sorted(region["value"]["points"]) == corners
    assert (
        mask_regions(np.zeros((3, 3), bool), region_id="s", name="x", score=1, kind="polygon") == []
    )


def test_the_whole_interface() -> None:
    assert labeling_config({"cat\t1": (1, 2, 255)}) == (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        '  <BrushLabels name="label" toName="image">\n'
        '    <Label value="cat&#9;1" background="#0102ff"/>\n  </BrushLabels>\n</View>\n'
    )


def test_runs_too_long_for_a_count_go_on() -> None:
    """65,536 bytes, a quarter as many pixels, whatever they are."""
    for number in (16_384, 16_385, 2 * 16_384, 40_000):
        for painted in (True, False):
            assert_brush_holds(np.full((1, number), painted))
