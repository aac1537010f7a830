"""Requests about vocabularies with examples, and what the tests of them share."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

from masqclip.data.images import read_image
from masqclip.data.label_maps import png_bytes
from masqclip.data.rle import decode_rle

WORDS = "snake, tulip, rocket"


def problem(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert "\n" not in detail
    for word in words:
        assert word in detail, detail


def mirrored(beach: bytes) -> bytes:
    return png_bytes(np.ascontiguousarray(read_image(beach).pixels[:, ::-1]))


async def upload(client: httpx.AsyncClient, picture: bytes) -> str:
    return str((await client.post("/v1/images", files={"image": picture})).json()["id"])


async def find_car(client: httpx.AsyncClient, image: str) -> dict[str, Any]:
    wish = {"vocabulary": f"car, {WORDS}", "task": "instance"}
    found = (await client.post(f"/v1/images/{image}/segment", json=wish)).json()["segments"]
    (car,) = (segment for segment in found if segment["name"] == "car")
    return dict(car)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def masks(answer: httpx.Response, name: str) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    return [
        decode_rle(segment["segmentation"])
        for segment in answer.json()["segments"]
        if segment["name"] == name
    ]
