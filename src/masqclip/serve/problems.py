"""Errors as JSON problems (RFC 9457): every answer that is no success has this one shape.

A `MasqclipError` of the library is a problem of the request (422) unless the code that called it
knows better. What nobody expected is told without its traceback (500), which the server logs
(`security.Observer`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from masqclip.errors import MasqclipError

_TOLD = 5  # findings of one request
MEDIA_TYPE = "application/problem+json"


class Problem(HTTPException):
    """What a request is refused with.

    Args:
        status: the HTTP status.
        detail: what is wrong with this very request, and the remedy.
        headers: that go with the answer, ``Retry-After`` for instance.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))

    def response(self) -> Response:
        """The problem as an answer."""
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
        }
        # In ASCII: what is repeated of a request may hold what UTF-8 has no bytes for.
        return Response(
            json.dumps(document),
            self.status_code,
            headers=dict(self.headers or {}),
            media_type=MEDIA_TYPE,
        )


def install(app: FastAPI) -> None:
    """Let an app answer every error with a problem."""

    async def problem(request: Request, error: Exception) -> Response:
        return _as_problem(error).response()

    # What nobody expected is answered by `security.Observer`, with the headers of all answers.
    for kind in (MasqclipError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, problem)


def _as_problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, MasqclipError):
        return Problem(422, str(error))
    if isinstance(error, RequestValidationError):
        return Problem(422, findings(error.errors()))
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, str(error.detail), error.headers)


def findings(entries: Sequence[Any]) -> str:
    """What pydantic found, the first few, on one line."""
    told = dict.fromkeys(map(_told, entries[:_TOLD]))
    more = len(entries) - _TOLD
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _told(entry: Any) -> str:
    """One finding of pydantic's as "where: what"; what was sent is not repeated."""
    where = ".".join(str(part) for part in entry["loc"] if part not in ("body", "query", "path"))
    return f"{where}: {entry['msg']}" if where else str(entry["msg"])
