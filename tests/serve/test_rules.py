"""The service's rules by themselves: bounds, names it is known by, tokens, answers, the store."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
import torch

from masqclip.clip.masked_vision import ImageTokens
from masqclip.data.images import LoadedImage
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.serve.answers import wanted
from masqclip.serve.labels import asked_labels
from masqclip.serve.problems import Problem, findings
from masqclip.serve.security import OriginCheck, TokenCheck
from masqclip.serve.settings import ServeSettings
from masqclip.serve.store import IDENTIFIERS_OF_A_FILE, ImageStore

COUNTS = (
    "max_requests", "batch_size", "max_upload_bytes", "max_text_bytes", "buffer_bytes",
    "min_rate", "max_connections", "max_pixels", "read_seconds", "max_names",
    "max_vocabularies", "max_examples",
)  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_a_bound_is_one_or_more(name: str) -> None:
    assert getattr(ServeSettings(**{name: 1}), name) == 1
    with pytest.raises(MasqclipError, match=f"--{name.replace('_', '-')} 0: give 1 or more"):
        ServeSettings(**{name: 0})


def test_times_are_more_than_nothing_and_a_store_may_be() -> None:
    for name in ("deadline", "max_wait", "vocabulary_seconds"):
        assert getattr(ServeSettings(**{name: 0.001}), name) == 0.001
        with pytest.raises(MasqclipError, match="give seconds, more than 0"):
            ServeSettings(**{name: 0.0})
    for name in ("store_bytes", "vocabulary_bytes"):
        assert getattr(ServeSettings(**{name: 0}), name) == 0
        flag = name.replace("_", "-")
        with pytest.raises(MasqclipError, match=f"--{flag} -1: give 0 or more"):
            ServeSettings(**{name: -1})


@pytest.mark.parametrize("name", ["token", "label_studio_token"])
def test_a_token_is_what_a_header_can_hold(name: str) -> None:
    assert getattr(ServeSettings(**{name: "a b~!"}), name) == "a b~!"
    for bad in ("\u00e4", "a\n", "\x7f", "\t"):
        with pytest.raises(MasqclipError, match=f"--{name.replace('_', '-')}: give letters"):
            ServeSettings(**{name: bad})


def test_a_label_studio_is_an_address() -> None:
    for url in ("", "http://host", "https://host"):
        assert ServeSettings(label_studio_url=url).label_studio_url == url
    for url in ("host", "ftp://host", "http:/host"):
        with pytest.raises(MasqclipError, match="--label-studio-url"):
            ServeSettings(label_studio_url=url)


# Who may ask


async def passed(check: Any, **headers: str) -> int:
    """The status of an answer, 200 where the app was asked."""
    found: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    method, path = headers.pop("method", "GET"), headers.pop("path", "/v1/segment")
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": pairs}
    await check(scope, None, send)
    return found[0] if found else 200


async def answered(scope: Any, receive: Any, send: Any) -> None:
    """An app that lets everything in."""


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True), ("LOCALHOST:8000", True), ("127.0.0.1:80", True), ("[::1]:80", True),
        ("10.1.2.3", True), ("name.org", True), ("Name.ORG:8000", True), ("other.org", False),
        ("name.org.evil", False), ("127.0.0.1.evil", False), ("", False), ("[::1", False),
    ],
)  # fmt: skip
def test_the_service_is_known_by_its_names_and_by_figures(host: str, known: bool) -> None:
    check = OriginCheck(answered, hosts=["Name.org"], origins=[])
    assert asyncio.run(passed(check, host=host)) == (200 if known else 421)
    everybody = OriginCheck(answered, hosts=["*"], origins=[])
    assert asyncio.run(passed(everybody, host=host)) == 200


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://localhost:80", True), ("https://localhost:80", True),
        ("HTTP://Localhost:80", True),
        ("http://localhost", False), ("http://localhost:81", False), ("ftp://localhost:80", False),
        ("null", False), ("https://page.org", True), ("http://page.org", False),
        ("https://page.org.evil", False),
    ],
)  # fmt: skip
def test_pages_of_this_origin_and_of_those_named_are_let_in(origin: str, let_in: bool) -> None:
    check = OriginCheck(answered, hosts=[], origins=["https://Page.org/"])
    assert asyncio.run(passed(check, host="localhost:80", origin=origin)) == (
        200 if let_in else 403
    )
    everybody = OriginCheck(answered, hosts=[], origins=["*"])
    assert asyncio.run(passed(everybody, host="localhost:80", origin=origin)) == 200


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer secret"}, 200),
        ({"authorization": "bearer  secret "}, 200),
        ({"authorization": "Bearer secrets"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "secret"}, 401),
        ({"authorization": basic("anybody:secret")}, 200),
        ({"authorization": basic(":secret")}, 200),
        ({"authorization": basic("secret:")}, 401),
        ({"authorization": basic("secret")}, 401),
        ({"authorization": "Basic ?"}, 401),
        ({"authorization": "Basic ?", "token": "secret"}, 401),
        ({"token": "secret"}, 200),
        ({"token": "Secret"}, 401),
        ({"authorization": "Bearer no", "token": "secret"}, 401),
        ({"path": "/"}, 200),
        ({"path": "/healthz"}, 200),
        ({"path": "/readyz"}, 200),
        ({"path": "/health"}, 200),
        ({"path": "/static/page.js"}, 200),
        ({"path": "/statics"}, 401),
        ({"path": "/metrics"}, 401),
        ({"method": "OPTIONS"}, 200),
        ({"method": "HEAD"}, 401),
    ],
)
def test_who_knows_the_token_is_let_in(headers: dict[str, str], status: int) -> None:
    check = TokenCheck(answered, token="secret")
    assert asyncio.run(passed(check, **headers)) == status


# Answers


@pytest.mark.parametrize(
    ("accept", "task", "kind"),
    [
        ("", "panoptic", "json"), ("*/*", "panoptic", "json"),
        ("application/*", "panoptic", "json"),
        ("text/html, application/json", "panoptic", "json"),
        ("image/png", "instance", "overlay"), ("IMAGE/*;q=0.5", "panoptic", "overlay"),
        ("image/png, application/json", "panoptic", "overlay"),
        (" image/png ;q=1 , text/html", "panoptic", "overlay"),
        ('image/png; profile="panoptic"', "panoptic", "ids"),
        ("image/png;q=1;profile=panoptic", "semantic", "ids"),
        ('image/png;profile="other", application/json', "panoptic", "json"),
    ],
)  # fmt: skip
def test_the_first_type_that_is_known_is_taken(accept: str, task: str, kind: str) -> None:
    media, make = wanted(accept, task)
    assert media == ("application/json" if kind == "json" else "image/png")
    assert kind in make.__name__


@pytest.mark.parametrize(
    ("accept", "task"),
    [
        ("text/html", "panoptic"),
        ("image/jpeg", "panoptic"),
        ("image/png;profile=panoptic", "instance"),
        ("image/png;profile=other", "panoptic"),
    ],
)
def test_what_is_not_made_here_is_refused(accept: str, task: str) -> None:
    with pytest.raises(Problem) as refused:
        wanted(accept, task)
    assert refused.value.status_code == 406


def test_five_findings_are_told_and_the_others_counted() -> None:
    entries = [{"loc": ("body", "a", n), "msg": "bad"} for n in range(7)]
    told = [f"a.{n}: bad" for n in range(7)]
    assert findings(entries[:5]) == "; ".join(told[:5])
    assert findings(entries[:6]) == "; ".join(told[:5]) + "; and 1 more"
    assert findings(entries) == "; ".join(told[:5]) + "; and 2 more"
    assert findings([entries[0]] * 3) == "a.0: bad"
    assert findings([{"loc": ("query",), "msg": "bad"}]) == "bad"


def test_labels_are_asked_once_and_the_background_never() -> None:
    written = ["Sand", " ", "sand", "stuff: sand", "yellow  sand", "background", "", "sea"]
    assert asked_labels(written, what="a label") == ("Sand", "yellow  sand", "sea")


# The store


def encoded(side: int = 2) -> EncodedImage:
    return EncodedImage(
        image=LoadedImage(np.zeros((side, side, 3), np.uint8), (), "a"),
        mask_logits=torch.zeros(1, 2, 2),
        object_logits=torch.zeros(1, 2),
        mask_embeddings=torch.zeros(1, 3),
        tokens=ImageTokens((torch.zeros(1),), (torch.zeros(1),)),
        frame_size=(2, 2),
        resized=(2, 2),
    )


SIZE = 2 * 2 * 3 + 4 * (4 + 2 + 3)


def test_a_store_holds_so_many_bytes_and_lets_the_least_used_go() -> None:
    store = ImageStore(2 * SIZE)
    first, second = store.put(b"1", encoded()), store.put(b"2", encoded())
    assert (len(store), store.bytes) == (2, 2 * SIZE)  # exactly full
    assert store.get(first) is not None  # the second is the least recently used now
    third = store.put(b"3", encoded())
    assert (len(store), store.bytes) == (2, 2 * SIZE)
    assert [store.get(i) is not None for i in (first, second, third)] == [True, False, True]
    assert store.find(b"2") is None
    assert store.find(b"3") is not None


def test_a_picture_that_is_too_large_stays_until_the_next_comes() -> None:
    store = ImageStore(SIZE)
    large = store.put(b"1", encoded(20))
    assert store.get(large) is not None
    small = store.put(b"2", encoded())
    assert store.get(large) is None
    assert store.get(small) is not None
    assert store.bytes == SIZE


def test_a_file_is_kept_once_and_leaves_with_its_last_identifier() -> None:
    store = ImageStore(10 * SIZE)
    one, two = store.put(b"1", encoded()), store.put(b"1", encoded())
    assert one != two
    assert (len(store), store.bytes) == (1, SIZE)
    assert store.get(one) is store.get(two)
    assert store.remove(one)
    assert store.get(one) is None
    assert store.get(two) is not None
    assert not store.remove(one)
    assert store.remove(two)
    assert (len(store), store.bytes, store.find(b"1")) == (0, 0, None)


def test_a_file_has_so_many_identifiers_and_the_oldest_leave() -> None:
    store = ImageStore(10 * SIZE)
    identifiers = [store.put(b"1", encoded()) for _ in range(IDENTIFIERS_OF_A_FILE + 1)]
    assert store.get(identifiers[0]) is None
    assert all(store.get(i) is not None for i in identifiers[1:])
    assert (len(store), store.bytes) == (1, SIZE)


def test_what_is_kept_is_in_memory_of_its_own() -> None:
    store, given = ImageStore(10 * SIZE), encoded()
    kept = store.get(store.put(b"1", given))
    assert kept is not None
    for name in ("mask_logits", "object_logits", "mask_embeddings"):
        ours, theirs = getattr(kept, name), getattr(given, name)
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
    assert kept.tokens == ImageTokens((), ())
