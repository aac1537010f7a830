"""Which picture files a list of files, folders and globs stands for."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from masqclip.errors import MasqclipError

# What counts as a picture when a folder or a glob is searched (lower case).
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif",
    ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi",
    ".ico",
})
# fmt: on


def find_images(sources: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """The picture files that files, folders and globs stand for.

    Sources keep their order; what one folder or glob holds is sorted naturally (``a2`` before
    ``a10``). A file that several sources name is listed once. A file named outright is taken
    whatever its suffix; in folders and globs the suffix decides, and hidden files are left out.

    Args:
        sources: files, folders, and glob patterns (``**`` crosses folders).
        recursive: whether folders are searched with all their sub-folders.

    Raises:
        MasqclipError: a source matches nothing; the message names it.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    found: dict[str, Path] = {}
    for source in sources:
        for path in _expand(source, recursive):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(source: str | Path, recursive: bool) -> list[Path]:
    path, name = Path(source), str(source)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL character
        raise MasqclipError(f"{name}: cannot be opened ({error})") from error
    if is_folder:
        return _folder(path, recursive)
    if exists:
        return [path]
    if not glob.has_magic(name):
        raise MasqclipError(f"{name}: no such file or folder")
    matches = sorted(map(Path, glob.glob(name, recursive=True)), key=_natural)
    files = [match for match in matches if match.is_file()]
    # Files that the pattern names by an unusual suffix are meant, if there is nothing else.
    pictures = [match for match in files if match.suffix.lower() in IMAGE_SUFFIXES] or files
    if recursive:
        for folder in (match for match in matches if match.is_dir()):
            pictures += sorted(_pictures(folder, recursive=True), key=_natural)
    if not pictures:
        raise MasqclipError(f"{name}: no picture matches this pattern")
    return pictures


def _folder(folder: Path, recursive: bool) -> list[Path]:
    try:
        pictures = sorted(_pictures(folder, recursive), key=_natural)
        deeper = not recursive and any(child.is_dir() for child in folder.iterdir())
    except OSError as error:
        raise MasqclipError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    if not pictures:
        hint = "; give --recursive (recursive=True) for its sub-folders" if deeper else ""
        raise MasqclipError(f"{folder}: no picture in this folder{hint}")
    return pictures


def _pictures(folder: Path, recursive: bool) -> Iterator[Path]:
    for path in folder.rglob("*") if recursive else folder.iterdir():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


def _natural(path: Path) -> list[list[str | int]]:
    """A key by which ``a2`` comes before ``a10``, part by part of the path."""
    return [_natural_part(part) for part in path.parts]


def _natural_part(part: str) -> list[str | int]:
    pieces = re.split("([0-9]+)", part)  # text and numbers in turn, text first
    return [int(piece) if at % 2 else piece.casefold() for at, piece in enumerate(pieces)]
