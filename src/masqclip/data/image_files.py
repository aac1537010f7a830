"""Which picture files a list of files, folders and globs stands for."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from masqclip.data.folders import SUB_FOLDERS, LeftOut, search_folder
from masqclip.errors import MasqclipError

# What counts as a picture when a folder or a glob is searched (lower case).
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib",
    ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm",
    ".pbm", ".pnm", ".tga", ".qoi",
})
#: Pictures all the same, which nothing here reads: cameras' raw files, and others.
UNREAD_SUFFIXES = frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2",
    ".pef", ".srw", ".x3f", ".raw", ".3fr", ".erf", ".iiq", ".kdc", ".dcr", ".mrw", ".rwl",
    ".jxl", ".jxr", ".ico", ".psd", ".psb", ".xcf", ".exr", ".hdr", ".svg", ".svgz", ".eps",
    ".pcx", ".sgi", ".dcm", ".fits",
})
# fmt: on


def is_image(path: str, left_out: LeftOut) -> bool:
    """Whether a file counts as a picture, by its suffix; what does not is counted."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in UNREAD_SUFFIXES:
        left_out.add("in a format that is not read (convert to JPEG or PNG first)", path)
    elif suffix not in IMAGE_SUFFIXES:
        left_out.add("no picture by its suffix", path, picture=False)
    return suffix in IMAGE_SUFFIXES


def find_images(
    sources: Iterable[str | Path], *, recursive: bool = False, left_out: LeftOut | None = None
) -> list[Path]:
    """The picture files that files, folders and globs stand for.

    Sources keep their order; what one folder or glob holds is sorted naturally (``a2`` before
    ``a10``). A file that several sources name is listed once. A file named outright is taken
    whatever its suffix; in folders and globs the suffix decides, and hidden files are left out.

    Args:
        sources: files, folders, and glob patterns (``**`` crosses folders).
        recursive: whether folders are searched with all their sub-folders, linked ones too.
        left_out: takes what is passed over, to be told.

    Raises:
        MasqclipError: a source matches nothing; the message names it.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    found: dict[str, Path] = {}
    tally = LeftOut() if left_out is None else left_out
    for source in sources:
        for path in _expand(source, recursive, tally):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(source: str | Path, recursive: bool, left_out: LeftOut) -> list[Path]:
    path, name = Path(source), str(source)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL character
        raise MasqclipError(f"{name}: cannot be opened ({error})") from error
    if is_folder:
        return _folder(path, recursive, left_out)
    if exists:
        return [path]
    if not glob.has_magic(name):
        raise MasqclipError(f"{name}: no such file or folder")
    matches = sorted(glob.glob(name, recursive=True))
    passed_over = LeftOut()
    pictures: list[str] = []
    others: list[str] = []
    for match in matches:
        if not os.path.isdir(match):
            (pictures if is_image(match, passed_over) else others).append(match)
        elif recursive:
            pictures += _pictures(match, recursive=True, left_out=passed_over)
        elif "**" not in name:  # which searches folders itself
            passed_over.add(SUB_FOLDERS, match)
    if not pictures and not others:
        raise _nothing(f"{name}: no picture matches this pattern", passed_over)
    if pictures:
        left_out.take_in(passed_over)
    # Files that the pattern names by an unusual suffix are meant, if there is nothing else.
    return sorted(map(Path, pictures or others), key=_natural)


def _folder(folder: Path, recursive: bool, left_out: LeftOut) -> list[Path]:
    passed_over = LeftOut()
    pictures = _pictures(str(folder), recursive, passed_over)
    if not pictures:
        raise _nothing(f"{folder}: no picture in this folder", passed_over)
    left_out.take_in(passed_over)
    return sorted(map(Path, pictures), key=_natural)


def _pictures(folder: str, recursive: bool, left_out: LeftOut) -> list[str]:
    pictures = []
    for found in search_folder(folder, left_out, recursive=recursive):
        if found.problem is not None and found.path == folder:
            raise MasqclipError(f"{folder}: {found.problem}")
        if found.problem is not None:
            left_out.add(f"folders that {found.problem}", found.path)
        elif is_image(found.path, left_out):
            pictures.append(found.path)
    return pictures


def _nothing(told: str, left_out: LeftOut) -> MasqclipError:
    return MasqclipError("; ".join([told, *left_out.lines()]))


def _natural(path: Path) -> list[list[str | int]]:
    """A key by which ``a2`` comes before ``a10``, part by part of the path."""
    return [_natural_part(part) for part in path.parts]


def _natural_part(part: str) -> list[str | int]:
    pieces = re.split("([0-9]+)", part)  # text and numbers in turn, text first
    return [int(piece) if at % 2 else piece.casefold() for at, piece in enumerate(pieces)]
