"""Requests as X-AnyLabeling 4.2 and Label Studio send them, and masks that decode to ours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from running import Serving
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from masqclip import Segmenter
from masqclip.result import Segmentation

NAMES = ["rocket", "tulip", "car", "snake"]


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def filled(points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a polygon: drawn eight times as large, then sampled."""
    scale = 8
    image = Image.new("1", (size[1] * scale, size[0] * scale))
    ImageDraw.Draw(image).polygon([(x * scale - 0.5, y * scale - 0.5) for x, y in points], fill=1)
    return np.asarray(image)[scale // 2 :: scale, scale // 2 :: scale]


def without_holes(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_fill_holes(mask))


def decode_brush(rle: list[int]) -> np.ndarray:
    """The alpha byte of every pixel of a stroke, as Label Studio's own reader takes it."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    number, word = read(32), read(5) + 1
    counts = [read(4) + 1 for _ in range(4)]
    words: list[int] = []
    while len(words) < number:
        is_run, count = read(1), read(counts[read(2)]) + 1
        words += [read(word)] * count if is_run else [read(word) for _ in range(count)]
    return np.array(words[3::4], np.uint8) > 0


# X-AnyLabeling


def x_anylabeling_request(image: str, text: str, **params: Any) -> dict[str, Any]:
    """What services/auto_labeling/remote_server.py posts."""
    controls = {"conf_threshold": 0.3, "iou_threshold": 0.0, "epsilon_factor": 0.001}
    return {
        "model": "masqclip-mini",
        "image": image,
        "params": {**controls, "text_prompt": text, **params},
    }


def test_x_anylabeling_lists_the_model_with_its_controls(serving: Serving) -> None:
    async def run() -> None:
        async with serving() as client:
            data = (await client.get("/v1/models", headers={"Token": ""})).json()["data"]
        entry = data["masqclip-mini"]
        assert entry["batch_processing_mode"] == "text_prompt"
        assert {"edit_text", "button_send"} <= {widget["name"] for widget in entry["widgets"]}
        assert [task["id"] for task in entry["available_tasks"]] == [
            "instance", "panoptic", "semantic",
        ]  # fmt: skip
        assert "edit_text" in entry["available_tasks"][0]["active_widgets"]

    asyncio.run(run())


def test_x_anylabeling_gets_polygons_of_our_masks(
    serving: Serving, segmenter: Segmenter, beach: bytes
) -> None:
    expected = segmenter(beach, NAMES, "instance", min_score=0.3)
    assert len(expected) >= 4

    async def run() -> list[dict[str, Any]]:
        async with serving() as client:
            body = x_anylabeling_request(
                data_uri(beach), "rocket.tulip.car.snake", epsilon_factor=0.0
            )
            answer = await client.post("/v1/predict", json=body, headers={"Token": ""})
            assert answer.status_code == 200, answer.text
            rounded = x_anylabeling_request(data_uri(beach), ".".join(NAMES))
            simple = (await client.post("/v1/predict", json=rounded)).json()["data"]["shapes"]
            shapes: list[dict[str, Any]] = answer.json()["data"]["shapes"]
            del rounded["params"]["epsilon_factor"]  # left out, it is what the tool shows at first
            assert (await client.post("/v1/predict", json=rounded)).json()["data"][
                "shapes"
            ] == simple
            assert len(simple) == len(shapes)
            assert 2 * sum(len(s["points"]) for s in simple) < sum(len(s["points"]) for s in shapes)
            semantic = x_anylabeling_request(data_uri(beach), "sand", current_task="semantic")
            labels = (await client.post("/v1/predict", json=semantic)).json()["data"]["shapes"]
            assert {shape["label"] for shape in labels} == {"sand"}
            return shapes

    shapes = asyncio.run(run())
    size = expected.image.shape[:2]
    for segment in expected.segments:
        parts = [
            shape
            for shape in shapes
            if shape["label"] == segment.name and shape["score"] == round(segment.score, 4)
        ]
        assert parts
        assert {shape["shape_type"] for shape in parts} == {"polygon"}
        union = np.logical_or.reduce([filled(shape["points"], size) for shape in parts])
        np.testing.assert_array_equal(union, without_holes(segment.mask))


@pytest.mark.parametrize(
    ("image", "text", "word"),
    [
        (data_uri(b"no picture"), "cat", "not a picture"),
        ("data:image/png;base64,???", "cat", "base64"),
        ("http://127.0.0.1/secret", "cat", "base64"),
        (data_uri(b"x"), " . ", "text_prompt"),
    ],
)
def test_x_anylabeling_is_told_what_is_wrong(
    serving: Serving, image: str, text: str, word: str
) -> None:
    async def run() -> httpx.Response:
        async with serving() as client:
            return await client.post("/v1/predict", json=x_anylabeling_request(image, text))

    answer = asyncio.run(run())
    assert answer.status_code == 422
    assert word in answer.json()["detail"]


def test_x_anylabeling_gets_its_labels_back_as_typed(serving: Serving, beach: bytes) -> None:
    async def run() -> set[str]:
        async with serving() as client:
            body = x_anylabeling_request(
                data_uri(beach), "ROCKET,,Tulip, yellow  sand,stuff: Sand,", current_task="panoptic"
            )
            body["params"]["conf_threshold"] = 0.0
            # As tools break lines, and as addresses write base64.
            body["image"] = base64.encodebytes(
                base64.b64decode(body["image"].split(",")[1])
            ).decode()
            answer = await client.post("/v1/predict", json=body)
            assert answer.status_code == 200, answer.text
            return {shape["label"] for shape in answer.json()["data"]["shapes"]}

    found = asyncio.run(run())
    assert {"ROCKET", "Tulip"} <= found <= {"ROCKET", "Tulip", "yellow  sand", "stuff: Sand"}


# Label Studio


def label_config(tag: str, names: Sequence[str] = NAMES) -> str:
    labels = "".join(f"<Label value={quoteattr(name)} background='#FFA39E'/>" for name in names)
    return (
        '<View>\n  <Image name="image" value="$picture" zoom="true"/>\n'
        f'  <{tag} name="tag" toName="image">{labels}</{tag}>\n</View>'
    )


def label_studio_request(picture: str, tag: str = "BrushLabels") -> dict[str, Any]:
    """What Label Studio posts to its backends' /predict."""
    task = {
        "id": 7,
        "data": {"picture": picture},
        "meta": {},
        "created_at": "2026-11-20T10:00:00.000000Z",
        "is_labeled": False,
        "project": 3,
        "annotations": [],
        "predictions": [],
    }
    return {
        "tasks": [task],
        "model_version": "masqclip-mini",
        "project": "3.1763633000",
        "label_config": label_config(tag),
        "params": {"login": None, "password": None, "context": None},
    }


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


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_label_studio_gets_our_masks(
    serving: Serving, segmenter: Segmenter, beach: bytes, tag: str
) -> None:
    expected: Segmentation = segmenter(beach, NAMES, "panoptic")
    assert len(expected) >= 3

    async def run() -> dict[str, Any]:
        async with serving() as client:
            body = label_studio_request(data_uri(beach), tag)
            answer = await client.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

    document = asyncio.run(run())
    [prediction] = document["results"]
    assert document["model_version"] == prediction["model_version"] == "masqclip-mini"
    height, width = expected.image.shape[:2]
    for segment in expected.segments:
        regions = [
            region
            for region in prediction["result"]
            if region["id"].startswith(f"masqclip-{segment.id}")
        ]
        assert regions
        for region in regions:
            assert (region["from_name"], region["to_name"]) == ("tag", "image")
            assert (region["original_width"], region["original_height"]) == (width, height)
            assert region["value"][region["type"]] == [segment.name]
        if tag == "BrushLabels":
            [region] = regions
            assert region["value"]["format"] == "rle"
            mask = decode_brush(region["value"]["rle"]).reshape(height, width)
            np.testing.assert_array_equal(mask, segment.mask)
        else:
            percent = [np.array(region["value"]["points"]) for region in regions]
            pixels = [(points * (width / 100, height / 100)).tolist() for points in percent]
            union = np.logical_or.reduce([filled(points, (height, width)) for points in pixels])
            solid = without_holes(segment.mask)
            assert not (binary_erosion(solid) & ~union).any()  # off by a pixel at most
            assert not (union & ~binary_dilation(solid)).any()


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


def test_label_studios_pictures_are_fetched_from_the_named_host_only(
    serving: Serving, beach: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), request.headers.get("authorization")))
        return httpx.Response(200, content=beach)

    real = httpx.AsyncClient
    mocked = httpx.MockTransport(answer)
    monkeypatch.setattr(
        "masqclip.serve.label_studio.httpx.AsyncClient",
        lambda **options: real(transport=options.pop("transport", mocked), **options),
    )

    async def run() -> None:
        home = {"label_studio_url": "http://studio:8080", "label_studio_token": "key"}
        async with serving(**home) as client:
            for address in ("/data/upload/3/a.png", "http://studio:8080/data/upload/3/a.png"):
                found = await client.post("/predict", json=label_studio_request(address))
                assert found.status_code == 200, found.text
            for address in ("http://169.254.169.254/meta", "//evil/x", "file:///etc/passwd", ""):
                found = await client.post("/predict", json=label_studio_request(address))
                assert found.status_code == 422
        async with serving() as client:
            found = await client.post("/predict", json=label_studio_request("/data/a.png"))
            assert found.status_code == 422
            assert "--label-studio-url" in found.json()["detail"]

    asyncio.run(run())
    assert asked == [("http://studio:8080/data/upload/3/a.png", "Token key")] * 2


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
