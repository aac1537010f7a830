"""Requests that were made to keep others out, to bring the service down, or to use it unseen."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from running import EXAMPLES, Server, Serving
from test_api import assert_problem, picture

from masqclip.serve import bodies
from masqclip.serve.logs import LINES_AT_ONCE, RateLimit
from masqclip.serve.security import SECURITY_HEADERS
from masqclip.serve.store import IDENTIFIERS_OF_A_FILE

# Slow senders


def slow(*parts: bytes, seconds: float = 60.0) -> AsyncIterator[bytes]:
    async def send() -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        await asyncio.sleep(seconds)

    return send()


def test_slow_uploads_shut_nobody_out(
    serving: Serving, beach: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 2.0)
    kind = {"Content-Type": "image/png"}

    async def run() -> None:
        async with serving(max_requests=3, max_wait=1.0) as client:
            attack = [
                asyncio.create_task(
                    client.post("/v1/images", content=slow(beach[:1000]), headers=kind)
                )
                for _ in range(12)
            ]
            await asyncio.sleep(0.2)
            for _ in range(3):  # 429 for everybody, where slow senders take the room of work
                answer = await client.post("/v1/images", content=beach, headers=kind)
                assert answer.status_code == 201
            assert client.app.state.engine._encode_seconds < 2  # type: ignore[attr-defined]
            for answer in await asyncio.gather(*attack):
                assert_problem(answer, 408, "too slowly")

    asyncio.run(run())


def test_bytes_on_their_way_are_bounded_and_the_largest_body_goes(
    serving: Serving, beach: bytes
) -> None:
    kind = {"Content-Type": "image/png"}

    async def run() -> None:
        async with serving(buffer_bytes=3_000_000) as client:
            large = [
                asyncio.create_task(
                    client.post("/v1/images", content=slow(*[bytes(100_000)] * 12), headers=kind)
                )
                for _ in range(4)
            ]
            await asyncio.sleep(0.3)
            assert await_held(client) <= 3_000_000
            for _ in range(4):
                answer = await client.post("/v1/images", content=beach, headers=kind)
                assert answer.status_code == 201
            given_up = [task for task in large if task.done()]
            assert given_up
            for task in given_up:
                assert_problem(task.result(), 429, "on their way")
            for task in large:
                task.cancel()
            await asyncio.gather(*large, return_exceptions=True)
            assert await_held(client) == 0

    asyncio.run(run())


def await_held(client: httpx.AsyncClient) -> int:
    layer: Any = client.app.middleware_stack  # type: ignore[attr-defined]
    while not isinstance(layer, bodies.BodyLimit):
        layer = getattr(layer, "_app", None) or layer.app
    return layer.held


# Much work in few bytes


async def longest_silence(client: httpx.AsyncClient, work: asyncio.Task[httpx.Response]) -> float:
    """The longest that the event loop did nothing else while a request was answered.

    In seconds of this process's work, on or beside the loop: what others do on the machine is no
    silence of ours.
    """
    longest = 0.0
    while not work.done():
        started = time.process_time()
        await asyncio.sleep(0.005)
        longest = max(longest, time.process_time() - started)
    return longest


def many_names() -> dict[str, Any]:
    return {"data": {"vocabulary": "a\n" * 450_000}, "files": {"image": picture()}}


def look_alikes() -> dict[str, Any]:
    letters = "".join(chr(0x4E00 + (i * 7919) % 20_000) for i in range(150_000))
    return {
        "data": {"vocabulary": letters, "stuff": letters[::-1]},
        "files": {"image": picture()},
    }


REQUESTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "names": ("/v1/segment", many_names(), 422),
    "look-alikes": ("/v1/segment", look_alikes(), 422),
    "one-name": ("/v1/segment", {"data": {"vocabulary": "x" * 900_000}, "files": {}}, 422),
    "json-names": ("/v1/images/0/segment", {"content": b'{"vocabulary":["' + b'","' * 99_999}, 422),
    "json-bytes": ("/v1/images/0/segment", {"content": b'{"vocabulary":"' + b"a" * 2_000_000}, 413),
    "json-deep": ("/v1/predict", {"content": b"[" * 90_000}, 422),
    "json-entries": ("/predict", {"content": b'{"tasks":[' + b"{}," * 5_000_000}, 422),
    "json-long": (
        "/predict",
        {"content": json.dumps({"tasks": [], "label_config": "<View>" * 300_000}).encode()},
        422,
    ),
    "fields": ("/v1/segment", {"data": {f"f{i}": "x" for i in range(3000)}, "files": {}}, 400),
}  # fmt: skip


@pytest.mark.parametrize("kind", REQUESTS)
def test_no_request_silences_the_others(kind: str, serving: Serving) -> None:
    path, body, status = REQUESTS[kind]
    headers = {"Content-Type": "application/json"} if "content" in body else {}
    if body.get("files") == {}:
        body = body | {"files": {"image": picture()}}

    async def run() -> None:
        async with serving() as client:
            # What a first request imports is no work of this one.
            await client.post("/v1/segment", files={"image": picture()}, data={"vocabulary": "a"})
            started = time.process_time()
            work = asyncio.create_task(client.post(path, headers=headers, **body))
            silence = await longest_silence(client, work)
            assert_problem(await work, status)
            assert silence < 1
            assert time.process_time() - started < 15

    asyncio.run(run())


def test_pictures_that_take_long_wait_for_one_another_only(serving: Serving) -> None:
    """Python decodes this format, pixel by pixel: four megapixels take seconds."""
    qoi = b"qoif" + struct.pack(">IIBB", 4000, 4000, 3, 0) + b"\xc0" * 16_000_000 + bytes(8)
    kind = {"Content-Type": "application/octet-stream"}

    async def run() -> None:
        async with serving(read_seconds=1) as client:
            attack = [
                asyncio.create_task(client.post("/v1/images", content=qoi, headers=kind))
                for _ in range(3)
            ]
            await asyncio.sleep(0.3)
            answer = await client.post("/v1/images", content=picture(), headers=kind)
            assert answer.status_code == 201
            assert not all(task.done() for task in attack)
            outcomes = {(await task).status_code for task in attack}
            assert outcomes <= {422, 429}

    asyncio.run(run())


# Smaller things


@pytest.mark.parametrize(
    "value", ["Basic \xff\xfe", "Basic ====", "Basic é", "Bearer \xe9", "Basic", "", "Basic Og=="]
)
def test_odd_tokens_are_refused(value: str, serving: Serving) -> None:
    async def run() -> None:
        async with serving(token="secret") as client:
            headers = [(b"Authorization", value.encode("latin-1"))]
            assert_problem(await client.get("/v1/models", headers=headers), 401)

    asyncio.run(run())


@pytest.mark.parametrize(
    "address", ["http://[", "//[::1", "http://a\x00b/", "\\\\host\\x", "data:"]
)
def test_odd_addresses_are_refused(address: str, serving: Serving) -> None:
    config = '<View><Image name="i" value="$image"/><BrushLabels name="l" toName="i">'
    config += '<Label value="car"/></BrushLabels></View>'
    wish = {"tasks": [{"data": {"image": address}}], "label_config": config}

    async def run() -> None:
        async with serving(label_studio_url="http://127.0.0.1:9") as client:
            assert_problem(await client.post("/predict", json=wish), 422)

    asyncio.run(run())


def test_a_lone_surrogate_is_refused(serving: Serving) -> None:
    async def run() -> None:
        async with serving() as client:
            identifier = (await client.post("/v1/images", files={"image": picture()})).json()["id"]
            for names in (b'"\\ud800"', b'["cat", "\\udfff"]', b'{"\\ud800": []}'):
                answer = await client.post(
                    f"/v1/images/{identifier}/segment",
                    content=b'{"vocabulary": ' + names + b"}",
                    headers={"Content-Type": "application/json"},
                )
                assert_problem(answer, 422)

    asyncio.run(run())


def test_a_defect_is_answered_with_all_headers(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with serving() as client:
            engine = client.app.state.engine  # type: ignore[attr-defined]
            monkeypatch.setattr(engine, "open", None)
            answer = await client.post("/v1/images", files={"image": picture()})
            assert_problem(answer, 500, "its log says more")
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers[name] == value

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:8000"}, 421),
        ({"Host": "["}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "photos.example.org", "Origin": "https://photos.example.org"}, 201),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 201),
        ({"Host": "[::1]:8000", "Origin": "http://[::1]:8000"}, 201),
        ({"Origin": "https://lab.example"}, 201),
        ({}, 201),
    ],
)
def test_other_sites_cannot_use_a_visitors_browser(
    headers: dict[str, str], status: int, serving: Serving
) -> None:
    async def run() -> None:
        async with serving(
            allowed_hosts=("photos.example.org",), cors_origins=("https://lab.example",)
        ) as client:
            answer = await client.post("/v1/images", files={"image": picture()}, headers=headers)
            assert answer.status_code == status, answer.text

    asyncio.run(run())


def test_uploading_one_file_for_ever_takes_no_memory(serving: Serving) -> None:
    async def run() -> None:
        async with serving() as client:
            store = client.app.state.engine.store  # type: ignore[attr-defined]
            data = picture()
            first = (await client.post("/v1/images", files={"image": data})).json()["id"]
            encoded = store.find(data)
            for _ in range(IDENTIFIERS_OF_A_FILE):
                store.put(data, encoded)
            assert len(store._digests) == IDENTIFIERS_OF_A_FILE
            assert store.get(first) is None

    asyncio.run(run())


def test_the_log_does_not_flood() -> None:
    limit = RateLimit()
    record = logging.LogRecord("x", logging.INFO, "", 0, "a line", None, None)
    written = sum(limit.filter(record) for _ in range(10_000))
    assert LINES_AT_ONCE <= written < LINES_AT_ONCE + 100
    limit._last -= 1  # a second later
    assert limit.filter(record)
    assert "lines are left out" in record.getMessage()


def test_a_picture_of_one_column_is_refused_at_once(serving: Serving) -> None:
    from test_api import bomb

    async def run() -> None:
        async with serving() as client:
            for data in (bomb(), picture(1, 20_000)):
                started = time.process_time()
                answer = await client.post("/v1/images", files={"image": data})
                assert_problem(answer, 422)
                assert time.process_time() - started < 5

    asyncio.run(run())


def test_the_examples_are_still_served(server: Server) -> None:
    data = (EXAMPLES / "beach.png").read_bytes()
    answer = httpx.post(
        f"{server.url}/v1/segment", files={"image": data}, data={"vocabulary": "car"}, timeout=60
    )
    assert answer.status_code == 200
