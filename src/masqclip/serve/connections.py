"""Connections of strangers: how many, and how long each may keep the service waiting.

uvicorn bounds neither. A connection that sends half of a header, or reads its answer byte by byte,
is held for ever there, and the process runs out of descriptors. Here a connection has so many
seconds for a request's head and for taking an answer, and there are so many of them at most: for a
new one beyond that, the one that has kept the service waiting the longest is closed, so that
whoever opens a thousand and says nothing drives out his own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from masqclip.serve.problems import Problem
from masqclip.serve.security import SECURITY_HEADERS

if sys.platform != "win32":
    import resource

#: Seconds in which the head of a request must be there, and in which an answer must be taken.
HEAD_SECONDS = 10.0
WRITE_SECONDS = 30.0
#: Seconds in which nobody need have said anything: a burst must not drive out who came within it.
QUIET_SECONDS = 0.25
#: Connections that may wait to be accepted, and are accepted in one go, before any can be closed.
#: Where few may wait, a burst of others lets an honest one try again only after a second.
BACKLOG = 512
# Descriptors for everything else: files, pipes to readers, the listening socket.
_RESERVED = 128


def affordable_connections(wanted: int) -> tuple[int, int]:
    """How many connections this process can have, and how many may wait to be accepted.

    The process first gets the descriptors that it may get: for its connections, as many as may
    wait beyond those for a moment, and as many that are accepted before any is closed.
    """
    limit = _descriptors(wanted + 2 * BACKLOG + _RESERVED)
    if limit is None:
        return wanted, BACKLOG
    backlog = min(BACKLOG, max(16, limit // 8))
    return max(8, min(wanted, limit - 2 * backlog - _RESERVED)), backlog


def _descriptors(enough: int) -> int | None:
    """How many descriptors this process may have, after it asked for enough; None: any number."""
    limit: int | None = None
    if sys.platform != "win32":  # there sockets are none
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < enough:
            more = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
            with contextlib.suppress(
                ValueError, OSError
            ):  # macOS has a limit that it does not tell
                resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
                soft = more
        limit = None if soft == resource.RLIM_INFINITY else soft
    return limit


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with bounds. `bounded_protocol` gives one with a number of its own."""

    most, spare = 512, BACKLOG
    #: Connections without a request in work, the one that has waited the longest first; true for
    #: those that have had one answered, which is better manners than to have said nothing.
    waiting: dict[BoundedProtocol, bool]
    #: Those that are closed here, and of which the event loop has not said so yet.
    closing: set[BoundedProtocol]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._since = 0.0  # when it began to wait
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(served=False)
        self._make_room()

    def _make_room(self) -> None:
        """Close the connection that keeps the service waiting the longest, if they are too many."""
        over = len(self.connections) - len(self.closing) - self.most
        if over <= 0 or not self.waiting:
            return
        silent = (one for one, served in self.waiting.items() if not served)
        longest = next(silent, next(iter(self.waiting)))
        if over > self.spare or self.loop.time() - longest._since > QUIET_SECONDS:
            longest.drop()
        else:  # all are new: in a moment it shows who says something
            self.loop.call_later(2 * QUIET_SECONDS, self._make_room)

    def connection_lost(self, exc: Exception | None) -> None:
        self._work()
        self._taken()
        self.closing.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._busy:
            self._work()
        elif self not in self.waiting:
            self._wait(served=True)

    def on_response_complete(self) -> None:
        if not self.transport.is_closing():
            self._wait(served=True)
        super().on_response_complete()
        if self._busy:  # the next request had come already
            self._work()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taken()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.drop)

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        # In the one shape of all errors, and with the headers of all answers.
        problem = Problem(400, msg).response()
        headers = [(name, value) for name, value in problem.raw_headers]
        headers += [(n.lower().encode(), v.encode()) for n, v in SECURITY_HEADERS.items()]
        headers.append((b"connection", b"close"))
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(problem.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def drop(self) -> None:
        """Close this connection at once, without a word."""
        self._work()
        self.closing.add(self)
        self.transport.abort()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, *, served: bool) -> None:
        """From now on this connection keeps the service waiting: for a request's head."""
        self._work()
        self.waiting[self] = served
        self._since = self.loop.time()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.drop)

    def _work(self) -> None:
        """From now on the service works for this connection."""
        self.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _taken(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def bounded_protocol(most: int, spare: int = BACKLOG) -> type[BoundedProtocol]:
    """The protocol of one service that has so many connections at most.

    Args:
        most: connections.
        spare: how many more there may be for the moment in which all are new.
    """
    own = {"most": most, "spare": spare, "waiting": {}, "closing": set()}
    return type("Protocol", (BoundedProtocol,), own)
