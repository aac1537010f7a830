"""Connections that say nothing, half of something, or never end; and the end of the service."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from running import Server, Serving, start_server

from masqclip.serve import connections


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
        assert httpx.get(f"{server.url}/healthz", timeout=60).status_code == 200
        answer = httpx.post(f"{server.url}/v1/images", files={"image": beach}, timeout=60)
        assert answer.status_code == 201
        opened_by_server = Path(f"/proc/{server.process.pid}/fd")
        until = time.monotonic() + 60  # the moment that new ones are given to speak passes
        while len(list(opened_by_server.iterdir())) >= 260 and time.monotonic() < until:
            time.sleep(0.1)
        assert len(list(opened_by_server.iterdir())) < 260
    assert log.stat().st_size < 200_000


def test_a_head_must_come_in_time(monkeypatch: pytest.MonkeyPatch, serving: Serving) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)

    async def run() -> None:
        async with listening(serving) as port:
            for said in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 60) == b""
                writer.close()
            # One that is served, and asks again, is not in a hurry until it begins to ask.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"}"), 60)
            writer.close()

    asyncio.run(run())


def test_what_is_no_http_gets_a_problem_with_all_headers(serving: Serving) -> None:
    async def run() -> None:
        async with listening(serving) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"nonsense\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 60)
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


def test_who_hangs_up_is_no_error(server: Server) -> None:
    with opened(server.url, 3, STALLED):
        time.sleep(0.3)
    until, counted = time.monotonic() + 60, ""
    while 'status="499"' not in counted:
        assert time.monotonic() < until
        counted = httpx.get(f"{server.url}/metrics").text
    assert 'status="500"' not in counted


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
        server.process.terminate()
        assert server.process.wait(60) == 0
