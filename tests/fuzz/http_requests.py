"""Requests that no client of ours would send: odd paths, headers, bodies, forms and documents.

Everything follows from a seed, so a case that fails can be made again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PATHS = (
    "/", "/v1/images", "/v1/images/{id}", "/v1/images/{id}/segment", "/v1/segment", "/v1/models",
    "/v1/vocabularies", "/v1/vocabularies/v-{id}", "/v1/vocabularies/v-{id}/file",
    "/v1/images/{id}/mask", "/v1/predict", "/predict", "/setup", "/health", "/healthz", "/readyz",
    "/metrics", "/static/main.js", "/static/../app.py", "/static/%2e%2e/app.py", "/static/%00",
    "/openapi.json", "//", "/v1/images/%ff", "/v1/images/" + "a" * 5000, "/v1/segment?a=%00&b",
)  # fmt: skip
METHODS = ("GET", "POST", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH")
TEXTS = (
    "", "car", "car, stuff: sand", "\0", "\ud800", "é\u202e\u200b", "a" * 3000, "stuff:", ",,,",
    "background", "coco-panoptic", "/etc/passwd", "names.txt", "car\n= ;;\n#", "{}", "[[]]",
    "stickers", "${7*7}", "<script>alert(1)</script>", "car. tire.", "1e400", "-0", "nan",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 0.5, 1e308, 10**40, "", [], {}, [None], {"a": None}, [[["a"]]], {"": [""]},
    ["car", "car"], {"car": ["taxi", 3]}, ["stuff: "], list(range(50)),
)  # fmt: skip


@dataclass
class Case:
    """One request."""

    name: str
    method: str
    path: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


def cases(seed: int, number: int, *, picture: bytes, identifier: str) -> Iterator[Case]:
    """Requests to a service.

    Args:
        seed: of everything.
        number: of requests.
        picture: a file that the service reads.
        identifier: of a picture that it keeps.
    """
    for index in range(number):
        random = np.random.default_rng((seed, index))
        path = str(_one(PATHS, random)).replace("{id}", identifier)
        case = Case(f"{index:05d}", str(_one(METHODS, random)), path)
        make = _one((_form, _document, _tool, _raw), random)
        kind, case.body = make(random, picture)
        case.headers = [(b"Content-Type", kind), *_headers(random)]
        yield case


def _one(choices: Any, random: np.random.Generator) -> Any:
    return choices[int(random.integers(len(choices)))]


def _text(random: np.random.Generator) -> str:
    if random.integers(3):
        return str(_one(TEXTS, random))
    return "".join(chr(int(c)) for c in random.integers(1, 0x3000, int(random.integers(1, 60))))


def _value(random: np.random.Generator) -> Any:
    return _text(random) if random.integers(2) else _one(VALUES, random)


def _headers(random: np.random.Generator) -> list[tuple[bytes, bytes]]:
    choices = (
        (b"Accept", _one((b"image/png", b"*/*;q=x", b";;,", b"image/png; profile"), random)),
        (b"Authorization", _one((b"Basic \xff", b"Basic =", b"Bearer", b"Bearer \xe9"), random)),
        (b"Origin", _one((b"null", b"https://evil.example", b"http://127.0.0.1"), random)),
        (b"Host", _one((b"evil.example", b"[", b"localhost:99999999", b"127.0.0.1"), random)),
        (b"Range", b"bytes=0-1,5-9999999999"),
        (b"Token", b"\xff\xfe"),
        (b"Content-Encoding", b"gzip"),
        (b"X-Forwarded-For", b"1.2.3.4"),
    )  # fmt: skip
    return [choices[int(i)] for i in random.integers(0, len(choices), int(random.integers(0, 3)))]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _file(random: np.random.Generator, picture: bytes) -> bytes:
    return bytes(_one((picture, b"", picture[:40], random.bytes(200), b"\xff\xd8\xff"), random))


def _form(random: np.random.Generator, picture: bytes) -> tuple[bytes, bytes]:
    edge = bytes(_one((b"edge", b"", b"e" * 200, b"\xff", b'"quoted"'), random))
    parts = []
    for name in ("image", "vocabulary", "task", "min_score", "stuff", "distractors", "other"):
        if not random.integers(4):
            continue
        file = b'; filename="\xff"' if name == "image" and random.integers(3) else b""
        value = _file(random, picture) if file else _bytes(str(_value(random)))
        parts.append(
            b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            % (edge, name.encode(), file, value)
        )
    if not random.integers(5):
        parts = [b"".join(parts)[: int(random.integers(1, 300))]]
    return b"multipart/form-data; boundary=" + edge, b"".join(parts) + b"--" + edge + b"--\r\n"


def _document(random: np.random.Generator, picture: bytes) -> tuple[bytes, bytes]:
    names = ("vocabulary", "task", "min_score", "stuff", "distractors", "extra")
    document = {name: _value(random) for name in names if random.integers(2)}
    return b"application/json", _json(document, random)


def _tool(random: np.random.Generator, picture: bytes) -> tuple[bytes, bytes]:
    """What annotation tools send, more or less."""
    data = "data:image/png;base64," + base64.b64encode(_file(random, picture)).decode()
    address = _one((data, "http://[", "//host/x", "data:,", "/data/x.png", _text(random)), random)
    config = (
        f'<View><Image name="i" value="$image"/><{_one(("BrushLabels", "PolygonLabels"), random)} '
        f'name="l" toName="{_one(("i", "j"), random)}"><Label value="car"/></View>'
    )
    if random.integers(3):
        config = config.replace("</View>", "</BrushLabels></View>")
    document: dict[str, Any] = {
        "tasks": [{"data": {"image": address}}, *([_value(random)] * int(random.integers(2)))],
        "label_config": _one((config, "<!DOCTYPE a>", "<a" * 2000, _text(random)), random),
        "image": address,
        "model": _value(random),
        "params": _one(
            ({"text_prompt": _text(random)}, {"current_task": 3}, {"epsilon_factor": 2}, []), random
        ),
    }
    return b"application/json", _json(document, random)


def _json(document: Any, random: np.random.Generator) -> bytes:
    text = json.dumps(document).encode()
    kind = int(random.integers(6))
    if kind == 0:
        return text[: int(random.integers(0, len(text) + 1))]
    if kind == 1:
        return b"[" * int(random.integers(1, 200_000))
    if kind == 2:
        return text.replace(b"{", b'{"a": NaN, ', 1)
    return text


def _raw(random: np.random.Generator, picture: bytes) -> tuple[bytes, bytes]:
    kinds = (b"image/png", b"application/octet-stream", b"text/plain", b"", b"\xff", b"image/")
    return bytes(_one(kinds, random)), _file(random, picture)
