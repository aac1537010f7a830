"""Requests as X-AnyLabeling 4.2 sends them, and masks that decode to ours."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import numpy as np
import pytest
from drawn_regions import NAMES, data_uri, filled, without_holes
from running import Serving

from masqclip import Segmenter


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
