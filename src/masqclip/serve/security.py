"""What stands before every route: the size of bodies, the token, headers, the log's one line.

Plain ASGI middleware: bodies are counted while they come in, so that nobody can send more than is
let in, whatever length they announce.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from masqclip.serve.metrics import Metrics
from masqclip.serve.problems import Problem

logger = logging.getLogger("masqclip.serve")

# The page's own files and nothing else; pictures may come from the page itself as well.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Whoever asks whether the service lives, or opens the page to enter a token, has none to send.
_OPEN_PATHS = ("/", "/healthz", "/readyz", "/health")


class BodyLimit:
    """Refuses bodies of more than so many bytes, as soon as they are too long."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._problem().response()(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._problem()
            return message

        await self._app(scope, counted, send)

    def _problem(self) -> Problem:
        limit = self._max_bytes / 1e6
        detail = f"the body is larger than {limit:g} MB: send a smaller picture"
        return Problem(413, detail, {"Connection": "close"})


class TokenCheck:
    """Lets in who knows the token: as bearer, as Basic's password, or in X-AnyLabeling's header."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or self._is_open(scope) or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        problem = Problem(
            401, "this service needs a token: send it as Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
        await problem.response()(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        # A browser asks before it sends a header to another origin; the CORS rules answer that.
        return path in _OPEN_PATHS or path.startswith("/static/") or scope["method"] == "OPTIONS"

    def _knows(self, headers: Headers) -> bool:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else headers.get("token", "")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(value).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        return hmac.compare_digest(given.encode(), self._token)


class Observer:
    """Adds the security headers, counts and times answers, and logs sizes and timings only."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, received, sent = time.perf_counter(), 500, 0, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def observed(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted, observed)
        finally:
            # The route's pattern, not the path: an identifier stands for somebody's picture.
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            logger.info(
                "%s %s %d, %d bytes in, %d out, %.0f ms",
                scope["method"], route, status, received, sent, 1000 * seconds,
            )  # fmt: skip
