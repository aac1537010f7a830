"""Bounds of the service just where they are: what is still taken, and what no longer is."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.requests import Request

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.data.label_maps import png_bytes
from masqclip.errors import MasqclipError
from masqclip.serve import connections, engine, logs, uploads
from masqclip.serve.engine import Engine, Upload
from masqclip.serve.metrics import Metrics
from masqclip.serve.problems import Problem
from masqclip.serve.schemas import SegmentRequest
from masqclip.serve.settings import ServeSettings

# The log


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def line() -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "", 0, "a %s", ("line",), None)


def test_lines_beyond_the_rate_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    limit = logs.RateLimit()
    assert sum(limit.filter(line()) for _ in range(503)) == 500
    clock.now += 1 / 32  # room for one
    record = line()
    assert limit.filter(record)
    assert record.getMessage() == "a line (before it, 3 lines are left out)"
    assert not limit.filter(line())
    clock.now += 1 / 16
    record = line()
    assert limit.filter(record)
    assert record.getMessage() == "a line (before it, 1 lines are left out)"
    record = line()
    assert limit.filter(record)
    assert record.getMessage() == "a line"
    clock.now += 1000  # no more at once than at the start
    assert sum(limit.filter(line()) for _ in range(600)) == 500


def test_three_loggers_write_to_stderr_within_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("masqclip.serve", "uvicorn", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        for name in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, name, getattr(logger, name))
    logs.log_to_stderr()
    for logger in loggers:
        (handler,) = logger.handlers
        assert isinstance(handler, logging.StreamHandler)
        assert handler.stream is sys.stderr
        assert [type(each) for each in handler.filters] == [logs.RateLimit]
        told = handler.format(line())
        assert told.endswith(" INFO a line")
        assert told[:2] == "20", "it begins with the time"
        assert (logger.propagate, logger.level) == (False, logging.INFO)
        logger.manager._clear_cache()  # type: ignore[attr-defined]


# The words


def words(max_names: int, *texts: Any, **fields: Any) -> Vocabulary:
    if len(texts) == 1:
        wish = SegmentRequest(vocabulary=texts[0], **fields)
    else:
        wish = SegmentRequest.from_texts(texts, **fields)
    return wish.words(max_names)


@pytest.mark.parametrize(
    ("texts", "fields", "number"),
    [
        (("a, b, c",), {}, 3),
        ((["a", "b", "c"],), {}, 3),
        (({"a": ["x", "y"], "b": "z"},), {}, 3),
        (("a, b",), {"distractors": "c"}, 3),
        (("a, b",), {"distractors": ["c", "d"]}, 4),
        (("a", "b", "c"), {}, 3),
        (("a, b", "c"), {"distractors": "d"}, 4),
        (("a", '{"b": ["c", "d"]}'), {}, 3),
        (("a, b, c",), {"stuff": "a"}, 3),
    ],
)
def test_a_request_has_so_many_names(
    texts: tuple[Any, ...], fields: dict[str, Any], number: int
) -> None:
    assert words(number, *texts, **fields).names
    with pytest.raises((Problem, MasqclipError)) as refused:
        words(number - 1, *texts, **fields)
    problem = refused.value
    if isinstance(problem, Problem):
        assert problem.status_code == 422
        said = f"holds {number} names; this service takes {number - 1}"
        assert said in str(problem.detail)
    else:
        assert str(number - 1) in str(problem)


@pytest.mark.parametrize("separator", [",", ";", "\n", "\r"])
def test_far_too_many_names_are_refused_by_their_separators(separator: str) -> None:
    """Four times as many and a hundred may stand there, since blank lines are no names."""
    most = 4 * 2 + 100
    with pytest.raises(Problem, match="about 109 names; this service takes 2"):
        words(2, separator * most)
    with pytest.raises(Problem, match="about 109 names"):
        words(2, ["a"] * (most + 1))
    with pytest.raises(Problem, match="about 109 names"):
        words(2, {"a": ["x"] * (most - 1), "b": []})
    with pytest.raises(Problem, match="about 109 names"):
        words(2, "a", stuff=separator * most)
    with pytest.raises(Problem, match="about 109 names"):
        words(2, "a", distractors=separator * most)
    with pytest.raises(Problem, match="about 109 names"):
        words(2, "a", separator * most)
    if separator in "\n\r":
        assert words(2, "a" + separator * (most - 1)).names == ("a",)


def test_no_file_of_this_machine_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("secret")
    for texts in (("names.txt",), ("cat", "names.txt")):
        assert "secret" not in words(9, *texts).names


@pytest.mark.parametrize(
    ("given", "brief"),
    [
        ({"vocabulary": "a" * 1000}, True),
        ({"vocabulary": "a" * 1001}, False),
        ({"vocabulary": "a" * 998, "stuff": "a", "distractors": "a"}, True),
        ({"vocabulary": "a" * 999, "stuff": "a", "distractors": "a"}, False),
        ({"vocabulary": ["a"]}, False),
        ({"vocabulary": "a", "stuff": ["a"]}, False),
        ({"vocabulary": "a", "stuff": []}, True),
    ],
)
def test_a_few_letters_are_brief(given: dict[str, Any], brief: bool) -> None:
    assert SegmentRequest(**given).brief == brief


def test_several_texts_are_not_brief() -> None:
    assert SegmentRequest.from_texts(("a",)).brief
    assert not SegmentRequest.from_texts(("a", "b")).brief
    with pytest.raises(ValidationError, match="vocabulary"):
        SegmentRequest.from_texts(())
    with pytest.raises(ValidationError, match="strange"):
        SegmentRequest.from_texts(("a",), strange=1)


# Forms


def form(*fields: tuple[str, str], picture: bytes = b"file") -> Request:
    """A request with a form."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
    parts.append(b'name="image"; filename="a.png"\r\n\r\n' + picture)
    body = b"".join(b"--x\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
    return request(body + b"--x--\r\n", "Multipart/form-data; boundary=x")


def request(body: bytes, kind: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


def read(*fields: tuple[str, str], picture: bytes = b"file") -> tuple[bytes, SegmentRequest]:
    return asyncio.run(uploads.read_segment_form(form(*fields, picture=picture)))


def test_a_form_has_so_many_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FIELD_CHARACTERS", 20)
    fields = [("vocabulary", "cat"), ("vocabulary", "dog"), ("stuff", "cat")]
    data, wish = read(*fields, ("distractors", "d" * 11))
    assert (data, wish.stuff, wish.distractors) == (b"file", ["cat"], ["d" * 11])
    with pytest.raises(Problem, match="more than 20 letters of names"):
        read(*fields, ("distractors", "d" * 12))
    assert uploads.MAX_ENTRIES == 100_000


def test_a_form_has_so_many_fields_and_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MAX_FIELDS", 3)
    words = [("vocabulary", name) for name in "abc"]
    assert read(*words)[1].words(3).names == ("a", "b", "c")
    with pytest.raises(Problem, match="the form cannot be read"):
        read(*words, ("vocabulary", "d"))
    monkeypatch.setattr(uploads, "_PIECE_BYTES", 7)  # however it is cut
    assert read(*words, picture=b"0123456789" * 9)[0] == b"0123456789" * 9


def test_the_body_itself_may_be_the_picture() -> None:
    for kind in ("image/png", "IMAGE/x; q=1", "application/octet-stream"):
        assert asyncio.run(uploads.read_upload(request(b"file", kind))) == b"file"
    for kind in ("", "text/plain", "application/json"):
        with pytest.raises(Problem) as refused:
            asyncio.run(uploads.read_upload(request(b"file", kind)))
        assert refused.value.status_code == 415
    with pytest.raises(Problem) as refused:
        asyncio.run(uploads.read_segment_form(request(b"file", "image/png")))
    assert refused.value.status_code == 415


@pytest.mark.parametrize("sign", [",", ":", "[", "{"])
def test_json_has_so_many_entries(sign: str) -> None:
    body = f'"{sign * 5}"'.encode()

    async def parsed(body: bytes) -> Any:
        bounded = uploads._BoundedRequest(form().scope, request(body, "").receive)
        bounded.max_entries, bounded.emptied = 5, None
        return await bounded.json()

    assert asyncio.run(parsed(body)) == sign * 5
    with pytest.raises(Problem, match="more than 5 entries"):
        asyncio.run(parsed(f'"{sign * 6}"'.encode()))


# The engine


@asynccontextmanager
async def started(**settings: Any) -> AsyncIterator[Any]:
    """An engine whose model is of straw."""
    text = SimpleNamespace(check=lambda words: None)
    segmenter: Any = SimpleNamespace(encode=lambda images: list(images), text=text)
    made: Any = Engine(segmenter, ServeSettings(**settings), Metrics())
    try:
        yield made
    finally:
        await made.close()


def test_so_many_requests_wait_and_the_next_is_told_when_to_come() -> None:
    async def run() -> None:
        async with started(max_requests=2, max_wait=1e9) as made:
            made._encode_seconds, made._name_seconds = 3.0, 2.0
            async with made.admitted():
                assert made.metrics.pending._value.get() == 1
                async with made.admitted():
                    with pytest.raises(Problem) as refused:
                        async with made.admitted():
                            pass
            assert refused.value.status_code == 429
            assert refused.value.headers == {"Retry-After": "5"}  # half of two times five
            assert refused.value.detail.startswith("2 requests are waiting already")
            assert (made._pending, made.metrics.pending._value.get()) == (0, 0)
        async with started(max_wait=0.5) as made:
            made._encode_seconds, made._name_seconds = 0.25, 0.25
            async with made.admitted(), made.admitted():  # half a second may wait
                with pytest.raises(Problem) as refused:
                    async with made.admitted():
                        pass
            assert refused.value.headers == {"Retry-After": "1"}

    asyncio.run(run())


def test_a_request_has_its_time() -> None:
    async def run() -> None:
        async with started(deadline=0.01) as made:
            with pytest.raises(Problem, match=r"not done within 0\.01 s") as late:
                async with made.admitted():
                    await asyncio.sleep(5)
            assert late.value.status_code == 504

    asyncio.run(run())


def png(height: int, width: int) -> bytes:
    return png_bytes(np.zeros((height, width, 3), np.uint8))


def test_which_pictures_are_decoded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    apart: list[Any] = []

    def decoded(self: Any, data: bytes, decoders: Any) -> Any:
        apart.append(decoders)
        return read_image(data)

    monkeypatch.setattr(Engine, "_read", decoded)
    monkeypatch.setattr(engine, "SLOW_PIXELS", 12)
    small, large = png(3, 4), png(2, 7)

    async def run() -> None:
        async with started() as made:
            assert await made.open(small) == Upload(small)
            assert apart == []
            opened = await made.open(large)
            assert (opened.data, opened.image.width) == (large, 7)
            assert apart == [made._slow_decoder]
            monkeypatch.setattr(engine, "SLOW_BYTES", len(small))
            assert (await made.open(small)).image is None
            monkeypatch.setattr(engine, "SLOW_BYTES", len(small) - 1)
            assert (await made.open(small)).image is not None
            monkeypatch.setattr(engine, "_QUICK_BYTES", 0)  # looked at beside the event loop
            assert (await made.open(small)).image is not None
            made._slow_reads = engine.MAX_SLOW_READS - 1
            assert (await made.open(large)).image is not None
            assert made._slow_reads == engine.MAX_SLOW_READS - 1
            made._slow_reads += 1
            with pytest.raises(Problem) as refused:
                await made.open(large)
            assert refused.value.status_code == 429
            assert refused.value.headers == {"Retry-After": "2"}

    asyncio.run(run())


def test_the_bounds_reach_those_who_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with started(batch_size=3, store_bytes=7, read_seconds=2, max_names=2) as made:
            assert made._batcher._max_batch == 3
            assert made._batcher._on_batch == made.metrics.batch_size.observe
            assert made.store._max_bytes == 7
            assert made._decoders._seconds == made._slow_decoder._seconds == 2
            for names in ("a, b, c", ["a", "b", "c"]):
                with pytest.raises((Problem, MasqclipError), match="2"):
                    await made.read_words(SegmentRequest(vocabulary=names))
            made.settings = ServeSettings(max_pixels=11)
            with pytest.raises(MasqclipError, match="more than the limit of 11"):
                made._read(png(3, 4), made._decoders)

    asyncio.run(run())


# Connections


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Any:
    seen = SimpleNamespace(soft=0, hard=0, asked=[])
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (seen.soft, seen.hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, both: seen.asked.append(both))
    return seen


NEVER = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "found"),
    [
        (NEVER, NEVER, [], (100, 512)),
        (5000, 5000, [], (100, 512)),
        (1252, 5000, [], (100, 156)),
        (1251, NEVER, [(1252, NEVER)], (100, 156)),
        (256, 5000, [(1252, 5000)], (100, 156)),
        (256, 400, [(400, 400)], (100, 50)),
        (256, 256, [(256, 256)], (64, 32)),
        (100, 100, [(100, 100)], (8, 16)),
    ],
)
def test_connections_are_as_many_as_there_are_descriptors_for(
    soft: int, hard: int, asked: list[tuple[int, int]], found: tuple[int, int], limited: Any
) -> None:
    limited.soft, limited.hard = soft, hard
    assert connections.affordable_connections(100) == found
    assert limited.asked == asked
