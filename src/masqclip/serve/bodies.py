"""Bodies of requests while they come in: how large, how slow, and how many bytes of all together.

Whoever sends slowly, or starts many bodies and ends none, must not keep others out. So a body has a
least rate from its first byte on; all bodies together have a bound on their bytes, and when it is
reached the largest unfinished one is given up, which is never that of somebody who sends an
ordinary picture in an ordinary time; and of too many unfinished bodies the slowest is given up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from masqclip.serve.problems import Problem
from masqclip.serve.security import GONE
from masqclip.serve.settings import ServeSettings

#: Seconds in which a body may come slower than its least rate.
GRACE_SECONDS = 5.0
# Routes whose bodies hold pictures, or what people drew on them; all others hold names.
_PICTURE_PATHS = ("/v1/images", "/v1/segment", "/v1/predict", "/predict", "/webhook")
_EXAMPLES_PATH = "/v1/vocabularies"  # and those of one of them
_CLOSE = {"Connection": "close"}  # what is still to come is not wanted


@dataclass(eq=False)
class _Body:
    """One body that is not all there."""

    limit: int
    started: float
    timeout: asyncio.Timeout | None = None
    received: int = 0
    given_up: str = ""

    def due(self, rate: int) -> float:
        """When the next bytes must be there at the latest."""
        return self.started + GRACE_SECONDS + self.received / rate


class BodyLimit:
    """Middleware through which all bodies come.

    Args:
        app: what comes next.
        settings: the bounds.
    """

    def __init__(self, app: ASGIApp, *, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings
        self._unfinished: set[_Body] = set()
        self.held = 0  # bytes of bodies whose requests are not answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        pictures = scope["path"] in _PICTURE_PATHS or scope["path"].startswith(_EXAMPLES_PATH)
        settings = self._settings
        limit = settings.max_upload_bytes if pictures else settings.max_text_bytes
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
            await _too_large(limit).response()(scope, receive, send)
            return
        body = _Body(limit, asyncio.get_running_loop().time())
        complete = False

        async def bounded() -> Message:
            nonlocal complete
            if complete:  # the application listens for the client's hanging up
                return await receive()
            message = await self._next(body, scope, receive)
            if not message.get("more_body", False):
                complete = True
                self._unfinished.discard(body)
            return message

        try:
            await self._app(scope, bounded, send)
        finally:
            self._unfinished.discard(body)
            if not body.given_up:
                self.held -= body.received

    async def _next(self, body: _Body, scope: Scope, receive: Receive) -> Message:
        if not body.given_up:
            self._unfinished.add(body)
        if len(self._unfinished) > self._settings.max_connections // 2:
            slowest = min(self._unfinished, key=lambda other: other.due(self._settings.min_rate))
            self._give_up(slowest, "too many others are sending: send it again")
        try:
            async with asyncio.timeout_at(body.due(self._settings.min_rate)) as body.timeout:
                message = await receive()
        except TimeoutError:
            if body.given_up:
                raise Problem(429, body.given_up, {"Retry-After": "1", **_CLOSE}) from None
            raise Problem(408, "the body comes too slowly: send it again", _CLOSE) from None
        finally:
            body.timeout = None
        if message["type"] == "http.disconnect":
            scope[GONE] = True
            raise ClientDisconnect
        self._take(body, len(message.get("body", b"")))
        return message

    def _take(self, body: _Body, size: int) -> None:
        if body.given_up:  # since these bytes were on their way
            raise Problem(429, body.given_up, {"Retry-After": "1", **_CLOSE})
        body.received += size
        self.held += size
        if body.received > body.limit:
            raise _too_large(body.limit)
        if self.held > self._settings.buffer_bytes:
            largest = max(self._unfinished, key=lambda other: other.received)
            reason = "too many bytes are on their way: try again in a moment"
            if largest is body:
                raise Problem(429, reason, {"Retry-After": "1", **_CLOSE})
            self._give_up(largest, reason)

    def _give_up(self, body: _Body, reason: str) -> None:
        """Let go of a body, whose bytes count no longer, and of whoever waits for its rest."""
        body.given_up = reason
        self._unfinished.discard(body)
        self.held -= body.received
        if body.timeout is not None:
            body.timeout.reschedule(asyncio.get_running_loop().time())


def _too_large(limit: int) -> Problem:
    detail = f"the body is larger than {limit / 1e6:g} MB: send a smaller picture, or fewer names"
    return Problem(413, detail, _CLOSE)
