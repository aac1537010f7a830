"""An item: where a picture is, and what was known of its file when the job was planned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from masqclip.batch.addresses import pack_address, unpack_address
from masqclip.errors import MasqclipError

#: Where a picture is. ``file`` is a path or address; ``start`` and ``size`` are the bytes of a
#: tar's member, or row group and row of a Parquet file; both are -1 for a file of its own.
#: ``bytes`` and ``version`` (a time or a tag) are the file's, -1 and empty where nobody knows.
ITEMS = pa.schema(
    [
        ("key", pa.string()),
        ("file", pa.string()),
        ("start", pa.int64()),
        ("size", pa.int64()),
        ("bytes", pa.int64()),
        ("version", pa.string()),
        ("error", pa.string()),  # why there is no picture, where listing found that out
    ]
)

DIGEST = "sha256:"


@dataclass(frozen=True)
class Item:
    """A row of `ITEMS`."""

    key: str
    file: str
    start: int = -1
    size: int = -1
    bytes: int = -1
    version: str = ""
    error: str | None = None

    @property
    def digest(self) -> str | None:
        """SHA-256 of the file, where the version is one: of kept embeddings."""
        return self.version[len(DIGEST) :] if self.version.startswith(DIGEST) else None

    def check(self, size: int, version: str) -> None:
        """Compare the file with what was planned.

        Args:
            size: of the file now, in bytes.
            version: of the file now; empty where nobody knows.

        Raises:
            MasqclipError: it is another file now.
        """
        if self.bytes >= 0 and self.bytes != size:
            raise MasqclipError(
                f"{self.key}: changed since the job was planned: {self.bytes:,} bytes then, "
                f"{size:,} now"
            )
        if version and self.digest is None and self.version not in ("", version):
            raise MasqclipError(
                f"{self.key}: changed since the job was planned: written again since"
            )


def items_table(items: Sequence[Item]) -> pa.Table:
    """Items as rows of `ITEMS`."""
    columns = {name: [getattr(item, name) for item in items] for name in ITEMS.names}
    columns["file"] = [pack_address(address) for address in columns["file"]]
    return pa.table(columns, schema=ITEMS)


def table_items(table: pa.Table) -> list[Item]:
    """The items in a table of `ITEMS`; a plan of an earlier version has fewer columns."""
    columns = {name: table[name].to_pylist() for name in ITEMS.names if name in table.column_names}
    columns["file"] = [unpack_address(packed) for packed in columns["file"]]
    rows = zip(*columns.values(), strict=True)
    return [Item(**dict(zip(columns, row, strict=True))) for row in rows]


# What a file system says of a file


@dataclass(frozen=True)
class Listed:
    """A file as listing found it: its size in bytes, and its version; -1 and empty = not known."""

    bytes: int = -1
    version: str = ""

    @classmethod
    def of_status(cls, status: os.stat_result) -> Listed:
        """Of a local file."""
        return cls(status.st_size, str(status.st_mtime_ns))

    @classmethod
    def of_local(cls, path: str) -> Listed:
        """Of a local file, where it is there."""
        try:
            return cls.of_status(os.stat(path))
        except (OSError, ValueError):  # ValueError: a NUL character in the name
            return cls()

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> Listed:
        """Of a file on any of fsspec's file systems, as its `info` or `ls` tells."""
        size = entry.get("size")
        return cls(-1 if size is None else int(size), _version(entry))


_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "created", "LastModified",
         "last_modified", "updated")  # fmt: skip


def _version(entry: Mapping[str, Any]) -> str:
    for name in _TAGS:
        if (value := entry.get(name)) is not None:
            return value.isoformat() if isinstance(value, datetime) else str(value)
    return ""
