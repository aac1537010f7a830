"""What a batch job reads: pictures by name, Parquet tables, tar files, or saved embeddings.

Listing gives one row a picture (`ITEMS`), in an order that depends on the input alone; reading
gives the bytes of such rows back, with an error in place of what cannot be had.
"""

from __future__ import annotations

import glob
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from masqclip.batch.storage import open_filesystem
from masqclip.data.image_files import IMAGE_SUFFIXES
from masqclip.errors import MasqclipError

Kind = Literal["files", "parquet", "tar", "embeddings"]

#: Where a picture is. ``file`` is a path or address; ``start`` and ``size`` are the bytes of a
#: tar's member, or row group and row of a Parquet file; both are -1 for a file of its own.
ITEMS = pa.schema(
    [("key", pa.string()), ("file", pa.string()), ("start", pa.int64()), ("size", pa.int64())]
)

EMBEDDINGS = "embeddings"
_PATH_COLUMNS = ("path", "file_name", "file", "uri", "url", "image_path")
_BYTES_COLUMNS = ("image", "bytes", "jpg", "png", "content")
_LIST_SUFFIXES = (".txt", ".lst", ".list")
_FETCH_THREADS = 16  # most of a fetch from an object store is waiting
_TRIES = 3


@dataclass(frozen=True)
class Item:
    """A row of `ITEMS`."""

    key: str
    file: str
    start: int = -1
    size: int = -1


# Listing


def list_items(inputs: Sequence[str], column: str | None = None) -> tuple[Kind, Iterator[Item]]:
    """The pictures that inputs stand for.

    Args:
        inputs: folders (searched with their sub-folders), globs, pictures, text files with a path
            a line, Parquet files with paths or bytes, tar files (webdataset), or the folder of a
            job that saved embeddings. All of one kind.
        column: of a Parquet file: where the paths or bytes are; found by its name otherwise.

    Returns:
        The kind of the items, and the items: pictures sorted by key, the rows of tables and
        tars in the order of their sorted files.

    Raises:
        MasqclipError: nothing is there, or the inputs are of several kinds.
    """
    found: dict[str, str] = {}  # address -> key
    kinds: dict[str, str] = {}  # kind -> an input of that kind
    for source in inputs:
        kind, files = _expand(source)
        kinds.setdefault(kind, source)
        for key, address in files:
            found.setdefault(address, key)
    if len(kinds) != 1:
        raise MasqclipError(
            f"one job reads one kind of input; {' and '.join(kinds.values())} are "
            f"{' and '.join(kinds)}: run a job for each"
        )
    kind, source = next(iter(kinds.items()))
    if not found:
        raise MasqclipError(f"{source}: no picture, Parquet or tar file in it")
    files = sorted((key, address) for address, key in found.items())
    if kind == "parquet":
        return _table_items(files, column)
    if kind == "tar":
        return "tar", _tar_items(files)
    return ("embeddings" if kind == EMBEDDINGS else "files"), (Item(*file) for file in files)


def _expand(source: str) -> tuple[str, list[tuple[str, str]]]:
    """One input: its kind, and (key, address) of each of its files."""
    filesystem, path = open_filesystem(source)
    try:
        if filesystem.isdir(path):
            return _folder(source, filesystem, path)
        if filesystem.exists(path):
            files = [(source, _address(filesystem, path))]
        elif glob.has_magic(source):
            names = sorted(filesystem.glob(path))
            files = [
                (_key(source, name), _address(filesystem, name))
                for name in names
                if not name.rpartition("/")[2].startswith(".") and not filesystem.isdir(name)
            ]
        else:
            raise MasqclipError(f"{source}: no such file or folder")
    except OSError as error:
        raise MasqclipError(f"{source}: cannot be listed ({error})") from error
    if len(files) == 1 and source.lower().endswith(_LIST_SUFFIXES):
        return "files", _listed(source, filesystem, path)
    kind = _kind_of(key for key, _ in files)
    if kind == "files" and glob.has_magic(source) and len(files) > 1:
        files = [file for file in files if _suffix(file[0]) in IMAGE_SUFFIXES] or files
    return kind, files


def _folder(source: str, filesystem: Any, path: str) -> tuple[str, list[tuple[str, str]]]:
    below = f"{path}/{EMBEDDINGS}"
    if filesystem.exists(f"{path}/job.json") and filesystem.isdir(below):
        names = sorted(filesystem.find(below))
        return EMBEDDINGS, [(n.rpartition("/")[2], _address(filesystem, n)) for n in names]
    files = []
    for name in filesystem.find(path):
        relative = name.removeprefix(path.rstrip("/") + "/")
        if not any(part.startswith((".", "_")) for part in relative.split("/")):
            files.append((f"{source.rstrip('/')}/{relative}", _address(filesystem, name)))
    pictures = [file for file in files if _suffix(file[0]) in IMAGE_SUFFIXES]
    if pictures:
        return "files", pictures
    for kind in ("parquet", "tar"):
        if tables := [file for file in files if _suffix(file[0]) == f".{kind}"]:
            return kind, tables
    return "files", []


def _listed(source: str, filesystem: Any, path: str) -> list[tuple[str, str]]:
    """The pictures of a text file, a path a line; relative ones start at the file's folder."""
    lines = filesystem.cat_file(path).decode("utf-8", errors="replace").splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [(name, _resolve(name, source)) for name in names]


def _resolve(name: str, listed_in: str) -> str:
    if "://" in name or os.path.isabs(name):
        return name
    folder = listed_in.rpartition("/")[0]
    joined = f"{folder}/{name}" if folder else name
    return joined if "://" in joined else os.path.abspath(joined)


def _kind_of(names: Iterable[str]) -> str:
    suffixes = {_suffix(name) for name in names}
    return {frozenset({".parquet"}): "parquet", frozenset({".tar"}): "tar"}.get(
        frozenset(suffixes), "files"
    )


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _address(filesystem: Any, path: str) -> str:
    """A path with its file system's name, so that any process finds it; local paths stay plain."""
    address = str(filesystem.unstrip_protocol(path))
    return address.removeprefix("file://")


def _key(source: str, path: str) -> str:
    """A glob's match, in the words of the glob: relative where that is relative."""
    if "://" in source or os.path.isabs(source):
        return path
    return os.path.relpath(path)


def _table_items(files: list[tuple[str, str]], column: str | None) -> tuple[Kind, Iterator[Item]]:
    """Rows of Parquet files: pictures by path are files like any other."""
    with _open(files[0][1]) as file:
        schema = pq.ParquetFile(file).schema_arrow
    name = column or next(
        (name for name in (*_BYTES_COLUMNS, *_PATH_COLUMNS) if name in schema.names), None
    )
    if name is None or name not in schema.names:
        raise MasqclipError(
            f"{files[0][0]}: {'no column ' + repr(name) if name else 'no known column'}; name the "
            f"one of paths or bytes with --column ({', '.join(schema.names)})"
        )
    if pa.types.is_string(schema.field(name).type) or pa.types.is_large_string(
        schema.field(name).type
    ):
        return "files", _paths_in_tables(files, name)
    return "parquet", _rows_of_tables(files)


def _paths_in_tables(files: list[tuple[str, str]], column: str) -> Iterator[Item]:
    for _, address in files:
        with _open(address) as file:
            for batch in pq.ParquetFile(file).iter_batches(columns=[column]):
                for name in batch.column(0).to_pylist():
                    yield Item(str(name), _resolve(str(name), address))


def _rows_of_tables(files: list[tuple[str, str]]) -> Iterator[Item]:
    for key, address in files:
        with _open(address) as file:
            metadata = pq.ParquetFile(file).metadata
            number = 0
            for group in range(metadata.num_row_groups):
                for row in range(metadata.row_group(group).num_rows):
                    yield Item(f"{key}#{number}", address, group, row)
                    number += 1


def _tar_items(files: list[tuple[str, str]]) -> Iterator[Item]:
    for key, address in files:
        try:
            with _open(address) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.isfile() and _suffix(member.name) in IMAGE_SUFFIXES:
                        name = f"{key}/{member.name}"
                        yield Item(name, address, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise MasqclipError(f"{key}: not a plain tar file ({error})") from error


def _open(address: str) -> Any:
    filesystem, path = open_filesystem(address)
    return filesystem.open(path, "rb")


# Reading


def read_items(
    kind: Kind, items: Sequence[Item], column: str | None = None
) -> Iterator[tuple[str, bytes | MasqclipError]]:
    """(key, bytes) of each item, in order; an error in place of the bytes that cannot be had."""
    if kind == "parquet":
        yield from _read_tables(items, column)
        return
    window = 4 * _FETCH_THREADS  # fetched ahead of their use, and no more
    with ThreadPoolExecutor(_FETCH_THREADS) as pool:
        for start in range(0, len(items), window):
            ahead = items[start : start + window]
            for item, content in zip(ahead, pool.map(_fetch, ahead), strict=True):
                yield item.key, content


def _fetch(item: Item) -> bytes | MasqclipError:
    reason: Exception | None = None
    for _ in range(_TRIES):  # networks hiccup
        try:
            filesystem, path = open_filesystem(item.file)
            if item.start < 0:
                return bytes(filesystem.cat_file(path))
            return bytes(filesystem.cat_file(path, start=item.start, end=item.start + item.size))
        except FileNotFoundError:
            return MasqclipError(f"{item.key}: no such file")
        except (IsADirectoryError, PermissionError) as error:
            return MasqclipError(f"{item.key}: cannot be opened ({error.strerror})")
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
            reason = error
    return MasqclipError(f"{item.key}: cannot be opened ({reason})")


def _read_tables(
    items: Sequence[Item], column: str | None
) -> Iterator[tuple[str, bytes | MasqclipError]]:
    for (address, group), rows in groupby(items, key=lambda item: (item.file, item.start)):
        with _open(address) as file:
            table = pq.ParquetFile(file)
            name = column or next(n for n in _BYTES_COLUMNS if n in table.schema_arrow.names)
            values = table.read_row_group(group, columns=[name]).column(name)
        for item in rows:
            value = values[item.size].as_py()
            if isinstance(value, dict):  # an image column of Hugging Face's datasets
                value = value.get("bytes")
            yield item.key, value or MasqclipError(f"{item.key}: no picture in this row")
