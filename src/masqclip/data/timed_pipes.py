"""Talking with a process that must answer in time, whatever it does.

Where pipes can be waited for, this waits no longer than until a deadline. Windows cannot wait for
its pipes: there the process is ended at the deadline, which ends what was waited for.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from typing import Protocol, cast

if sys.platform != "win32":
    import fcntl
    import select

_PIPE_BYTES = 1 << 20  # fewer turns than with the 64 kB that a pipe has otherwise


class TimedPipes(Protocol):
    """The two pipes to and from a process. Deadlines are times of `time.monotonic`."""

    def send(self, content: bytes, deadline: float) -> None:
        """Write all of it.

        Raises:
            TimeoutError: it was not taken in time.
            OSError: nobody is there to take it.
        """

    def receive(self, target: memoryview, deadline: float) -> None:
        """Read until `target`, of bytes, is full.

        Raises:
            TimeoutError: it was not there in time.
            EOFError: the process ended before.
        """


def timed_pipes(process: subprocess.Popen[bytes]) -> TimedPipes:
    """The pipes of a process that was started with both; the process stays the caller's to end."""
    if sys.platform == "win32":
        return WatchedPipes(process)
    else:  # noqa: RET505 - mypy passes over what is of another system only in branches
        return PolledPipes(process)


if sys.platform != "win32":

    class PolledPipes:
        """Pipes that are never waited for longer than to a deadline."""

        def __init__(self, process: subprocess.Popen[bytes]) -> None:
            self._to, self._from = (pipe.fileno() for pipe in _both(process))
            for handle in (self._to, self._from):
                os.set_blocking(handle, False)
                if sys.platform == "linux":
                    with contextlib.suppress(OSError):  # a user may have so much and no more
                        fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

        def send(self, content: bytes, deadline: float) -> None:
            """See `TimedPipes`."""
            rest = memoryview(content)
            while rest:
                _await(self._to, select.POLLOUT, deadline)
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(self._to, rest) :]

        def receive(self, target: memoryview, deadline: float) -> None:
            """See `TimedPipes`."""
            while target:
                try:
                    count = os.readv(self._from, [target])
                except BlockingIOError:
                    _await(self._from, select.POLLIN, deadline)
                    continue
                if count == 0:
                    raise EOFError
                target = target[count:]

    def _await(handle: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(handle, event)
        if not poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            raise TimeoutError


class WatchedPipes:
    """Pipes of a process that is ended at a deadline; works on every system."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._to, self._from = _both(process)

    def send(self, content: bytes, deadline: float) -> None:
        """See `TimedPipes`."""
        with self._watched(deadline):
            self._to.write(content)
            self._to.flush()

    def receive(self, target: memoryview, deadline: float) -> None:
        """See `TimedPipes`."""
        with self._watched(deadline):
            while target:
                count = self._from.readinto(target)
                if not count:
                    raise EOFError
                target = target[count:]

    @contextmanager
    def _watched(self, deadline: float) -> Iterator[None]:
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        watch = threading.Timer(max(0.0, deadline - time.monotonic()), end)
        watch.daemon = True
        watch.start()
        try:
            yield
        except (OSError, EOFError):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            watch.cancel()


def _both(process: subprocess.Popen[bytes]) -> tuple[BufferedWriter, BufferedReader]:
    return cast(BufferedWriter, process.stdin), cast(BufferedReader, process.stdout)
