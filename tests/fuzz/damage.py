"""What the cases of damage share: a place to work in, and what may come of a run.

A case damages what a job has left, or disturbs one, and gives the same command again. It ends well
in two ways only: with the same files as a job that nobody disturbed, or with exit code 2 and one
line on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from masqclip.cli.main import main

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / "cli"), str(_TESTS)]


@dataclass(frozen=True)
class Case:
    """One way in which a job goes wrong.

    Attributes:
        name: what is done to it.
        slow: it starts processes, or takes a second or more.
        run: does it, and asserts how it ends.
    """

    name: str
    slow: bool
    run: Callable[[], None]


class Cases(list[Case]):
    """The cases of a job, in order."""

    def add(
        self, name: str, *, slow: bool = False
    ) -> Callable[[Callable[[], None]], Callable[[], None]]:
        """A decorator that adds a function as a case."""

        def register(run: Callable[[], None]) -> Callable[[], None]:
            self.append(Case(name, slow, run))
            return run

        return register


def run(words: Sequence[str]) -> tuple[int, str]:
    """A command line in this process: its exit code, and what it says on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(words))
    return code, said.getvalue()


def succeed(words: Sequence[str]) -> None:
    """Run a command that ends well."""
    code, said = run(words)
    assert code == 0, said


def refuse(words: Sequence[str], *parts: str) -> str:
    """Run a command that is refused in one line, which holds these parts; the line."""
    code, said = run(words)
    errors = [line for line in said.splitlines() if line.startswith("masqclip: error: ")]
    # Progress goes to stderr as well, where no terminal is.
    rest = [line for line in said.splitlines() if " elapsed" not in line and line not in errors]
    assert code == 2, (code, said)
    assert len(errors) == 1, said
    assert not rest, said
    assert "Traceback" not in said
    assert "weights_only" not in said
    for part in parts:
        assert part in errors[0], errors[0]
    return errors[0]


def tree(folder: str | Path, *, without: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, but those of these names."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if path.name not in without
    }


def flip(path: str | Path, place: float = 0.5, bit: int = 0) -> None:
    """Turn one bit of a file round, at a share of its length."""
    content = bytearray(Path(path).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    Path(path).write_bytes(bytes(content))


def cut(path: str | Path, share: float = 0.5) -> None:
    """Keep only the beginning of a file."""
    os.truncate(path, int(share * os.path.getsize(path)))


def copy(source: str | Path, target: str | Path) -> None:
    """A copy of a folder, with the times of its files."""
    shutil.copytree(source, target, symlinks=True)


@contextlib.contextmanager
def failing_writes(part: str, number: int = errno.ENOSPC) -> Iterator[None]:
    """Let the disk refuse, at its sync, every file whose name holds this part."""
    sync = os.fsync

    def refuse_sync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if part in Path(name).name:
            raise OSError(number, os.strerror(number))
        sync(handle)

    with mock.patch("os.fsync", refuse_sync):
        yield


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[bool]:
    """A file system of this size at a folder; whether this machine and user can have one."""
    folder.mkdir()
    size = f"size={int(megabytes * 1024)}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def started(code: str) -> subprocess.Popen[bytes]:
    """Another Python with our paths, that runs some code."""
    paths = [str(Path(__file__).parent), *sys.path]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)


def main_of(cases: Mapping[str, Case], prepare: Callable[[str], Callable[[Path], Any]]) -> int:
    """Run the cases whose names hold the first word of the command line; how many failed."""
    part = " ".join(sys.argv[1:])
    failures = 0
    chosen = {name: case for name, case in cases.items() if part in name}
    for name, case in chosen.items():
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with prepare(name)(Path(scratch)):
                    case.run()
                end = "ok"
            except Exception:
                failures += 1
                end = f"FAILED\n{traceback.format_exc(limit=-4)}"
        print(f"{name} ({time.monotonic() - begun:.1f} s): {end}", flush=True)
    print(f"{len(chosen)} cases, {failures} failed")
    return failures
