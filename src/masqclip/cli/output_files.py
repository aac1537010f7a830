"""The files that `masqclip segment` leaves: their names, and writing them whole."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masqclip.data.files import LONGEST_NAME, short_stem
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from PIL.Image import Image

    from masqclip.cli.sources import PictureSource


# What no later file will fare better with.
_FOR_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_ROOM = len("-1000000.panoptic.json")  # bytes of a name behind the picture's own
_SHOWN = 200  # characters of a path
_MOST_STEPS = 200  # of a path


class UnwritableError(MasqclipError):
    """No result can be written: the disk is full, or the folder may not be written to."""


@dataclass(frozen=True)
class OutputFiles:
    """Where the results of one picture go."""

    overlay: Path
    document: Path


def plan_files(paths: Sequence[PictureSource], folder: Path, task: str) -> list[OutputFiles]:
    """Names for every picture's results: ``<stem>.<task>.png`` and ``<stem>.<task>.json``.

    Pictures of one stem (a/cat.jpg, b/cat.png) become cat, cat-2, cat-3 in their order. No name
    is that of one of the pictures themselves, even where `folder` is the folder they lie in.
    """
    # Names that differ in letter case only are one file on some file systems.
    taken = {_key(path) for path in paths if isinstance(path, Path)}
    planned = []
    numbers: dict[str, int] = {}
    for path in paths:
        beginning = short_stem(path.stem, _ROOM)
        number = numbers.get(beginning.casefold(), 1)
        while True:
            stem = beginning if number == 1 else f"{beginning}-{number}"
            files = OutputFiles(folder / f"{stem}.{task}.png", folder / f"{stem}.{task}.json")
            keys = {_key(files.overlay), _key(files.document)}
            if not keys & taken:
                break
            number += 1
        numbers[beginning.casefold()] = number
        taken |= keys
        planned.append(files)
    return planned


def check_folder(folder: Path, option: str = "--out") -> None:
    """See, before the work and without writing anything, that results can go there.

    Args:
        folder: where they are to go; it need not be there yet.
        option: what it was named with.

    Raises:
        MasqclipError: it is a file, may not be written to, or is nothing that can be made.
    """
    _check_name(folder, option)
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not os.path.exists(nearest):
        problem = f"{nearest} is a link to nothing; name another folder"
    elif not nearest.is_dir():
        problem = f"{nearest} is a file; name a folder"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        problem = f"{nearest} may not be written to; name another folder"
    else:
        return
    raise MasqclipError(f"{option} {folder}: {problem}")


def check_vocabulary_file(out: Path) -> None:
    """See, before the work, that a vocabulary can be saved there.

    Raises:
        MasqclipError: it is no name of a JSON file, is a folder, or its folder cannot be written.
    """
    if out.suffix.lower() != ".json":
        raise MasqclipError(f"--out {out}: a vocabulary is a JSON file: let its name end in .json")
    if out.is_dir():
        raise MasqclipError(f"--out {out} is a folder: name a file")
    check_folder(out.parent)


def check_file(path: Path, option: str) -> None:
    """See, before the work and without writing anything, that a result can be this file.

    Raises:
        MasqclipError: it is a folder, or no file can be there.
    """
    _check_name(path, option)
    if path.is_dir():
        raise MasqclipError(f"{option} {path}: it is a folder; name a file")
    check_folder(path.parent, option)


def _check_name(path: Path, option: str) -> None:
    """Refuse a path that no file system takes; the line shows only its beginning."""
    if len(path.parts) > _MOST_STEPS:  # whoever makes them takes one step a call
        raise MasqclipError(
            f"{option} {str(path)[:_SHOWN]}...: {len(path.parts)} folders deep; give a shorter path"
        )
    try:
        path.lstat()
    except OSError as error:
        number = error.errno
    else:
        return
    # Below a folder that is not there yet, nobody says so.
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        number = errno.ENAMETOOLONG
    if number == errno.ENAMETOOLONG:
        shown = f"{str(path)[:_SHOWN]}..."
        raise MasqclipError(f"{option} {shown}: {os.strerror(number)}; give a shorter name")


def write_picture(path: Path, picture: Image) -> None:
    """Write a PNG, whole or not at all."""
    buffer = io.BytesIO()
    # A fifth larger than by default and written in a quarter of the time.
    picture.save(buffer, "PNG", compress_level=1)
    _write(path, buffer.getvalue())


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    _write(path, (json.dumps(document, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    from masqclip.data.files import write_atomically

    try:
        write_atomically(path, content)
    except OSError as error:
        kind = UnwritableError if error.errno in _FOR_ALL else MasqclipError
        raise kind(f"{path}: cannot be written ({error.strerror or error})") from error


def _key(path: Path) -> str:
    return os.path.abspath(path).casefold()
