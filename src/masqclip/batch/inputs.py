"""What a batch job is given: pictures by name, Parquet tables, tar files, or saved embeddings.

Listing gives one `Item` a picture, in an order that depends on the input alone. What is wrong with
one file of many is an item with its error; what leaves nothing to do is raised.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from masqclip.batch.addresses import (
    check_scheme,
    is_text,
    is_url,
    local_path,
    open_file,
    open_filesystem,
    readable_name,
    shorten,
)
from masqclip.batch.folders import Found, search_local, search_remote, without_results
from masqclip.batch.items import Item, Listed
from masqclip.batch.kept import EMBEDDINGS, is_kept, kept_items
from masqclip.batch.reading import Kind, read_items
from masqclip.batch.tables import InputFile, find_column, open_table, table_paths, table_rows
from masqclip.batch.tars import tar_members
from masqclip.data.folders import LeftOut
from masqclip.data.image_files import is_image
from masqclip.errors import MasqclipError

__all__ = ["EMBEDDINGS", "Item", "Kind", "list_items", "read_items"]

_LIST_SUFFIXES = (".txt", ".lst", ".list")
_MAX_LIST_BYTES = 4_000_000_000
_MAX_NAME = 8192  # of a path or an address; no file system and no store has longer ones
# How texts begin that are not UTF-8; UTF-32 begins as UTF-16 does.
_NO_TEXT = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16",
            b"\xfe\xff": "UTF-16"}  # fmt: skip


def list_items(
    inputs: Sequence[str],
    column: str | None = None,
    schemes: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> tuple[Kind, Iterator[Item]]:
    """The pictures that inputs stand for.

    Args:
        inputs: folders (searched with their sub-folders), globs, pictures, text files with a path
            a line, Parquet files with paths or bytes, tar files (webdataset), or the folder of a
            job that saved embeddings. All of one kind.
        column: of a Parquet file: where the paths or bytes are; found by its name otherwise.
        schemes: of addresses that are followed besides those of `addresses.SCHEMES`.
        left_out: takes what is passed over, to be told once the items have been taken.

    Returns:
        The kind of the items, and the items: pictures sorted by key, the rows of tables and
        tars in the order of their sorted files.

    Raises:
        MasqclipError: nothing is there, or the inputs are of several kinds; from the items as
            well, where none of the tables or tars can be read.
    """
    found: dict[str, Item] = {}  # by address
    kinds: dict[str, str] = {}  # kind -> an input of that kind
    tally = LeftOut() if left_out is None else left_out
    for source in inputs:
        check_scheme(source, schemes)
        kind, items = _expand(source, schemes, tally)
        kinds.setdefault(kind, source)
        for item in items:
            found.setdefault(item.file, item)
    if len(kinds) != 1:
        raise MasqclipError(
            f"one job reads one kind of input; {' and '.join(kinds.values())} are "
            f"{' and '.join(kinds)}: run a job for each"
        )
    kind, source = next(iter(kinds.items()))
    if not found:
        told = [f"{source}: no picture, Parquet or tar file in it", *tally.lines()]
        raise MasqclipError("; ".join(told))
    items = sorted(found.values(), key=lambda item: (item.key, item.file))
    if kind == "parquet":
        return _table_items(items, column, schemes)
    if kind == "tar":
        return "tar", _read_on(items, lambda tar: _members(tar, tally))
    return ("embeddings" if kind == EMBEDDINGS else "files"), iter(items)


def _expand(source: str, schemes: Sequence[str], left_out: LeftOut) -> tuple[str, list[Item]]:
    """One input: its kind, and an item for each of its files."""
    filesystem, path = open_filesystem(source)
    try:
        if filesystem.isdir(path):
            return _folder(source, filesystem, path, left_out)
        if filesystem.exists(path):
            files = [_item(source, filesystem, path)]
        elif glob.has_magic(source):
            names = sorted(filesystem.glob(path))
            files = [
                _item(_key(source, name), filesystem, name)
                for name in names
                if not name.rpartition("/")[2].startswith(".") and not filesystem.isdir(name)
            ]
        else:
            raise MasqclipError(f"{source}: no such file or folder")
    except MasqclipError:
        raise
    except Exception as error:  # a store's client may raise anything; a pattern may be none
        raise MasqclipError(f"{source}: cannot be listed ({error})") from error
    if len(files) == 1 and source.lower().endswith(_LIST_SUFFIXES):
        return "files", [_listed(name, source, schemes) for name in _lines(source)]
    kind = _kind_of(item.key for item in files)
    if kind == "files" and glob.has_magic(source) and len(files) > 1:
        passed_over = LeftOut()
        pictures = [item for item in files if is_image(item.key, passed_over)]
        if pictures:
            left_out.take_in(passed_over)
            files = pictures
    return kind, files


def _folder(source: str, filesystem: Any, path: str, left_out: LeftOut) -> tuple[str, list[Item]]:
    if is_kept(source, filesystem, path):
        return EMBEDDINGS, kept_items(source)
    local = local_path(source) is not None
    below = search_local(path, left_out) if local else search_remote(filesystem, path, left_out)
    found: dict[str, list[Found]] = {"files": [], "parquet": [], "tar": []}
    failed: list[Item] = []
    for file in without_results(below, left_out):
        suffix, name = _suffix(file.path), _below(source, path, file.path)
        if file.problem is not None:
            failed.append(_failed(name, file.path, file.problem))
        elif suffix not in (".parquet", ".tar"):
            if is_image(name, left_out):
                found["files"].append(file)
        elif any(part.startswith("_") for part in name.removeprefix(source).split("/")):
            # Whatever writes tables keeps its own there: logs, unfinished files.
            left_out.add('tables below names that begin with "_"', name)
        else:
            found[suffix[1:]].append(file)
    kind, *others = [kind for kind, files in found.items() if files] or ["files"]
    for other in others:
        for file in found[other]:
            told = f"{other} files beside other inputs (give them to a job of their own)"
            left_out.add(told, _below(source, path, file.path))
    items = []
    for file in found[kind]:
        listed = file.listed()
        key = readable_name(_below(source, path, file.path))
        address = _address(filesystem, file.path)
        items.append(Item(key, address, bytes=listed.bytes, version=listed.version))
    if failed and not items:
        raise MasqclipError(str(failed[0].error))
    return kind, items + failed


def _below(source: str, folder: str, path: str) -> str:
    """A file's name in the words of the input that it was found in."""
    return f"{source.rstrip('/')}/{path.removeprefix(folder.rstrip('/') + '/')}"


def _item(name: str, filesystem: Any, path: str) -> Item:
    """A file that was asked for by name or pattern."""
    address = _address(filesystem, path)
    if local_path(address) is not None:
        listed = Listed.of_local(address)
    else:
        listed = Listed.of_entry(filesystem.info(path))
    return Item(readable_name(name), address, bytes=listed.bytes, version=listed.version)


def _failed(name: str, address: str, problem: str) -> Item:
    key = readable_name(shorten(name))
    return Item(key, shorten(address), error=f"{key}: {problem}")


# Lists


def _lines(source: str) -> Iterator[str]:
    """The lines of a text file that are neither empty nor comments, as names of files are."""
    with open_file(source, name=source) as file:
        content = file.read(_MAX_LIST_BYTES + 1)
    if len(content) > _MAX_LIST_BYTES:
        raise MasqclipError(f"{source}: a list of more than 4 GB: give Parquet with the paths")
    for mark, kind in _NO_TEXT.items():
        if content.startswith(mark):
            raise MasqclipError(f"{source}: {kind} text: save the list as UTF-8")
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        name = line.strip()
        if name and not name.startswith(b"#"):
            yield os.fsdecode(name)


def _listed(name: str, source: str, schemes: Sequence[str]) -> Item:
    """The item of a path in a list or table; relative ones start at its folder."""
    if len(name) > _MAX_NAME:
        return _failed(name, f"{source}#{name[:_MAX_NAME]}", "no path: it is too long")
    try:
        check_scheme(name, schemes)
    except MasqclipError as error:
        return Item(readable_name(name), name, error=readable_name(str(error)))
    if is_url(name) and not is_text(name):
        return _failed(name, name, "an address that is not UTF-8")
    address = _resolve(name, source)
    listed = Listed() if is_url(address) else Listed.of_local(address)
    return Item(readable_name(name), address, bytes=listed.bytes, version=listed.version)


def _resolve(name: str, listed_in: str) -> str:
    if is_url(name):
        return local_path(name) or name
    if os.path.isabs(name):
        return name
    folder = listed_in.rpartition("/")[0]
    joined = f"{folder}/{name}" if folder else name
    return joined if is_url(joined) else os.path.abspath(joined)


def _kind_of(names: Iterable[str]) -> str:
    suffixes = {_suffix(name) for name in names}
    return {frozenset({".parquet"}): "parquet", frozenset({".tar"}): "tar"}.get(
        frozenset(suffixes), "files"
    )


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _address(filesystem: Any, path: str) -> str:
    """A path with its file system's name, so that any process finds it; local paths stay plain."""
    if "file" in filesystem.protocol:
        return path
    return str(filesystem.unstrip_protocol(path))


def _key(source: str, path: str) -> str:
    """A glob's match, in the words of the glob: relative where that is relative."""
    if is_url(source) or os.path.isabs(source):
        return path
    return os.path.relpath(path)


# Tables and tars


def _read_on(files: Sequence[Item], read: Any) -> Iterator[Item]:
    """What each file holds; a file that cannot be read is an item with its error.

    Raises:
        MasqclipError: none of them can be read.
    """
    failed: list[Item] = []
    found = False
    for file in files:
        try:
            if file.error is not None:
                raise MasqclipError(file.error)
            for item in read(file):
                if item.error is not None and not found:
                    failed.append(item)
                    continue
                found = True
                yield from failed
                failed = []
                yield item
        except MasqclipError as error:
            failed.append(Item(file.key, file.file, error=readable_name(str(error))))
            if found:
                yield from failed
                failed = []
    if failed:
        raise MasqclipError(str(failed[0].error))


def _members(tar: Item, left_out: LeftOut) -> Iterator[Item]:
    with open_file(tar.file, name=tar.key) as file:
        try:
            for member in tar_members(file):
                name = f"{tar.key}/{readable_name(member.name)}" if member.name else ""
                if name and not is_image(name, left_out):
                    continue
                key = shorten(name) or f"{tar.key}#{member.start}"
                error = None
                if member.problem is not None:
                    error = f"{(name and shorten(name)) or tar.key}: {member.problem}"
                yield Item(key, tar.file, member.start, member.size, tar.bytes, tar.version, error)
        except OSError as error:
            raise MasqclipError(f"{tar.key}: cannot be read ({error})") from error


def _table_items(
    files: Sequence[Item], column: str | None, schemes: Sequence[str]
) -> tuple[Kind, Iterator[Item]]:
    """Rows of Parquet files: pictures by path are files like any other."""
    for n, file in enumerate(files):
        try:
            with open_table(file.file, name=file.key) as table:
                _, is_path = find_column(table.schema_arrow, column, name=file.key)
            break
        except MasqclipError:
            if n + 1 == len(files):
                raise

    def paths(file: Item) -> Iterator[Item]:
        for number, path in enumerate(table_paths(_of(file), column)):
            if path:
                yield _listed(path, file.file, schemes)
            else:
                yield _failed(f"{file.key}#{number}", file.file, "no path in this row")

    if is_path:
        return "files", _read_on(files, paths)
    return "parquet", _read_on(files, lambda file: table_rows(_of(file), column))


def _of(file: Item) -> InputFile:
    return file.key, file.file, Listed(file.bytes, file.version)
