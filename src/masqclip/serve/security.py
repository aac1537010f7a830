"""What stands before every route: who may ask, from which page, by which name; headers; the log.

Plain ASGI middleware.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import logging
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
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
#: Of every answer, errors included.
SECURITY_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Whoever asks whether the service lives, or opens a page to enter a token, has none to send.
OPEN_PATHS = ("/", "/docs", "/healthz", "/readyz", "/health")
#: In the scope of a request whose client hung up before its body was there.
GONE = "masqclip.gone"
#: What cannot be read is refused at this pace, by its bytes: a refusal costs its sender as long as
#: it costs the service, and one connection cannot keep it busy.
REFUSED_BYTES_A_SECOND = 8_000_000
MIN_HELD_SECONDS, MAX_HELD_SECONDS = 0.1, 2.0
CLIENT_CLOSED = 499  # for the log and the metrics: nobody is there to be answered


class OriginCheck:
    """Refuses what a browser was made to send by another site.

    A page anywhere may post to a service on the visitor's own machine, or reach it by a name of its
    own that it lets point there (DNS rebinding). A browser tells of both: ``Origin`` names the
    page, ``Host`` the name that was asked for. An address in figures cannot be rebound and is let
    in.

    Args:
        app: what comes next.
        hosts: names that the service is known by; ``*`` lets in any.
        origins: pages of other origins that may ask.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts} | {"localhost"}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            if not self._knows(host):
                problem = Problem(
                    421, "the service is not known by this name: start it with --allowed-host"
                )
                await problem.response()(scope, receive, send)
                return
            origin = headers.get("origin", "").lower()
            if origin and not self._lets_in(origin, host):
                problem = Problem(
                    403, "pages of other origins are not let in: start with --cors-origin"
                )
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        name = _hostname(host)
        if "*" in self._hosts or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _lets_in(self, origin: str, host: str) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        scheme, _, address = origin.partition("://")
        return scheme in ("http", "https") and address == host


def _hostname(host: str) -> str:
    """The name in a Host header, without the port and brackets; empty if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


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
        return path in OPEN_PATHS or path.startswith("/static/") or scope["method"] == "OPTIONS"

    def _knows(self, headers: Headers) -> bool:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else headers.get("token", "")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(value).decode().partition(":")[2]
            except ValueError:  # no base64, letters that no base64 has, or no UTF-8
                given = ""
        return hmac.compare_digest(given.encode(), self._token)


class Observer:
    """Adds the security headers, answers what nobody expected, counts, times and logs."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, received, sent = time.perf_counter(), 0, 0, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def observed(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                if status in (400, 422):  # nobody who sends such bytes for ever is in a hurry
                    held = MIN_HELD_SECONDS + received / REFUSED_BYTES_A_SECOND
                    await asyncio.sleep(min(MAX_HELD_SECONDS, held))
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted, observed)
        except ClientDisconnect:
            status = status or CLIENT_CLOSED
        except Exception:
            # The message may hold what a user sent; the place of the fault does not.
            logger.exception("a defect, please report it")
            if status:  # half an answer is out
                raise
            answer = Problem(500, "the service failed on this request; its log says more")
            await answer.response()(scope, counted, observed)
        finally:
            if scope.get(GONE):  # whatever was made of that, nobody was told
                status = CLIENT_CLOSED
            # The route's pattern, not the path: an identifier stands for somebody's picture.
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(route, str(status or CLIENT_CLOSED)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            logger.info(
                "%s %s %d, %d bytes in, %d out, %.0f ms",
                scope["method"], route, status or CLIENT_CLOSED, received, sent, 1000 * seconds,
            )  # fmt: skip
