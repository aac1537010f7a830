"""The pieces that `gpu.py` measures, and the process that measures them one after another.

The process keeps its models from piece to piece, and is no loss when it ends: one that crashes, or
takes too long, is replaced, and its piece has an error for a result.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from gpu_record import Record
from masqclip.errors import is_out_of_memory

_BATCHES = (1, 2, 4, 8, 16)
_DTYPES = ("bfloat16", "float32")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Piece:
    """Something that is measured at once.

    Attributes:
        key: its name in the results, after the part's.
        options: of the part's measuring function.
        limit: seconds after which it is given up.
        fresh: it has a process of its own, because of what it leaves behind.
    """

    key: str
    options: dict[str, Any] = field(default_factory=dict)
    limit: float = 240.0
    fresh: bool = False


def pieces_of(part: str, *, tiny: bool) -> list[Piece]:
    """What a part measures, in order of worth."""
    batches = (1, 2) if tiny else _BATCHES
    if part == "speed":
        return _speed_pieces(batches, tiny)
    if part == "tuning":
        return [
            Piece(
                f"{precision}/batch-{batch}/{side}",
                {"precision": precision, "batch": batch, "side": side},
            )
            for batch in batches
            for precision in _DTYPES
            for side in ("ours", "plain")
        ][: 2 if tiny else None]
    return [
        Piece(f"{precision}/batch-{batch}", {"precision": precision, "batch": batch})
        for batch in batches
        for precision in _DTYPES
    ]


def _speed_pieces(batches: Sequence[int], tiny: bool) -> list[Piece]:
    """First what is quick; compiling takes minutes, so a few sizes of it come first."""
    first = [batch for batch in (1, 8) if batch in batches]
    rest = [batch for batch in batches if batch not in first]
    order = [(d, b, "eager") for d in _DTYPES for b in batches]
    order += [(d, b, "compiled") for d in _DTYPES for b in first]
    order += [(d, b, "compiled") for d in _DTYPES for b in rest]
    order += [(d, b, "reference compiled") for d in _DTYPES for b in first]
    if tiny:  # one of each kind
        order = [("bfloat16", 1, "eager"), ("float32", 2, "eager"), ("float32", 1, "compiled")]
    return [
        Piece(
            f"{dtype}/batch-{batch}/{mode.replace(' ', '-')}",
            {"dtype": dtype, "batch": batch, "mode": mode},
            limit=240.0 if mode == "eager" else 540.0,
            fresh=mode != "eager" and not tiny,  # there it is the last one anyway
        )
        for dtype, batch, mode in order
    ]


class Worker:
    """A process that measures pieces of one part.

    Args:
        part: whose.
        device: cpu or cuda.
        tiny: with tiny models.
    """

    def __init__(self, part: str, device: str, *, tiny: bool) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
        self._connection, theirs = context.Pipe()
        arguments = (theirs, os.getpid(), part, device, tiny)
        # No daemon, which may start no processes: compiling does.
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        theirs.close()  # so that its end is heard of

    def measure(
        self, piece: Piece, deadline: float, stopped: Sequence[int]
    ) -> dict[str, Any] | None:
        """What a piece measures, or its error; None when time or a signal came first.

        After None the process is to be closed: it is still at work.
        """
        started = time.monotonic()
        try:
            self._connection.send(piece.options)
            while not self._connection.poll(0.1):
                now = time.monotonic()
                if stopped or now >= deadline:
                    return None
                if now - started > piece.limit:
                    error = f"took longer than {piece.limit:.0f} s"
                    return {"error": error, "seconds": now - started}
            found: dict[str, Any] = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            error = f"its process ended (exit code {code})"
            return {"error": error, "seconds": time.monotonic() - started}
        return found

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        self._process.kill()
        self._process.join()


def measure_part(
    part: str,
    record: Record,
    *,
    device: str,
    tiny: bool,
    deadline: float,
    stopped: Sequence[int],
) -> bool:
    """Measure what is not measured yet.

    Args:
        part: which.
        record: keeps every piece as soon as it is measured.
        device: cpu or cuda.
        tiny: with tiny models.
        deadline: of `time.monotonic`.
        stopped: not empty any more once a signal asks to stop.

    Returns:
        Whether all is done.
    """
    worker: Worker | None = None
    try:
        for piece in pieces_of(part, tiny=tiny):
            key = f"{part}/{piece.key}"
            if record.is_done(key):
                continue
            if stopped or time.monotonic() >= deadline:
                return False
            if not record.begin(key):
                continue
            if worker is not None and piece.fresh:
                worker.close()
                worker = None
            worker = worker or Worker(part, device, tiny=tiny)
            found = worker.measure(piece, deadline, stopped)
            if found is None:
                record.leave(key)
                return False
            record.finish(key, piece.options | found)
            print(f"{key}: {found.get('error', 'measured')}, {found['seconds']:.1f} s", flush=True)
            # An error of CUDA's stays with its process; want of memory does not.
            if piece.fresh or ("error" in found and not found.get("out of memory")):
                worker.close()
                worker = None
        return True
    finally:
        if worker is not None:
            worker.close()


def end_with_parent(number: int) -> None:
    """Have Linux send this process a signal when its parent ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def one_line(error: BaseException) -> str:
    """An error in a line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def _serve(connection: Connection, parent: int, part: str, device: str, tiny: bool) -> None:
    """The process's own part: options come in, figures go out."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that was said
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to all; the parent decides
    measure: Callable[..., dict[str, Any]] | None = None
    while True:
        try:
            options = connection.recv()
        except (EOFError, OSError):
            return
        started = time.perf_counter()
        try:
            if measure is None:
                from gpu_parts import measuring

                measure = measuring(part, device, tiny=tiny)
            found = measure(**options)
        except Exception as error:
            found = {"error": one_line(error), "out of memory": is_out_of_memory(error)}
        _free(device)  # only now does nothing hold what a failed piece had
        found["seconds"] = time.perf_counter() - started
        connection.send(found)


def _free(device: str) -> None:
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
