"""Files: written so that a reader never sees half of one, read so that no file can hang the reader.

Writing commits: the bytes are on the disk before the name is theirs, so that a crash of the machine
leaves the old file or the new one. Reading takes regular files of a bounded size only: a FIFO would
wait for ever, and a device has no end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from masqclip.errors import MasqclipError

#: How files of strangers are opened. Without O_NONBLOCK, opening a FIFO waits until somebody writes
#: to it; Windows has neither that flag nor FIFOs in folders.
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

#: Bytes of a file's name; no file system that is in use takes more.
LONGEST_NAME = 255


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`: afterwards the file is the old one or the new one, whole.

    The bytes go to a temporary file in the same folder, reach the disk, and then take the name. A
    kill, or the end of the machine's power, leaves the old file if there was one.
    """
    target = Path(path)
    # A long name and what is added to it would be longer than names may be.
    scratch = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp, which is private: a result is for its readers, as far as the umask lets them.
        # Asking for the umask would change it for every thread.
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, target)
            sync_folder(target.parent)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def short_stem(stem: str, room: int = 0) -> str:
    """The beginning of a file's name, so short that what follows has room in it.

    Args:
        stem: if it is too long, its end becomes a digest of it, so that two stay two.
        room: bytes that follow.
    """
    content, longest = os.fsencode(stem), LONGEST_NAME - room
    if len(content) <= longest:
        return stem
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: max(longest - 17, 0)].decode('utf-8', 'ignore')}-{digest}"


@contextmanager
def shared(folder: str | Path) -> Iterator[None]:
    """Have the files that are written into a folder within the block take what the umask gives.

    Some writers of weights, safetensors' for one, make private files, which a container under
    another user cannot read. Files that were there before and stay as they were keep their mode.
    """
    where = Path(folder)
    before = _states(where)
    yield
    made = [path for path, state in _states(where).items() if before.get(path) != state]
    if not made:
        return
    # Asking for the umask would change it for every thread: a new file tells it.
    probe = where / f".umask.{secrets.token_hex(4)}"
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        probe.unlink()
    for path in made:
        path.chmod(mode)


def _states(folder: Path) -> dict[Path, tuple[int, int]]:
    """The regular files of a folder, and what changes when one is written anew."""
    if not folder.is_dir():
        return {}
    found = {path: path.lstat() for path in folder.iterdir()}
    return {p: (s.st_ino, s.st_ctime_ns) for p, s in found.items() if stat.S_ISREG(s.st_mode)}


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Have the system's errors within the block name a path, the file or folder that is written.

    Of a full disk the system does not say where, and writers of weights wrap its errors in some of
    their own. `masqclip.errors.storage_error` makes a line of what is raised.

    Raises:
        OSError: what is written cannot be.
    """
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
    except MasqclipError:
        raise
    except Exception as error:
        if (number := _system_error(error, Path(path))) is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _system_error(error: Exception, path: Path) -> int | None:
    """The number of the system's error behind a library's."""
    if told := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust's libraries say it
        return int(told[1])
    if os.strerror(errno.ENOSPC) in str(error):
        return errno.ENOSPC
    with contextlib.suppress(OSError):
        if not shutil.disk_usage(path if path.is_dir() else path.parent).free:
            return errno.ENOSPC
    return None


def sync_folder(folder: str | Path) -> None:
    """Bring the names in a folder to the disk, where its file system knows how."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def move_folder(folder: Path, target: Path) -> None:
    """Give a folder another name, which an empty folder may have."""
    if sys.platform == "win32" and target.is_dir():  # it replaces none, not even an empty one
        target.rmdir()
    os.replace(folder, target)


def check_replaced(place: Path, ours: bool, *, what: str) -> None:
    """Refuse to put a folder in the place of anything but its own like, or of nothing.

    Args:
        place: where it is to go.
        ours: whether what is there is what may be replaced.
        what: what that is called.

    Raises:
        MasqclipError: something else is there.
    """
    if place.exists() and not ours and (not place.is_dir() or any(place.iterdir())):
        raise MasqclipError(f"{place} is there, and no {what}: name another folder")


@contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """A folder to fill that takes a name once the block is done, whole or not at all.

    Args:
        target: the name; a folder that has it is replaced then.
    """
    place = Path(target)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = place.with_name(f".{place.name[:40]}.{secrets.token_hex(4)}")
        folder.mkdir()
    try:
        yield folder
        sync_files(folder)
        with writing(place):
            if place.is_dir():
                old = place.with_name(f".{place.name[:40]}.{secrets.token_hex(4)}")
                os.replace(place, old)
                move_folder(folder, place)
                shutil.rmtree(old)
            else:
                move_folder(folder, place)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sync_file(path: str | Path) -> None:
    """Bring a file's bytes to the disk, whoever wrote them."""
    # Windows does so for handles only that may write.
    with open(path, "r+b" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def sync_files(folder: Path) -> None:
    """Bring everything in and below a folder to the disk, at once where the system knows how."""
    if sys.platform != "win32":
        os.sync()
    else:
        for path in folder.rglob("*"):
            if path.is_file():
                sync_file(path)


def remove_scratch(folder: Path) -> None:
    """Remove the temporary files, in a folder and below it, of `write_atomically` calls killed.

    For folders that nobody else is writing to.
    """
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def read_bounded(path: str | Path, *, max_bytes: int, what: str = "") -> bytes:
    """The bytes of a regular file, if they are not too many.

    Args:
        path: the file.
        max_bytes: the largest file that is read.
        what: what it should be, for the errors: ``"the vocabulary file"``; left out, they start
            with the path alone.

    Raises:
        MasqclipError: there is no such file, it may not be read, it is a folder, a pipe or a
            device, or it is too large.
    """
    name = f"{what} {str(path)!r}" if what else str(path)
    with open_regular(path, name=name) as file:
        try:
            # So many bytes are set aside before one is read.
            content = file.read(min(os.fstat(file.fileno()).st_size, max_bytes) + 1)
        except OSError as error:
            raise MasqclipError(f"{name}: cannot be read ({error.strerror or error})") from error
    if len(content) > max_bytes:
        raise MasqclipError(f"{name}: larger than the limit of {max_bytes / 1e6:g} MB")
    return content


def open_regular(path: str | Path, *, name: str) -> BufferedReader:
    """A regular file, open to read; never waits, as opening a FIFO would.

    Args:
        path: the file.
        name: what it is called in errors.

    Raises:
        MasqclipError: there is no such file, it may not be read, or it is a folder, a pipe or a
            device.
    """
    try:
        handle = os.open(path, READ_FLAGS)
    except FileNotFoundError as error:
        raise MasqclipError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if os.path.isdir(path) and os.access(path, os.R_OK):  # Windows opens no folder
            raise MasqclipError(f"{name}: a folder; give a file that is in it") from error
        reason = getattr(error, "strerror", None) or error
        raise MasqclipError(f"{name}: cannot be opened ({reason})") from error
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise MasqclipError(f"{name}: a folder; give a file that is in it")
    raise MasqclipError(f"{name}: not a regular file; give a file on a disk")
