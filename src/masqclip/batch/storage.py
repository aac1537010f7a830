"""A folder on any file system that fsspec knows: local, ``s3://``, ``gs://``, ``hdfs://``, ...

Files appear whole: they are written under a temporary name in the folder's ``_work`` and then
moved; on a local disk their bytes reach it first. What a killed process leaves in ``_work`` is
swept away by the next run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from masqclip.batch.addresses import is_url, local_path, open_file, open_filesystem
from masqclip.data.files import sync_file, sync_folder
from masqclip.errors import MasqclipError

__all__ = ["WORK", "StorageError", "Store", "open_filesystem"]

WORK = "_work"


class StorageError(MasqclipError):
    """A folder that cannot be written to: no fault of what was to be written."""


@contextmanager
def _writing_told(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{where}: cannot be written ({reason}): see that the disk has room and may be "
            "written to, and run the command again"
        ) from error


def digest_of(file: Any) -> str:
    """SHA-256 of an open file's bytes, from where it stands."""
    return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """Named files below one folder.

    Args:
        uri: a local path, or an address such as ``s3://bucket/folder``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri if is_url(uri) else os.path.abspath(uri)
        self.filesystem, self.root = open_filesystem(self.uri)
        self.is_local = local_path(self.uri) is not None

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)  # every process opens connections of its own

    def path(self, name: str) -> str:
        """Where a file is, in the file system's own words."""
        return f"{self.root.rstrip('/')}/{name}"

    def address(self, name: str) -> str:
        """Where a file is, in words that any process can open."""
        return self.path(name) if self.is_local else f"{self.uri.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder, now."""
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.exists(self.path(name)))

    def open(self, name: str) -> io.BufferedIOBase:
        """A file to read, at any position."""
        address = self.address(name)
        return cast(io.BufferedIOBase, open_file(address, name=address))

    def read(self, name: str, max_bytes: int = 1 << 30) -> bytes:
        """The bytes of a file that is not larger than that."""
        with self.open(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise MasqclipError(f"{self.address(name)}: more than {max_bytes:,} bytes: damaged")
        return content

    def size(self, name: str) -> int:
        """Bytes of a file."""
        self.filesystem.invalidate_cache()
        return int(self.filesystem.size(self.path(name)))

    def digest(self, name: str) -> str:
        """SHA-256 of a file's bytes."""
        with self.open(name) as file:
            return digest_of(file)

    def write(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Write a file: afterwards it is the old one or the new one, whole."""
        with self.writing(name, durable=durable) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str, *, durable: bool = True) -> Iterator[BinaryIO]:
        """A file to write; it takes its name when the block ends without an error.

        Args:
            name: of the file.
            durable: on a local disk, its bytes reach the disk before, and its name afterwards.

        Raises:
            StorageError: it cannot be written.
        """
        target, scratch = self.path(name), self.path(f"{WORK}/{uuid.uuid4().hex}")
        with _writing_told(self.address(name)):
            try:
                for path in (target, scratch):
                    self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                if not self.is_local:
                    with self.filesystem.open(scratch, "wb") as file:
                        yield file
                    self.filesystem.mv(scratch, target)
                    return
                with open(scratch, "wb") as file:
                    yield file
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                os.replace(scratch, target)
                if durable:
                    sync_folder(os.path.dirname(target))
            except BaseException:
                with contextlib.suppress(Exception):  # on a full disk, it is room for others
                    self.filesystem.rm(scratch)
                raise

    def sync(self, names: Iterable[str]) -> None:
        """Bring files that were written without `durable` to the disk, where it is a local one."""
        if not self.is_local:
            return
        folders = set()
        for name in names:
            path = self.path(name)
            folders.add(os.path.dirname(path))
            with _writing_told(self.address(name)):
                sync_file(path)
        for folder in folders:
            sync_folder(folder)

    def touch(self, name: str) -> None:
        """Make an empty file."""
        path = self.path(name)
        with _writing_told(self.address(name)):
            self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.filesystem.touch(path)

    def files(self, folder: str) -> dict[str, dict[str, Any]]:
        """The files right in a folder: names, and what the file system says of each."""
        self.filesystem.invalidate_cache()
        try:
            found = self.filesystem.ls(self.path(folder), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {
            entry["name"].rpartition("/")[2]: entry for entry in found if entry["type"] == "file"
        }

    def sizes(self, folder: str) -> dict[str, int]:
        """The files in a folder and below it: names, from this store's own folder on; bytes."""
        self.filesystem.invalidate_cache()
        base = self.root.rstrip("/") + "/"
        found = self.filesystem.find(self.path(folder), detail=True)
        return {
            name.removeprefix(base): int(entry["size"])
            for name, entry in found.items()
            if entry.get("type") == "file"
        }

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing where there is none."""
        with _writing_told(self.address(name)):
            try:
                self.filesystem.rm(self.path(name), recursive=True)
            except FileNotFoundError:
                return
