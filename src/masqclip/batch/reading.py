"""Reading what a plan lists: the bytes of each picture, or the error in their place.

Nothing that a file can be ends more than its own row: a pipe, a device, a folder, a file without
end, an address that may not be followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from masqclip.batch.addresses import local_path, open_filesystem
from masqclip.batch.items import Item, Listed
from masqclip.batch.tables import read_rows, too_large
from masqclip.data.files import open_regular
from masqclip.errors import MasqclipError

Kind = Literal["files", "parquet", "tar", "embeddings"]

#: The largest file of one picture that is read, unless the job says otherwise.
MAX_FILE_BYTES = 256_000_000
FETCH_THREADS = 16  # most of a fetch from an object store is waiting
_TRIES = 3


def read_items(
    kind: Kind,
    items: Sequence[Item],
    column: str | None = None,
    max_bytes: int = MAX_FILE_BYTES,
    check: bool = True,
) -> Iterator[tuple[str, bytes | MasqclipError]]:
    """(key, bytes) of each item, in order; an error in place of the bytes that cannot be had.

    Args:
        kind: of the items.
        items: as a plan lists them.
        column: of Parquet: where the pictures are; found by its name otherwise.
        max_bytes: the largest picture that is read.
        check: give an error for a file that is not the one that was planned.
    """
    if kind == "parquet":
        yield from read_rows(items, column, max_bytes, check)
        return
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        for ahead in _windows(items, max_bytes):
            fetched = pool.map(lambda item: _fetch(item, max_bytes, check), ahead)
            for item, content in zip(ahead, fetched, strict=True):
                yield item.key, content


def _windows(items: Sequence[Item], max_bytes: int) -> Iterator[list[Item]]:
    """What is fetched ahead of its use: few items, and few bytes where there are large ones."""
    window: list[Item] = []
    size = 0
    for item in items:
        known = item.size if item.start >= 0 else item.bytes
        expected = min(known if known >= 0 else max_bytes // FETCH_THREADS, max_bytes)
        if window and (len(window) == 4 * FETCH_THREADS or size + expected > max_bytes):
            yield window
            window, size = [], 0
        window.append(item)
        size += expected
    if window:
        yield window


def _fetch(item: Item, max_bytes: int, check: bool) -> bytes | MasqclipError:
    if item.error is not None:
        return MasqclipError(item.error)
    local = local_path(item.file)
    reason: Exception | None = None
    for _ in range(_TRIES):  # networks hiccup
        try:
            if local is not None:
                return _read_local(item, local, max_bytes, check)
            return _read_remote(item, max_bytes, check)
        except MasqclipError as error:
            return error
        except FileNotFoundError:
            return MasqclipError(f"{item.key}: no such file")
        except (IsADirectoryError, PermissionError) as error:
            return MasqclipError(f"{item.key}: cannot be opened ({error.strerror})")
        except MemoryError:
            return MasqclipError(f"{item.key}: too large for the memory of this machine")
        except Exception as error:  # a store's client may raise anything
            reason = error
    return MasqclipError(f"{item.key}: cannot be opened ({reason})")


def _read_local(item: Item, path: str, max_bytes: int, check: bool) -> bytes:
    with open_regular(path, name=item.key) as file:
        status = os.fstat(file.fileno())
        if check:
            listed = Listed.of_status(status)
            item.check(listed.bytes, listed.version)
        size = status.st_size if item.start < 0 else item.size
        if size > max_bytes:
            raise too_large(item.key, size, max_bytes)
        if item.start > 0:
            file.seek(item.start)
        content = file.read(size + (item.start < 0))  # a byte more, if it has grown
    return _whole(item, content, size)


def _read_remote(item: Item, max_bytes: int, check: bool) -> bytes:
    filesystem, path = open_filesystem(item.file)
    size = item.size if item.start >= 0 else item.bytes if check else -1
    if size > max_bytes:
        raise too_large(item.key, size, max_bytes)
    if size == 0:
        return b""  # a range of nothing is an error to some stores
    if item.start >= 0:
        content = bytes(filesystem.cat_file(path, start=item.start, end=item.start + size))
        return _whole(item, content, size)
    end = (size if size > 0 else max_bytes) + 1
    content = bytes(filesystem.cat_file(path, start=0, end=end))
    if len(content) > max_bytes:
        raise too_large(item.key, len(content), max_bytes)
    return _whole(item, content, size) if size > 0 else content


def _whole(item: Item, content: bytes, size: int) -> bytes:
    if item.start >= 0 and len(content) < size:
        raise MasqclipError(f"{item.key}: cut short: {len(content):,} of {size:,} bytes are there")
    if len(content) != size:
        raise MasqclipError(
            f"{item.key}: changed since the job was planned: {size:,} bytes then, "
            f"{'more' if len(content) > size else format(len(content), ',')} now"
        )
    return content


# What has changed since


def find_change(items: Sequence[Item], *, done: bool, listings: dict[str, Any]) -> str | None:
    """What is no longer as it was planned, in one line; None where nothing is.

    Args:
        items: of a shard.
        done: whether the shard is: then its files may be gone.
        listings: of remote folders, kept between calls.
    """
    seen = ""
    for item in items:
        if item.bytes < 0 or item.error is not None or item.file == seen:
            continue
        seen = item.file
        local = local_path(item.file)
        listed = Listed.of_local(local) if local is not None else _remote(item.file, listings)
        if listed.bytes < 0:
            if not done:
                return f"{item.key}: gone since the job was planned"
            continue
        try:
            item.check(listed.bytes, listed.version)
        except MasqclipError as error:
            return str(error)
    return None


def _remote(address: str, listings: dict[str, Any]) -> Listed:
    """By a listing of its folder: one request where asking for each file would be thousands."""
    filesystem, path = open_filesystem(address)
    parent = path.rpartition("/")[0]
    if parent not in listings:
        try:
            found = filesystem.ls(parent, detail=True)
        except FileNotFoundError:
            found = []
        listings[parent] = {entry["name"]: Listed.of_entry(entry) for entry in found}
    found_there: dict[str, Listed] = listings[parent]
    return found_there.get(path, Listed())
