"""Connections of strangers and the end of the service; what is fetched, and the client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from masqclip.errors import MasqclipError
from masqclip.serve import Client, connections, label_studio_files, run
from masqclip.serve.connections import bounded_protocol
from masqclip.serve.problems import Problem
from masqclip.serve.settings import ServeSettings

# Connections


class Wire(asyncio.Transport):
    """A connection's other half, of straw."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def resume_reading(self) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    close = pause_reading = resume_reading

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@pytest.fixture
def connected() -> Any:
    """Makes connections of one service, in a running loop; their timers are at their `loop`."""
    import uvicorn
    from uvicorn.server import ServerState

    async def app(asked: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    def service(most: int, spare: int) -> Any:
        kind = bounded_protocol(most, spare)
        config, state = uvicorn.Config(app, ws="none", log_config=None), ServerState()
        config.load()

        def connect() -> tuple[Any, Wire]:
            protocol, wire = kind(config, state, {}), Wire()
            protocol.connection_made(wire)
            return protocol, wire

        return connect

    return service


def test_a_burst_drives_out_who_was_silent_before_and_nobody_within_it(connected: Any) -> None:
    async def run() -> None:
        connect = connected(10, spare=20)
        old = [connect() for _ in range(10)]
        for protocol, _ in old:
            protocol._since -= 1  # a second ago, and nothing said
        new = [connect() for _ in range(30)]  # in one go: no loss is reported in between
        assert [wire.aborted for _, wire in old] == [True] * 10
        assert not any(wire.aborted for _, wire in new)
        connect()
        assert sum(wire.aborted for _, wire in new) == 1  # the spare ones are used up
        assert new[0][1].aborted
        speaker, wire = new[5]
        speaker.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(40):
            connect()
        assert not wire.aborted  # who asks is not silent
        for task in speaker.tasks:
            task.cancel()

    asyncio.run(run())


def test_a_connection_is_waited_for_until_it_asks_and_again_after(connected: Any) -> None:
    async def check() -> None:
        protocol, wire = connected(5, 5)()
        first = protocol._timer
        assert first.when() - protocol.loop.time() == pytest.approx(10, abs=0.5)
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert first.cancelled()
        assert protocol._timer is None
        assert protocol not in protocol.waiting
        protocol.pause_writing()
        second = protocol._write_timer
        assert second.when() - protocol.loop.time() == pytest.approx(30, abs=0.5)
        protocol.pause_writing()  # from now on, again
        assert second.cancelled()
        third = protocol._write_timer
        protocol.resume_writing()
        assert third.cancelled()
        assert protocol._write_timer is None
        protocol.drop()
        assert wire.aborted
        assert protocol in protocol.closing
        protocol.connection_lost(None)
        assert protocol.closing == set()
        assert not protocol.waiting

    asyncio.run(check())


def test_in_a_moment_it_shows_who_says_something(
    connected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        connect = connected(2, 3)
        called: list[tuple[float, Any]] = []
        made = [connect() for _ in range(2)]
        loop = made[0][0].loop
        monkeypatch.setattr(loop, "call_later", lambda after, call: called.append((after, call)))
        connect()
        assert not any(wire.aborted for _, wire in made)
        (again,) = (call for after, call in called if after == 0.5)
        made[0][0]._since -= 0.2
        again()
        assert not made[0][1].aborted, "nobody need have said anything for a quarter of a second"
        made[0][0]._since -= 0.1
        again()
        assert made[0][1].aborted
        made[1][0]._since -= 1
        again()
        assert not made[1][1].aborted, "they are no longer too many"

    asyncio.run(check())


def test_the_silent_go_before_those_who_were_served(connected: Any) -> None:
    async def check() -> None:
        connect = connected(2, 3)
        served, silent = connect(), connect()
        served[0]._wait(served=True)
        served[0].waiting.pop(silent[0])
        served[0].waiting[silent[0]] = False  # the newer one
        for protocol, _ in (served, silent):
            protocol._since -= 1
        connect()
        assert (served[1].aborted, silent[1].aborted) == (False, True)
        last = connect()
        last[0]._work()  # all that are left ask
        for protocol in [*last[0].waiting]:
            protocol._work()
        connect()[0]._work()
        last[0]._make_room()
        assert not served[1].aborted

    asyncio.run(check())


def test_the_server_is_run_with_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(run, "log_to_stderr", lambda: seen.append("log"))
    monkeypatch.setattr(run.gc, "freeze", lambda: None)
    monkeypatch.setattr(run.signal, "signal", lambda number, call: seen.append((number, call)))
    monkeypatch.setattr(run, "affordable_connections", lambda wanted: (wanted - 1, 17))
    monkeypatch.setattr(run._Server, "run", lambda server: seen.append(server.config))
    app: Any = object()
    run.run_app(app, host="::1", port=81, max_connections=9)
    log, (number, end), config = seen
    assert (log, number) == ("log", run.signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        end(number, None)
    assert ended.value.code == 0
    assert (config.app, config.host, config.port, config.backlog) == (app, "::1", 81, 17)
    assert (config.http.most, config.http.spare) == (8, 17)
    assert (config.ws, config.log_config, config.access_log) == ("none", None, False)
    assert (config.timeout_graceful_shutdown, config.server_header) == (7, False)
    assert connections.BoundedProtocol.most == 512


def test_a_process_ends_in_time_whatever_its_threads_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    timers: list[Any] = []

    def timer(seconds: float, call: Any, given: tuple[int, ...]) -> Any:
        made = SimpleNamespace(seconds=seconds, call=call, given=given, daemon=False, start=None)
        made.start = lambda: timers.append((made.seconds, made.call, made.given, made.daemon))
        return made

    monkeypatch.setattr(run.threading, "Timer", timer)
    server = run._Server(uvicorn.Config("x"))
    for _ in range(2):
        server.handle_exit(15, None)
    assert timers == [(8.5, run.os._exit, (0,), True)]
    assert server.should_exit


# Pictures of a Label Studio


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """A Label Studio that answers with ten bytes, or 404 at /sub/gone; what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path == "/sub/down":
            raise httpx.ConnectError("")
        return httpx.Response(
            404 if request.url.path == "/sub/gone" else 200, content=b"0123456789"
        )

    client = httpx.AsyncClient

    def made(**options: Any) -> httpx.AsyncClient:
        assert options.pop("timeout") == 7.0
        return client(transport=httpx.MockTransport(answer), **options)

    monkeypatch.setattr(label_studio_files.httpx, "AsyncClient", made)
    return asked


def picture(address: Any, **settings: Any) -> bytes:
    given = {"label_studio_url": "http://studio/sub", "deadline": 7.0, **settings}
    pictures = label_studio_files.TaskPictures(ServeSettings(**given))
    return asyncio.run(pictures.get(address, 7))


def test_pictures_are_fetched_from_the_one_label_studio(studio: list[httpx.Request]) -> None:
    for address, url in (
        ("a.png", "http://studio/sub/a.png"),
        ("/data/a.png?b=1", "http://studio/sub/data/a.png?b=1"),
        ("/sub/data/a.png?b=1", "http://studio/sub/data/a.png?b=1"),
        ("http://studio/x", "http://studio/x"),
    ):
        assert picture(address, max_upload_bytes=10) == b"0123456789"
        assert str(studio[-1].url) == url
    assert "authorization" not in studio[-1].headers
    picture("a", label_studio_token="key")
    assert studio[-1].headers["authorization"] == "Token key"
    assert picture("data:image/png;base64,QUI=") == b"AB"


@pytest.mark.parametrize(
    ("address", "settings", "status", "said"),
    [
        ("http://other/x", {}, 422, "outside the Label Studio"),
        ("https://studio/x", {}, 422, "outside the Label Studio"),
        ("http://studio:81/x", {}, 422, "outside the Label Studio"),
        ("//other/x", {}, 422, "outside the Label Studio"),
        ("http://[x", {}, 422, "outside the Label Studio"),
        ("/sub/gone", {}, 422, "answers 404 for a file"),
        ("/sub/down", {}, 422, r"cannot be fetched \(ConnectError\)"),
        ("/x", {"max_upload_bytes": 9}, 413, "larger than this service takes"),
        ("/x", {"label_studio_url": ""}, 422, "pictures are not fetched"),
        ("", {}, 422, "a task has no picture"),
        (None, {}, 422, "a task has no picture"),
        (3, {}, 422, "a task has no picture"),
    ],
)
def test_no_other_picture_is_fetched(
    address: Any, settings: dict[str, Any], status: int, said: str, studio: list[httpx.Request]
) -> None:
    with pytest.raises(Problem, match=said) as refused:
        picture(address, **settings)
    assert refused.value.status_code == status


# The client


def test_the_client_says_what_it_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[httpx.Request] = []
    answers = {
        "/v1/images": {"id": "0" * 32},
        f"/v1/images/{'0' * 32}/segment": {"segments": []},
        "/v1/models": {"data": {"m": {}}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=answers[request.url.path])

    made: list[dict[str, Any]] = []
    whole = httpx.Client

    def client(**options: Any) -> httpx.Client:
        made.append(dict(options))
        return whole(transport=httpx.MockTransport(answer), **options)

    monkeypatch.setattr(httpx, "Client", client)
    (tmp_path / "a.png").write_bytes(b"file")
    with Client(token="secret", timeout=3.0) as talks:
        for given in (b"file", tmp_path / "a.png", str(tmp_path / "a.png")):
            assert talks.upload(given) == "0" * 32
            assert b"file" in asked[-1].content
        assert talks.segment("0" * 32, ["cat"], "semantic", min_score=0.5) == {"segments": []}
        assert asked[-1].content == (
            b'{"vocabulary": ["cat"], "task": "semantic", "min_score": 0.5}'
        )
        assert asked[-1].headers["accept"] == "application/json"
        assert asked[-1].headers["content-type"] == "application/json"
        before = len(asked)
        assert talks.overlay(b"file", "cat") == b'{"segments":[]}'
        assert len(asked) == before + 2  # it is sent first
        assert asked[-1].headers["accept"] == "image/png"
        assert b'"task": "panoptic"' in asked[-1].content
        assert talks.models() == {"m": {}}
    assert talks._http.is_closed
    Client()
    assert made == [
        {
            "base_url": "http://127.0.0.1:8000",
            "headers": {"Authorization": "Bearer secret"},
            "timeout": 3.0,
        },
        {"base_url": "http://127.0.0.1:8000", "headers": {}, "timeout": 60.0},
    ]
    for bad in (tmp_path / "gone.png", "a\0b"):
        with pytest.raises(MasqclipError, match="cannot be read"):
            talks.upload(bad)
