"""Requests as Label Studio sends them for each kind of control, and masks that decode to ours."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from drawn_regions import NAMES, data_uri, decode_brush, filled, without_holes
from PIL import Image
from running import Serving
from scipy.ndimage import binary_dilation, binary_erosion
from studio_requests import label_config, label_studio_request, predicted

from masqclip import Segmenter
from masqclip.result import Segmentation
from masqclip.serve.labelling_interface import lookup, read_control
from masqclip.serve.problems import Problem


def test_label_studio_connects(serving: Serving) -> None:
    async def run() -> None:
        async with serving() as client:
            assert (await client.get("/health")).json()["status"] == "UP"
            setup = {
                "project": "3.1763633000",
                "schema": label_config("BrushLabels"),
                "hostname": "http://localhost:8080",
                "access_token": "abc",
                "extra_params": None,
            }
            answer = await client.post("/setup", json=setup)
            assert answer.json() == {"model_version": "masqclip-mini"}

    asyncio.run(run())


# An interface of every kind of control: where a mask is drawn, the tag that draws it, the label's.
INTERFACES = {
    "BrushLabels": ("brush", "tag", "tag"),
    "BitmaskLabels": ("bitmask", "tag", "tag"),
    "PolygonLabels": ("polygon", "tag", "tag"),
    "RectangleLabels": ("rectangle", "tag", "tag"),
    "EllipseLabels": ("ellipse", "tag", "tag"),
    "Brush": ("brush", "shape", "tag"),
    "Bitmask": ("bitmask", "shape", "tag"),
    "Polygon": ("polygon", "shape", "tag"),
    "Rectangle": ("rectangle", "shape", "tag"),
    "Ellipse": ("ellipse", "shape", "tag"),
}


def interface(tag: str) -> str:
    if tag.endswith("Labels"):
        return label_config(tag)
    shape = f'<{tag} name="shape" toName="image"/>'
    return label_config("Labels").replace("</View>", f"  {shape}\n</View>")


@pytest.mark.parametrize("tag", INTERFACES)
def test_label_studio_gets_our_masks(
    serving: Serving, segmenter: Segmenter, beach: bytes, tag: str
) -> None:
    kind, shape_name, label_name = INTERFACES[tag]
    task = "instance" if kind in ("rectangle", "ellipse") else "panoptic"
    expected: Segmentation = segmenter(beach, NAMES, task)
    assert len(expected) >= 3

    async def run() -> dict[str, Any]:
        async with serving() as client:
            body = {**label_studio_request(data_uri(beach)), "label_config": interface(tag)}
            answer = await client.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

    document = asyncio.run(run())
    [prediction] = document["results"]
    assert document["model_version"] == prediction["model_version"] == "masqclip-mini"
    height, width = expected.image.shape[:2]
    shapes, labels = [], {}
    for region in prediction["result"]:
        assert region["to_name"] == "image"
        assert (region["original_width"], region["original_height"]) == (width, height)
        if region["type"] == kind:  # the shape alone; its label has the same id, and the shape too
            assert region["from_name"] == shape_name != label_name
            shapes.append(region)
            continue
        assert region["from_name"] == label_name
        assert region["type"] == ("labels" if shape_name == "shape" else f"{kind}labels")
        [labels[region["id"]]] = region["value"][region["type"]]
        if shape_name == "tag":
            shapes.append(region)
        else:
            bare = {key: value for key, value in region["value"].items() if key != "labels"}
            assert shapes[-1]["id"] == region["id"]
            assert shapes[-1]["value"] == bare
    for segment in expected.segments:
        name = f"masqclip-{segment.id}"
        regions = [r for r in shapes if r["id"] == name or r["id"].startswith(f"{name}-")]
        assert regions
        assert {labels[region["id"]] for region in regions} == {segment.name}
        if kind == "brush":
            [region] = regions
            assert region["value"]["format"] == "rle"
            mask = decode_brush(region["value"]["rle"]).reshape(height, width)
            np.testing.assert_array_equal(mask, segment.mask)
        elif kind == "bitmask":
            [region] = regions
            code = region["value"]["imageDataURL"].removeprefix("data:image/png;base64,")
            alpha = Image.open(io.BytesIO(base64.b64decode(code))).convert("RGBA").getchannel("A")
            np.testing.assert_array_equal(np.asarray(alpha) > 0, segment.mask)
        elif kind == "ellipse":
            [region] = regions
            middle = region["value"]["x"] * width / 100, region["value"]["y"] * height / 100
            ys, xs = np.nonzero(segment.mask)
            np.testing.assert_allclose(middle, (xs.mean() + 0.5, ys.mean() + 0.5), atol=0.01)
            radii = region["value"]["radiusX"] * width, region["value"]["radiusY"] * height
            assert np.pi * radii[0] * radii[1] / 1e4 == pytest.approx(len(xs), rel=0.01)
        elif kind == "rectangle":
            [region] = regions
            sizes = [region["value"][side] for side in ("x", "y", "width", "height")]
            x, y, w, h = np.array(sizes) * (width, height, width, height) / 100
            np.testing.assert_allclose([x, y, x + w, y + h], segment.box, atol=0.01)
        else:
            percent = [np.array(region["value"]["points"]) for region in regions]
            pixels = [(points * (width / 100, height / 100)).tolist() for points in percent]
            union = np.logical_or.reduce([filled(points, (height, width)) for points in pixels])
            solid = without_holes(segment.mask)
            assert not (binary_erosion(solid) & ~union).any()  # off by a pixel at most
            assert not (union & ~binary_dilation(solid)).any()
    assert len({region["id"] for region in shapes}) == len(shapes)
    if kind != "polygon":
        assert len(shapes) == len(expected)


def labels_of(prediction: dict[str, Any]) -> set[str]:
    return {label for region in prediction["result"] for label in region["value"][region["type"]]}


def test_label_studio_gets_its_labels_back_letter_by_letter(serving: Serving, beach: bytes) -> None:
    names = [
        "Background",
        "ROCKET",
        "yellow  sand",
        "stuff: sand",
        "rocket",
        " tulip",
        "",
        "TCP/IP",
    ]

    async def run() -> dict[str, Any]:
        async with serving() as client:
            body = {
                **label_studio_request(data_uri(beach)),
                "label_config": label_config("BrushLabels", names),
            }
            answer = await client.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

    [prediction] = asyncio.run(run())["results"]
    found = labels_of(prediction)
    assert {"ROCKET", " tulip"} <= found
    assert {"stuff: sand", "yellow  sand"} & found
    assert found <= {"ROCKET", " tulip", "yellow  sand", "stuff: sand", "TCP/IP"}


def test_label_studio_gets_the_good_task_of_two(serving: Serving, beach: bytes) -> None:
    async def run() -> None:
        async with serving() as client:
            body = label_studio_request(data_uri(beach))
            [good] = body["tasks"]
            whole = (await client.post("/predict", json=body)).json()["results"]
            bad = [
                {**good, "data": {"picture": data_uri(b"no picture")}},
                {**good, "data": {"picture": "/data/a.png"}},
                {**good, "data": {"other": 1}},
                {**good, "data": None},
            ]
            answer = await client.post("/predict", json={**body, "tasks": [bad[0], good, *bad[1:]]})
            assert answer.status_code == 200, answer.text
            results = answer.json()["results"]
            # As many as tasks; those without a result are what Label Studio logs and asks again.
            assert [result.keys() for result in results] == [
                {"error"}, whole[0].keys(), {"error"}, {"error"}, {"error"},
            ]  # fmt: skip
            assert results[1] == whole[0]
            reasons = [result["error"] for result in results if "error" in result]
            for reason, word in zip(
                reasons,
                ("not a picture", "--label-studio-url", "no picture", "no picture"),
                strict=True,
            ):
                assert word in reason
            answer = await client.post("/predict", json={**body, "tasks": bad})
            assert answer.status_code == 422
            assert "not a picture" in answer.json()["detail"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "config",
    [
        "<View",
        '<View><Image name="i" value="$picture"/></View>',
        '<!DOCTYPE x [<!ENTITY a "b">]><View/>',
        label_config("BrushLabels", ["Background", " "]),
        json.dumps({"a": 1}),
    ],
)
def test_a_labelling_interface_without_masks_is_refused(serving: Serving, config: str) -> None:
    async def run() -> httpx.Response:
        async with serving() as client:
            body = {**label_studio_request("x"), "label_config": config}
            return await client.post("/predict", json=body)

    answer = asyncio.run(run())
    assert answer.status_code == 422
    assert "label_config" in answer.json()["detail"]


def test_masks_are_answered_where_boxes_may_be_drawn_too() -> None:
    box = '<RectangleLabels name="box" toName="image"><Label value="car"/></RectangleLabels>'
    config = label_config("BrushLabels")
    for both in (config.replace("<BrushLabels", f"{box}<BrushLabels"), config):
        assert read_control(both.replace("</View>", f"{box}</View>")).kind == "brush"
    found = read_control(interface("Polygon").replace("</View>", f"{box}</View>"))
    assert (found.kind, found.name, found.shape_name) == ("polygon", "tag", "shape")
    ellipses = box.replace("Rectangle", "Ellipse")
    for tag, kind in (("RectangleLabels", "rectangle"), ("BitmaskLabels", "bitmask")):
        found = read_control(label_config(tag).replace("</View>", f"{ellipses}</View>"))
        assert found.kind == kind
    for tag in ("KeyPointLabels", "VectorLabels"):
        with pytest.raises(Problem, match=f"EllipseLabels on an Image.*; {tag}: not answered"):
            read_control(label_config(tag))
    other = interface("Brush").replace('"shape" toName="image"', '"shape" toName="other"')
    with pytest.raises(Problem, match="label_config: needs BrushLabels"):
        read_control(other)


DATA: dict[str, Any] = {
    "image": "/a.png",
    "photo": {"url": "/b.png", "views": [{"src": "/c.png"}, {"src": "/d.png"}]},
    "dotted.key": "/e.png",
    "name": "f",
    "number": 3,
}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("$image", "/a.png"),
        ("$photo.url", "/b.png"),
        ("$photo.views[1].src", "/d.png"),
        ("$dotted.key", "/e.png"),
        ("https://host/$name-$number/p", "https://host/f-3/p"),
        ("https://host/$name.png", "https://host/"),
        ("$missing", None),
        ("$photo.url.more", None),
        ("$photo.views[2].src", None),
        ("$photo.views[99999999999999999999]", None),
        ("$image[0]", None),
        ("plain", "plain"),
    ],
)
def test_a_value_leads_into_a_tasks_data(value: str, found: Any) -> None:
    assert lookup(value, DATA) == found
    assert lookup(value, None) in (None, lookup(value, {}))


def test_a_value_makes_no_endless_address() -> None:
    with pytest.raises(Problem, match="longer than 20,000 characters"):
        lookup("x$a-" * 3000, {"a": "b" * 1000})


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("$photo.url", {"photo": {"url": "PICTURE"}}),
        ("$photos[1]", {"photos": ["x", "PICTURE"]}),
        ("picture", {"picture": "PICTURE"}),
        ("$a.b", {"a.b": "PICTURE"}),
    ],
)
def test_label_studio_gets_masks_of_nested_pictures(
    serving: Serving, beach: bytes, value: str, data: dict[str, Any]
) -> None:
    body = label_studio_request("x")
    body["label_config"] = body["label_config"].replace("$picture", value)
    body["tasks"][0]["data"] = json.loads(json.dumps(data).replace("PICTURE", data_uri(beach)))
    [prediction] = asyncio.run(predicted(serving, body))
    assert {"rocket", "tulip"} <= labels_of(prediction)


def test_the_pages_of_a_list_are_each_answered(serving: Serving, beach: bytes) -> None:
    body = label_studio_request("x")
    body["label_config"] = body["label_config"].replace('value="$picture"', 'valueList="$pages"')
    body["tasks"][0]["data"] = {"pages": [data_uri(beach)] * 2}
    [prediction] = asyncio.run(predicted(serving, body))
    pages = [[r for r in prediction["result"] if r["item_index"] == page] for page in (0, 1)]
    assert len(pages[0]) == len(pages[1]) == len(prediction["result"]) / 2 > 0
    values = [[region["value"] for region in page] for page in pages]
    assert values[0] == values[1]
    assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])


def test_labels_that_tasks_bring_and_aliases_are_given_back(serving: Serving, beach: bytes) -> None:
    body = label_studio_request(data_uri(beach))
    config = '<View><Image name="i" value="$picture"/><PolygonLabels name="l" toName="i" value='
    body["label_config"] = (
        f'{config}"$words"><Label value="tulip" alias="T-1"/></PolygonLabels></View>'
    )
    task = body["tasks"][0]
    words = [{"value": "rocket", "alias": "R-1"}, {"value": "car", "html": "<b/>"}, "snake", 3]
    body["tasks"] = [
        {**task, "data": {**task["data"], "words": words}},
        {**task, "data": {**task["data"], "words": ["rocket"]}},
    ]
    first, second = (labels_of(found) for found in asyncio.run(predicted(serving, body)))
    assert {"R-1", "T-1"} <= first <= {"R-1", "T-1", "car", "snake"}
    assert {"rocket", "T-1"} == second


def test_what_was_painted_before_does_not_keep_tasks_from_being_answered(
    serving: Serving, beach: bytes
) -> None:
    """Tasks come with their annotations and predictions, whose strokes have any number of bytes."""
    body = label_studio_request(data_uri(beach))
    whole = asyncio.run(predicted(serving, body))
    stroke = {"id": "a", "type": "brushlabels", "value": {"format": "rle", "rle": [255] * 450_000}}
    body["tasks"][0]["annotations"] = [{"id": 1, "result": [stroke]}]
    body["tasks"][0]["data"]["text"] = 'a "rle": [1, 2] of a text'
    assert asyncio.run(predicted(serving, body)) == whole
    body["tasks"][0]["predictions"] = [{"a": [0] * 450_000}]

    async def run() -> httpx.Response:
        async with serving() as client:
            return await client.post("/predict", json=body)

    refused = asyncio.run(run())
    assert refused.status_code == 422
    assert "more than 400,000 entries" in refused.json()["detail"]
