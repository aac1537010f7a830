"""Parquet inputs: rows that hold pictures, and rows that say where pictures are.

Whatever is wrong with a row or a file is an `Item` with its error, or the error in place of a row's
bytes; a file is read in pieces, so that no value decides how much memory that takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from masqclip.batch.addresses import open_file, shorten
from masqclip.batch.items import Item, Listed
from masqclip.errors import MasqclipError

PATH_COLUMNS = ("path", "file_name", "file", "uri", "url", "image_path")
BYTES_COLUMNS = ("image", "bytes", "jpg", "png", "content")
_ROWS = 16  # pictures that are read from a table at a time
_PATHS = 4096

#: A Parquet or tar file of the input: its key, its address, and what listing found.
InputFile = tuple[str, str, Listed]


@contextmanager
def open_table(address: str, *, name: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read; in the block as well, what its bytes get wrong is told in one line.

    Raises:
        MasqclipError: it is none, or damaged.
    """
    with open_file(address, name=name) as file, damage_told(name):
        yield pq.ParquetFile(file)


@contextmanager
def damage_told(name: str) -> Iterator[None]:
    """Tell in one line what pyarrow makes of a file's bytes: errors of nearly any kind."""
    try:
        yield
    except (MasqclipError, GeneratorExit):
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        reason = shorten(" ".join(str(error).split()), 200) or type(error).__name__
        raise MasqclipError(f"{name}: damaged, or no Parquet file ({reason})") from error


def find_column(
    schema: pa.Schema, column: str | None, *, name: str, paths: bool | None = None
) -> tuple[str, bool]:
    """The column of a table to read, and whether it holds paths (else it holds pictures).

    Args:
        schema: of the table.
        column: as asked for; None = the first that is called as such columns are.
        name: of the file, for the errors.
        paths: what the job's other tables hold: such a column is taken before one of the other
            kind; None = there is no other table.

    Raises:
        MasqclipError: there is none, or it holds neither.
    """
    known = [n for n in (*BYTES_COLUMNS, *PATH_COLUMNS) if n in schema.names]
    if paths is not None:
        wanted = "path" if paths else "bytes"
        kinds = {field.name: _content(field.type) for field in schema}
        known.sort(key=lambda n: kinds[n] != wanted)
    found = column or next(iter(known), None)
    if found is None or schema.names.count(found) != 1:
        what = f"no column {found!r}" if found else "no known column"
        if found in schema.names:
            what = f"several columns {found!r}"
        names = shorten(", ".join(schema.names))
        raise MasqclipError(
            f"{name}: {what}; name the one of paths or bytes with --column ({names})"
        )
    kind = _content(schema.field(found).type)
    if kind is None:
        raise MasqclipError(
            f"{name}: the column {found!r} holds {shorten(str(schema.field(found).type), 100)}: "
            "name one of paths (text) or of pictures (bytes) with --column"
        )
    return found, kind == "path"


def _content(kind: pa.DataType) -> Literal["path", "bytes"] | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):  # an image column of Hugging Face's datasets
        names = [kind.field(n).name for n in range(kind.num_fields)]
        return _content(kind.field("bytes").type) if names.count("bytes") == 1 else None
    if any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, _is_view("str"))):
        return "path"
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        _is_view("bin"),
    )
    return "bytes" if any(test(kind) for test in tests) else None


def _is_view(start: str) -> Any:
    # Of pyarrow 16 and later only.
    name = {"str": "is_string_view", "bin": "is_binary_view"}[start]
    return getattr(pa.types, name, lambda kind: False)


def table_paths(file: InputFile, column: str | None) -> Iterator[str | None]:
    """The paths in a table, in order; None where a row has none.

    Raises:
        MasqclipError: the table is damaged, or has no such column.
    """
    key, address, _ = file
    with open_table(address, name=key) as table:
        name, is_path = find_column(table.schema_arrow, column, name=key, paths=True)
        if not is_path:
            raise MasqclipError(f"{key}: the column {name!r} holds bytes, where others hold paths")
        for batch in table.iter_batches(batch_size=_PATHS, columns=[name]):
            # By way of bytes: Arrow does not check that text is UTF-8.
            for value in _as_bytes(batch.column(0)).to_pylist():
                yield None if value is None else os.fsdecode(value)


def table_rows(file: InputFile, column: str | None) -> Iterator[Item]:
    """An item for each row of a table with pictures.

    Raises:
        MasqclipError: the table is damaged, or has no such column.
    """
    key, address, listed = file
    with open_table(address, name=key) as table:
        name, is_path = find_column(table.schema_arrow, column, name=key, paths=False)
        if is_path:
            raise MasqclipError(f"{key}: the column {name!r} holds paths, where others hold bytes")
        groups = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
    number = 0
    for group, rows in enumerate(groups):
        for row in range(rows):
            yield Item(f"{key}#{number}", address, group, row, listed.bytes, listed.version)
            number += 1


def _as_bytes(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_struct(values.type):
        values = _as_bytes(pc.struct_field(values, "bytes"))
    return values.cast(pa.large_binary())


# Reading


def read_rows(
    items: Sequence[Item], column: str | None, max_bytes: int, check: bool
) -> Iterator[tuple[str, bytes | MasqclipError]]:
    """(key, bytes) of each row, in order; an error in place of the bytes that cannot be had."""
    for (_, group), grouped in groupby(items, key=lambda item: (item.file, item.start)):
        rows = list(grouped)
        done = 0
        try:
            for key, content in _read_group(group, rows, column, max_bytes, check):
                yield key, content
                done += 1
        except MasqclipError as error:
            for item in rows[done:]:
                yield item.key, error


def _read_group(
    group: int, rows: Sequence[Item], column: str | None, max_bytes: int, check: bool
) -> Iterator[tuple[str, bytes | MasqclipError]]:
    first = rows[0]
    if first.error is not None:
        raise MasqclipError(first.error)
    if check and (listed := Listed.of_local(first.file)).bytes >= 0:
        first.check(listed.bytes, listed.version)
    wanted = {item.size: item for item in rows}
    with open_table(first.file, name=first.key) as table:
        name, _ = find_column(table.schema_arrow, column, name=first.key, paths=False)
        at, last = 0, rows[-1].size
        for batch in table.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[name]):
            if at + len(batch) > rows[0].size:
                values = _as_bytes(batch.column(0))
                for offset, size in enumerate(pc.binary_length(values).to_pylist()):
                    if (item := wanted.get(at + offset)) is not None:
                        yield item.key, _value(item, values, offset, size, max_bytes)
            at += len(batch)
            if at > last:
                return
    raise MasqclipError(f"{first.key}: no such row: the table changed since the job was planned")


def _value(
    item: Item, values: pa.Array, offset: int, size: int | None, max_bytes: int
) -> bytes | MasqclipError:
    if not size:
        return MasqclipError(f"{item.key}: no picture in this row")
    if size > max_bytes:
        return too_large(item.key, size, max_bytes)
    return bytes(values[offset].as_py())


def too_large(key: str, size: int, max_bytes: int) -> MasqclipError:
    """The error of a picture whose file is larger than a job reads."""
    return MasqclipError(
        f"{key}: {size:,} bytes, more than the limit of {max_bytes:,} for one picture; make it "
        "smaller first, or raise --max-file"
    )
