"""Bodies of strangers and what they are told: how large, how slow, at which pace."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from masqclip.serve import bodies, security
from masqclip.serve.bodies import BodyLimit
from masqclip.serve.metrics import Metrics
from masqclip.serve.problems import Problem
from masqclip.serve.security import GONE, SECURITY_HEADERS, Observer
from masqclip.serve.settings import ServeSettings

# Bodies


def scope(path: str = "/v1/images", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs}


async def posted(app: Any, asked: dict[str, Any], *pieces: bytes, more: bool = False) -> Any:
    """The status and headers of an answer; pieces come one by one, and others may follow."""
    sent: list[dict[str, Any]] = []
    left = [*pieces]

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or more}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(asked, receive, send)
    start = sent[0]
    headers = {name.decode(): text.decode() for name, text in start["headers"]}
    return SimpleNamespace(status=start["status"], headers=headers, body=sent[1]["body"])


async def reader(asked: Any, receive: Any, send: Any) -> None:
    """An app that reads a body and says its length; what is refused is answered."""
    size, message = 0, {"more_body": True}
    try:
        while message["more_body"]:
            message = await receive()
            size += len(message["body"])
    except Problem as problem:
        await problem.response()(asked, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/v1/images", 10), ("/v1/segment", 10), ("/v1/predict", 10), ("/predict", 10),
        ("/v1/images/1/segment", 5), ("/setup", 5), ("/v1", 5),
    ],
)  # fmt: skip
def test_a_body_has_so_many_bytes(path: str, most: int) -> None:
    async def check() -> None:
        limit = BodyLimit(reader, settings=ServeSettings(max_upload_bytes=10, max_text_bytes=5))
        found = await posted(limit, scope(path), b"x" * (most - 1), b"x")
        assert (found.status, found.body) == (200, str(most).encode())
        for announced, status in ((most, 200), (most + 1, 413), ("9" * 18, 413), ("9" * 19, 413)):
            asked = scope(path, content_length=str(announced))
            found = await posted(limit, asked, b"x" * most)
            assert found.status == status
        assert found.headers["connection"] == "close"
        for announced in ("much", "-1", "0"):
            asked = scope(path, content_length=announced)
            assert (await posted(limit, asked, b"x")).status == 200
        found = await posted(limit, scope(path), b"x" * most, b"x")
        assert (found.status, found.headers["connection"]) == (413, "close")
        assert limit.held == 0
        assert limit._unfinished == set()

    asyncio.run(check())


def test_all_bodies_together_have_so_many_bytes() -> None:
    async def check() -> None:
        limit = BodyLimit(reader, settings=ServeSettings(buffer_bytes=10))
        large = asyncio.create_task(posted(limit, scope(), b"x" * 6, more=True))
        small = asyncio.create_task(posted(limit, scope(), b"x" * 4, more=True))
        await asyncio.sleep(0.01)
        assert (limit.held, len(limit._unfinished)) == (10, 2)  # exactly full
        done = await posted(limit, scope(), b"x")
        assert (done.status, done.body) == (200, b"1")
        given_up = await asyncio.wait_for(large, 5)
        assert (given_up.status, given_up.headers["retry-after"]) == (429, "1")
        assert given_up.headers["connection"] == "close"
        assert b"too many bytes are on their way" in given_up.body
        assert limit.held == 4
        found = await posted(limit, scope(), b"x" * 7, more=True)  # itself the largest
        assert (found.status, limit.held) == (429, 4)
        small.cancel()
        await asyncio.gather(small, return_exceptions=True)
        assert (limit.held, limit._unfinished) == (0, set())

    asyncio.run(check())


def test_of_too_many_bodies_the_slowest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        limit = BodyLimit(reader, settings=ServeSettings(max_connections=4))
        slow = asyncio.create_task(posted(limit, scope(), b"x", more=True))
        quick = asyncio.create_task(posted(limit, scope(), b"x" * 160_000, more=True))
        await asyncio.sleep(0.01)
        assert len(limit._unfinished) == 2  # half of the connections
        assert (await posted(limit, scope(), b"x")).status == 200
        found = await asyncio.wait_for(slow, 5)
        assert found.status == 429
        assert b"too many others are sending" in found.body
        assert not quick.done()
        quick.cancel()
        await asyncio.gather(quick, return_exceptions=True)

    asyncio.run(check())


def test_a_body_has_a_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.01)

    async def check() -> None:
        limit = BodyLimit(reader, settings=ServeSettings())
        found = await asyncio.wait_for(posted(limit, scope(), b"x", more=True), 5)
        assert (found.status, found.headers["connection"]) == (408, "close")

    asyncio.run(check())
    body = bodies._Body(10, started=100.0, received=30)
    assert body.due(10) == 100.0 + 0.01 + 3.0


# What stands before every route


def observed(app: Any, metrics: Metrics, *pieces: bytes, **more: Any) -> Any:
    asked = scope() | more
    return asyncio.run(posted(Observer(app, metrics=metrics), asked, *pieces))


def test_refusals_come_at_the_pace_of_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []

    async def sleep(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr(security.asyncio, "sleep", sleep)

    def answering(status: int) -> Any:
        async def app(asked: Any, receive: Any, send: Any) -> None:
            while (await receive())["more_body"]:
                pass
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"said"})

        return app

    metrics = Metrics()
    for status in (200, 404, 413, 500):
        found = observed(answering(status), metrics, b"x" * 8_000)
        assert found.headers == {name.lower(): text for name, text in SECURITY_HEADERS.items()}
    assert held == []
    for status in (400, 422):
        observed(answering(status), metrics, b"x" * 4_000, b"x" * 4_000)
    observed(answering(422), metrics, b"x" * 16_000_000)
    assert held == [0.101, 0.101, 2.0]
    told = metrics.text().decode()
    assert 'masqclip_requests_total{route="other",status="422"} 2.0' in told
    assert 'masqclip_requests_total{route="other",status="404"} 1.0' in told
    assert 'masqclip_request_seconds_count{route="other"} 7.0' in told


def test_a_defect_is_answered_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(asked: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("secret")

    metrics = Metrics()
    caplog.set_level("INFO", "masqclip.serve")
    security.logger.addHandler(caplog.handler)
    route = SimpleNamespace(path="/v1/{id}")
    try:
        found = observed(broken, metrics, b"12345", route=route)
    finally:
        security.logger.removeHandler(caplog.handler)
    assert (found.status, found.headers["x-content-type-options"]) == (500, "nosniff")
    assert 'requests_total{route="/v1/{id}",status="500"} 1.0' in metrics.text().decode()
    assert f"POST /v1/{{id}} 500, 5 bytes in, {len(found.body)} out, " in caplog.text


def test_half_an_answer_stays_half(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(asked: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("half")

    with pytest.raises(KeyError, match="half"):
        observed(broken, Metrics())


def test_who_is_gone_is_counted_as_gone() -> None:
    async def answering(asked: Any, receive: Any, send: Any) -> None:
        asked[GONE] = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    metrics = Metrics()
    observed(answering, metrics)
    assert 'status="499"} 1.0' in metrics.text().decode()
