"""Programs for tests, each in a process that is forked from one that has imported what they need.

torch, transformers and the rooms take a processor seconds to import, longer than most of what tests
start does. A forked process is one like any other: it has its own number, signals, limits and end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

#: `masqclip`, as code.
MASQCLIP = "import sys; from masqclip.cli.main import main; sys.exit(main(sys.argv[1:]))"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "masqclip.cli.main", "masqclip.weights.checkpoint", "masqclip.segmenter",
        "masqclip.serve.app", "masqclip.training.loop", "masqclip.training.tune", "uvicorn",
    ]
)  # fmt: skip


class Forked:
    """Runs code as ``python -c`` does, in this process's folder and environment; as a `Popen`.

    Args:
        code: the program.
        arguments: its ``sys.argv[1:]``.
        out: the file for what it prints.
        err: the file for its errors; `out` unless given.
    """

    def __init__(self, code: str, *arguments: str, out: Path, err: Path | None = None) -> None:
        place = (os.getcwd(), dict(os.environ), list(sys.path))
        self._process = _FORKS.Process(target=_main, args=(code, arguments, place, out, err or out))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """How it ended: an exit code, or a signal's number less than zero; None: it goes on."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return what `poll` does."""
        self._process.join(timeout)
        ended = self.poll()
        assert ended is not None, f"the process has not ended in {timeout} s"
        return ended

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run(code: str, *arguments: str, scratch: Path, timeout: float = 300) -> Ended:
    """Run a program to its end; what it says passes through files in `scratch`."""
    out, err = scratch / "stdout.txt", scratch / "stderr.txt"
    process = Forked(code, *arguments, out=out, err=err)
    try:
        ended = process.wait(timeout)
    finally:
        process.kill()
    said = [path.read_text(errors="replace") for path in (out, err)]
    out.unlink()
    err.unlink()
    return Ended(ended, *said)


def run_together(
    code: str, *arguments: str, processes: int, scratch: Path, timeout: float = 300
) -> list[Ended]:
    """Run a program in several processes that know of one another, as ``torchrun`` starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started: list[tuple[Forked, Path, Path]] = []
    before = dict(os.environ)
    try:
        for rank in range(processes):
            os.environ.update(common, RANK=str(rank), LOCAL_RANK=str(rank))
            out, err = scratch / f"stdout-{rank}.txt", scratch / f"stderr-{rank}.txt"
            started.append((Forked(code, *arguments, out=out, err=err), out, err))
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        codes = [process.wait(timeout) for process, _, _ in started]
    finally:
        for process, _, _ in started:
            process.kill()
    return [
        Ended(code, out.read_text(errors="replace"), err.read_text(errors="replace"))
        for code, (_, out, err) in zip(codes, started, strict=True)
    ]


Place = tuple[str, dict[str, str], list[str]]


def _main(code: str, arguments: tuple[str, ...], place: Place, out: Path, err: Path) -> None:
    folder, environment, sys.path[:] = place
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<forked>", "exec"), {"__name__": "__main__"})
