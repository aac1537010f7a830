"""Pictures that come in requests: as the body itself, or as a part of a form. Memory only.

Starlette spools large parts of a form to a temporary file; nothing of a user's may touch the disk,
so forms are read here, with room in memory for all that the bound on bodies lets in. What takes
time in proportion to a body (forms, JSON, base64, names) is done beside the event loop: a request
of millions of entries must not silence the others.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from masqclip.clip.name_lists import split_names
from masqclip.serve.names_request import NAMES_HELP
from masqclip.serve.problems import Problem, findings
from masqclip.serve.schemas import SegmentRequest

IMAGE_FIELD = "image"
#: Commas, colons and brackets of a JSON body; two thousand names with synonyms have far fewer.
MAX_ENTRIES = 100_000
#: Of all fields of a form together, the picture apart.
MAX_FIELD_CHARACTERS = 1_000_000
_PIECE_BYTES = 1 << 20
_MAX_FIELDS = 2_050  # a name in each is one way to send many
_LISTS = ("stuff", "things", "distractors")
_STANDARD = bytes.maketrans(b"-_", b"+/")  # from the alphabet of base64 that addresses use

_BINARY = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
_FIELDS: dict[str, Any] = {
    IMAGE_FIELD: {**_BINARY, "description": "The picture's file."},
    "vocabulary": {
        "type": "string",
        "description": f"{NAMES_HELP} The field may be repeated: all of its names are looked for.",
        "examples": ["rocket, tulip"],
    },
    "task": {"type": "string", "enum": ["instance", "semantic", "panoptic"]},
    "min_score": {"type": "number", "minimum": 0, "maximum": 1},
    "join": {"type": "string", "description": "A vocabulary that is put to it."},
    "stuff": {"type": "string", "description": "Regions among the names, between commas."},
    "things": {"type": "string", "description": "What is counted, between commas."},
    "distractors": {"type": "string", "description": "Competing names, between commas."},
}


def _form(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"multipart/form-data": {"schema": schema}}


UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **_form({IMAGE_FIELD: _FIELDS[IMAGE_FIELD]}, [IMAGE_FIELD]),
            "application/octet-stream": {"schema": _BINARY},
            "image/*": {"schema": _BINARY},
        },
    }
}
SEGMENT_FORM = {
    "requestBody": {"required": True, "content": _form(_FIELDS, [IMAGE_FIELD, "vocabulary"])}
}


class _MemoryParser(MultiPartParser):
    """A form's parser that keeps files in memory whatever their size."""

    spool_max_size = 1 << 62


class BoundedRoute(APIRoute):
    """A route whose JSON is parsed beside the event loop, if it has no more entries than that.

    Attributes:
        max_entries: of a body.
        emptied: what is cut out of a body before its entries are counted, and what is left of it.
    """

    max_entries: ClassVar[int] = MAX_ENTRIES
    emptied: ClassVar[tuple[re.Pattern[bytes], bytes] | None] = None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI asks for it."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            bounded = _BoundedRequest(request.scope, request.receive)
            bounded.max_entries, bounded.emptied = self.max_entries, self.emptied
            return await handler(bounded)

        return handle


class _BoundedRequest(Request):
    max_entries: int
    emptied: tuple[re.Pattern[bytes], bytes] | None

    async def json(self) -> Any:
        body, most = await self.body(), self.max_entries
        if self.emptied is not None:
            pattern, left = self.emptied
            body = await run_in_threadpool(pattern.sub, left, body)
        # Strings may be long, a picture in base64 for one. It is entries that cost.
        if sum(map(body.count, (b",", b":", b"[", b"{"))) > most:
            raise Problem(422, f"the body has more than {most:,} entries: send less at once")
        try:
            return await run_in_threadpool(json.loads, body)
        except RecursionError:
            raise Problem(422, "the body is nested too deeply") from None


async def read_upload(request: Request) -> bytes:
    """The picture's file of a request: its body, or the form's part ``image``."""
    if _is_form(request):
        return (await _read_form(request))[0]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        raise Problem(
            415, "send a form with a file 'image', or the file itself as image/* or octet-stream"
        )
    return await request.body()


async def read_segment_form(request: Request) -> tuple[bytes, SegmentRequest]:
    """The picture and the wishes of a one-shot request's form."""
    if not _is_form(request):
        raise Problem(415, "send a form (multipart/form-data) with 'image' and 'vocabulary'")
    data, fields = await _read_form(request)
    if sum(len(value) for values in fields.values() for value in values) > MAX_FIELD_CHARACTERS:
        raise Problem(422, f"the form holds more than {MAX_FIELD_CHARACTERS:,} letters of names")
    texts = tuple(fields.pop("vocabulary", ()))
    single: dict[str, object] = {}
    for name, values in fields.items():
        if name in _LISTS:
            single[name] = await run_in_threadpool(_joined, name, values)
        elif len(set(values)) > 1:
            raise Problem(422, f"{name}: the form holds it {len(values)} times: send it once")
        else:
            single[name] = values[0]
    try:
        return data, SegmentRequest.from_texts(_filled(texts), **single)
    except ValidationError as error:
        raise Problem(422, findings(error.errors())) from error


def _joined(name: str, values: list[str]) -> list[str]:
    """The names of all values of a field."""
    return [part for value in values for part in split_names(value, what=f"the {name}")]


def _filled(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts that hold anything; where none does the first, for it to be refused."""
    return tuple(text for text in texts if text.strip()) or texts[:1]


def from_data_uri(text: str) -> bytes:
    """The file in a ``data:`` address, or in bare base64.

    Both alphabets of base64 are read, with line breaks and without padding.

    Raises:
        Problem: 422, it is neither.
    """
    head, comma, body = text.partition(",")
    if comma and not re.fullmatch(r"\s*data:.*;\s*base64\s*", head, re.IGNORECASE | re.DOTALL):
        raise Problem(422, "the picture is no base64 data: address")
    try:
        code = (
            unquote_to_bytes(body if comma else text)
            .translate(_STANDARD, b" \t\r\n\f\v")
            .rstrip(b"=")
        )
        return base64.b64decode(code + b"=" * (-len(code) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "the picture's base64 is broken") from error


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def _read_form(request: Request) -> tuple[bytes, dict[str, list[str]]]:
    return await run_in_threadpool(_parse_form, request.headers, await request.body())


def _parse_form(headers: Headers, body: bytes) -> tuple[bytes, dict[str, list[str]]]:
    # A part of a form without a file name is a field; 1 MB of names is enough.
    parser = _MemoryParser(headers, _pieces(body), max_files=1, max_fields=_MAX_FIELDS)
    try:
        form = _result(parser.parse())
    except (MultiPartException, KeyError, ValueError) as error:
        raise Problem(400, f"the form cannot be read: {error}") from error
    picture = form.get(IMAGE_FIELD)
    if not isinstance(picture, UploadFile):
        raise Problem(422, f"{IMAGE_FIELD}: the form has no file of that name")
    content = picture.file.read()
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if name != IMAGE_FIELD and isinstance(value, str):
            fields.setdefault(name, []).append(value)
    return content, fields


def _result(parsing: Coroutine[Any, Any, FormData]) -> FormData:
    """The end of a coroutine that waits for nothing, since all of its input is in memory.

    An event loop of its own would take longer than a small form.
    """
    try:
        parsing.send(None)
    except StopIteration as end:
        form: FormData = end.value
        return form
    raise RuntimeError("a form in memory was waited for")


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(body), _PIECE_BYTES):
        yield body[at : at + _PIECE_BYTES]
