"""One process at a time in a folder of results.

The lock is the kernel's (`flock`; on Windows a locked byte), on a small file that says who holds
it: it ends with its process however that ends, so a file that a kill left behind locks nobody out.
A holder that ends in order takes the file away, and two runs of a job leave the same files.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masqclip.data.files import writing
from masqclip.errors import MasqclipError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = ".masqclip.lock"
#: On Windows nobody else reads a locked byte: this one lies far beyond the words of the file.
_LOCKED_BYTE = 1 << 30

# A forked child shares its parent's lock, and would hold it when the parent is killed.
_held: set[int] = set()


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder, made if need be, for the block.

    Raises:
        MasqclipError: another process holds it; the line names that process. Or the folder cannot
            be written to.
    """
    path = Path(folder) / LOCK_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path)
    except BlockingIOError as error:
        raise MasqclipError(
            f"{folder}: {_holder(path)} is at work in this folder: wait for it, or name another"
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise MasqclipError(f"{folder}: cannot be written to ({reason})") from error
    _held.add(handle)
    try:
        with writing(path):
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if handle in _held:  # not in a child
            _held.remove(handle)
            _release(path, handle)


if sys.platform == "win32":

    def _acquire(path: Path) -> int:
        """A descriptor that holds the lock; while it is open, nobody can take the file away."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        except PermissionError as error:  # it is locked
            os.close(handle)
            raise BlockingIOError(error.errno, error.strerror) from error
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _release(path: Path, handle: int) -> None:
        os.close(handle)
        with contextlib.suppress(OSError):  # somebody else has opened it since, and takes it away
            path.unlink()

else:

    def _acquire(path: Path) -> int:
        """A descriptor that holds the lock on the file that `path` names now."""
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last holder may have taken the file away since it was opened.
                if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _release(path: Path, handle: int) -> None:
        path.unlink(missing_ok=True)  # while it is held: nobody can be in between
        os.close(handle)


def _holder(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()[:200] or "another process"
    except OSError:
        return "another process"
