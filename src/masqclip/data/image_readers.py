"""Pictures decoded in processes of their own, which end when a file asks for too much.

A decoder is old C code that does what a stranger's file says. In a process apart it may take as
long as it likes, or all memory, or crash: the process ends, the file is refused, and the next file
gets a new process. Limits are on processor time, not on time by the clock, so that a busy machine
refuses nothing that an idle one reads. Windows has the limit by the clock only, and of memory none;
macOS has none of memory.

The processes are started when they are first needed, know nothing but pixels (no model, no torch),
and end with the program.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from masqclip.data.image_decoding import LoadedImage
from masqclip.data.timed_pipes import timed_pipes
from masqclip.errors import MasqclipError

LENGTH_BYTES = 4
"""An answer begins with its own length, in so many bytes."""

READ_SECONDS: int = 5
"""Processor time in which a picture must be decoded; 50 megapixels take 1 to 3 s."""

READ_BYTES: int = 1_000_000_000
"""Memory in which a picture must be decoded; 50 megapixels take up to 700 MB."""

_CLOCK_FACTOR = 4  # a process may wait for a processor, but not for ever
_START_SECONDS = 60.0
# glibc gives what is freed back to the system at once, and the next picture has to fetch it again,
# page by page: with a little held back a small picture takes a third of the time.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_TOP_PAD_": str(1 << 24)}


class ImageReaders:
    """Processes that decode files. May be shared by threads.

    Args:
        number: of processes at most, and so of files at a time; more callers wait.
        seconds: of processor time for a file.
        memory: bytes for a file.
        niceness: how far the processes step back for others, 0 to 19.
    """

    def __init__(
        self,
        number: int,
        *,
        seconds: int = READ_SECONDS,
        memory: int = READ_BYTES,
        niceness: int = 0,
    ) -> None:
        self._seconds, self._memory, self._niceness = seconds, memory, niceness
        self._free = threading.Semaphore(number)
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._all: set[_Reader] = set()
        self._process, self._closed = os.getpid(), False

    def read(self, data: bytes, name: str, max_pixels: int) -> LoadedImage:
        """Decode a file's bytes; see `image_decoding.decode_image`.

        Raises:
            MasqclipError: as there; or it takes too long, too much memory, or ends its process.
        """
        with self._free:
            reader = self._take()
            try:
                try:
                    image = reader.read(data, name, max_pixels)
                except _Gone:  # it died while idle, of which this file is innocent
                    self._drop(reader)
                    reader = self._take()
                    image = reader.read(data, name, max_pixels)
            except MasqclipError:
                self._give(reader)
                raise
            except _Ended as ended:
                self._drop(reader)
                if self._closed:
                    raise MasqclipError(f"{name}: not read, as the program ends") from ended
                raise MasqclipError(f"{name}: {ended}") from None
            except BaseException:  # an interrupt: nobody knows what the process is still to say
                self._drop(reader)
                raise
            self._give(reader)
            return image

    def start(self) -> None:
        """Start one process now, so that the first picture need not wait for it."""
        self._give(self._take())

    def close(self) -> None:
        """End all processes at once, whatever they do; files in them are refused."""
        self._closed = True
        with self._lock:
            idle, busy = self._idle, self._all - set(self._idle)
            self._all, self._idle = set(), []
        for reader in busy:
            reader.kill()  # its thread sees that, and closes the pipes that it waits for
        for reader in idle:
            reader.end()

    def _take(self) -> _Reader:
        with self._lock:
            while self._idle:
                reader = self._idle.pop()
                if reader.alive:
                    return reader
                self._all.discard(reader)
        reader = _Reader(self._seconds, self._memory, self._niceness)
        with self._lock:
            self._all.add(reader)
        if self._closed:
            reader.end()
        return reader

    def _give(self, reader: _Reader) -> None:
        with self._lock:
            if reader in self._all:
                self._idle.append(reader)

    def _drop(self, reader: _Reader) -> None:
        reader.end()
        with self._lock:
            self._all.discard(reader)


class _Ended(Exception):
    """A process ended, or had to be ended; the message goes on from "NAME: "."""


class _Gone(_Ended):
    """A process had ended before it was given its file."""


class _Reader:
    """One process, one file at a time."""

    def __init__(self, seconds: int, memory: int, niceness: int) -> None:
        self._seconds, self._memory = seconds, memory
        paths = [path or os.getcwd() for path in sys.path]
        limits = [str(number) for number in (seconds, memory, niceness)]
        # Neither a picture's name nor a folder that happens to be current is code to import.
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "masqclip.data.image_reader", *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | _ENVIRONMENT,
        )
        self._pipes = timed_pipes(self._popen)
        self._started = False

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        self._popen.kill()

    def end(self) -> None:
        self.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def read(self, data: bytes, name: str, max_pixels: int) -> LoadedImage:
        deadline = time.monotonic() + self._seconds * _CLOCK_FACTOR
        if not self._started:
            deadline += _START_SECONDS
        wish = {"name": name, "bytes": len(data), "max_pixels": max_pixels}
        self._send(json.dumps(wish).encode() + b"\n", deadline)
        self._send(data, deadline)
        answer = self._answer(deadline)
        self._started = True
        if "error" in answer:
            raise MasqclipError(answer["error"])
        pixels = np.empty((answer["height"], answer["width"], 3), np.uint8)
        self._receive(pixels.data.cast("B"), deadline)
        return LoadedImage(pixels, tuple(answer["notes"]), name)

    def _send(self, content: bytes, deadline: float) -> None:
        try:
            self._pipes.send(content, deadline)
        except TimeoutError:
            raise _Ended(self._too_long()) from None
        except OSError:  # a process decodes when it has all of a file: it died before
            raise _Gone("its decoder cannot be started; try again") from None

    def _answer(self, deadline: float) -> dict[str, Any]:
        """What comes before the pixels."""
        length = bytearray(LENGTH_BYTES)
        self._receive(memoryview(length), deadline)
        content = bytearray(int.from_bytes(length))
        self._receive(memoryview(content), deadline)
        document: dict[str, Any] = json.loads(content)
        return document

    def _receive(self, target: memoryview, deadline: float) -> None:
        try:
            self._pipes.receive(target, deadline)
        except TimeoutError:
            raise _Ended(self._too_long()) from None
        except EOFError:
            raise self._death() from None

    def _death(self) -> _Ended:
        try:
            code = self._popen.wait(5)
        except subprocess.TimeoutExpired:
            code = 0
        if sys.platform != "win32" and code == -signal.SIGXCPU:
            return _Ended(self._too_long())
        return _Ended("broken: its decoder failed on it; save or download it again")

    def _too_long(self) -> str:
        return (
            f"takes more than {self._seconds} s to decode; make it smaller, or save it as a plain "
            "JPEG or PNG"
        )


_shared: ImageReaders | None = None
_shared_lock = threading.Lock()


def shared_readers() -> ImageReaders:
    """The readers that the whole program shares, as many as there are processors, up to four."""
    global _shared
    with _shared_lock:
        # A forked child must not speak into its parent's pipes.
        if _shared is None or _shared._process != os.getpid():
            _shared = ImageReaders(min(4, os.cpu_count() or 1))
            atexit.register(_shared.close)
        return _shared
