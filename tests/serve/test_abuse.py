"""Requests that were made to keep others out, to bring the service down, or to use it unseen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import EXAMPLES, Server, Serving, start_server
from test_api import assert_problem, picture

from masqclip.serve import bodies, connections
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
            assert client.app.state.engine._encode_seconds < 1  # type: ignore[attr-defined]
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


# Connections


@contextlib.contextmanager
def opened(url: str, number: int, said: bytes) -> Iterator[list[socket.socket]]:
    port = int(url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(number):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            with contextlib.suppress(OSError):
                one.sendall(said)
            sockets.append(one)
        yield sockets


HALF = b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "
STALLED = (
    b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    b"Content-Length: 30000000\r\n\r\n" + bytes(1000)
)


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    log = tmp_path_factory.mktemp("small") / "log.txt"
    server = start_server(log, "--max-connections", "100")
    yield server, log
    server.process.kill()


@pytest.mark.parametrize("said", [HALF, STALLED, b""], ids=["half-head", "stalled-body", "silent"])
def test_a_thousand_connections_drive_out_their_own(
    said: bytes, beach: bytes, small_server: tuple[Server, Path]
) -> None:
    server, log = small_server
    with opened(server.url, 400, said):
        started = time.monotonic()
        assert httpx.get(f"{server.url}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - started < 1
        answer = httpx.post(f"{server.url}/v1/images", files={"image": beach}, timeout=30)
        assert answer.status_code == 201
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 260
    assert log.stat().st_size < 200_000


def test_a_head_must_come_in_time(monkeypatch: pytest.MonkeyPatch, serving: Serving) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)

    async def run() -> None:
        async with listening(serving) as port:
            for said in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                started = time.monotonic()
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
                assert time.monotonic() - started < 3
                writer.close()
            # One that is served, and asks again, is not in a hurry until it begins to ask.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"}"), 5)
            writer.close()

    asyncio.run(run())


def test_what_is_no_http_gets_a_problem_with_all_headers(serving: Serving) -> None:
    async def run() -> None:
        async with listening(serving) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"nonsense\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            assert b"application/problem+json" in answer
            assert b"content-security-policy" in answer
            writer.close()

    asyncio.run(run())


@asynccontextmanager
async def listening(serving: Serving) -> AsyncIterator[int]:
    """The service on a port, in this process."""
    import uvicorn

    async with serving() as client:
        config = uvicorn.Config(
            client.app,  # type: ignore[attr-defined]
            port=0,
            http=connections.bounded_protocol(20),
            ws="none",
            lifespan="off",
            log_config=None,
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        await task


# Much work in few bytes


async def longest_silence(client: httpx.AsyncClient, work: asyncio.Task[httpx.Response]) -> float:
    """The longest that the event loop did nothing else while a request was answered."""
    longest = 0.0
    while not work.done():
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - started)
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
            started = time.perf_counter()
            work = asyncio.create_task(client.post(path, headers=headers, **body))
            silence = await longest_silence(client, work)
            assert_problem(await work, status)
            assert silence < 0.5
            assert time.perf_counter() - started < 5

    asyncio.run(run())


def test_pictures_that_take_long_wait_for_one_another_only(serving: Serving) -> None:
    """Python decodes this format, pixel by pixel: four megapixels take seconds."""
    qoi = b"qoif" + struct.pack(">IIBB", 4000, 4000, 3, 0) + b"\xc0" * 16_000_000 + bytes(8)
    kind = {"Content-Type": "application/octet-stream"}

    async def run() -> None:
        async with serving(read_seconds=1) as client:
            attack = [
                asyncio.create_task(client.post("/v1/images", content=qoi, headers=kind))
                for _ in range(4)
            ]
            await asyncio.sleep(0.3)
            started = time.perf_counter()
            answer = await client.post("/v1/images", content=picture(), headers=kind)
            assert answer.status_code == 201
            assert time.perf_counter() - started < 1.5
            outcomes = {(await task).status_code for task in attack}
            assert outcomes <= {422, 429}

    asyncio.run(run())


# The end


def test_sigterm_ends_it_in_time_whatever_it_is_doing(
    small_server: tuple[Server, Path],
) -> None:
    server, _ = small_server  # the last test that has it
    side = 4500
    qoi = b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + b"\xc0" * (side * side) + bytes(8)
    kind = b"Content-Type: application/octet-stream\r\n"
    head = b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\n" + kind
    body = head + f"Content-Length: {len(qoi)}\r\n\r\n".encode() + qoi
    with opened(server.url, 4, body), opened(server.url, 10, STALLED):
        time.sleep(0.5)
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert time.monotonic() - started < 10


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


def test_who_hangs_up_is_no_error(server: Server) -> None:
    with opened(server.url, 3, STALLED):
        time.sleep(0.3)
    time.sleep(0.3)
    counted = httpx.get(f"{server.url}/metrics").text
    assert 'status="499"' in counted
    assert 'status="500"' not in counted


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
                started = time.perf_counter()
                answer = await client.post("/v1/images", files={"image": data})
                assert_problem(answer, 422)
                assert time.perf_counter() - started < 2

    asyncio.run(run())


def test_the_examples_are_still_served(server: Server) -> None:
    data = (EXAMPLES / "beach.png").read_bytes()
    answer = httpx.post(
        f"{server.url}/v1/segment", files={"image": data}, data={"vocabulary": "car"}, timeout=60
    )
    assert answer.status_code == 200
