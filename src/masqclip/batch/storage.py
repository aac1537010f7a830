"""A folder on any file system that fsspec knows: local, ``s3://``, ``gs://``, ``hdfs://``, ...

Files appear whole: they are written under a temporary name in the folder's ``_work`` and then
moved. What a killed process leaves there is swept away by the next run.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from masqclip.errors import MasqclipError, require

WORK = "_work"


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of an address or a local path, and the path on it.

    Raises:
        MasqclipError: no such file system, or its package is not installed.
    """
    fsspec: Any = require("fsspec", extra="batch", purpose="masqclip batch")
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise MasqclipError(f"{uri}: cannot be opened ({error})") from error
    return filesystem, str(path)


class Store:
    """Named files below one folder.

    Args:
        uri: a local path, or an address such as ``s3://bucket/folder``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else os.path.abspath(uri)
        self.filesystem, self.root = open_filesystem(self.uri)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)  # every process opens connections of its own

    def path(self, name: str) -> str:
        """Where a file is, in the file system's own words."""
        return f"{self.root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder, now."""
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.exists(self.path(name)))

    def open(self, name: str) -> io.BufferedIOBase:
        """A file to read, at any position."""
        return cast(io.BufferedIOBase, self.filesystem.open(self.path(name), "rb"))

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return bytes(self.filesystem.cat_file(self.path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a file: afterwards it is the old one or the new one, whole."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write; it takes its name when the block ends without an error."""
        target, scratch = self.path(name), self.path(f"{WORK}/{uuid.uuid4().hex}")
        for path in (target, scratch):
            self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        with self.filesystem.open(scratch, "wb") as file:
            yield file
        self.filesystem.mv(scratch, target)

    def touch(self, name: str) -> None:
        """Make an empty file."""
        path = self.path(name)
        self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.filesystem.touch(path)

    def files(self, folder: str) -> dict[str, dict[str, Any]]:
        """The files right in a folder: names, and what the file system says of each."""
        self.filesystem.invalidate_cache()
        try:
            found = self.filesystem.ls(self.path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {
            entry["name"].rpartition("/")[2]: entry for entry in found if entry["type"] == "file"
        }

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing where there is none."""
        try:
            self.filesystem.rm(self.path(name), recursive=True)
        except FileNotFoundError:
            return
