"""Which files in a folder are a dataset's own: those of an earlier run that a later one leaves out.

A folder of pictures grows and shrinks, and its files get other names in the dataset then. What an
earlier run wrote and this one would not is removed, so that no picture stands beside the labels of
another. What people have put into the folder stays.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from masqclip.data.files import write_atomically, writing
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError

FILE_NAME = ".masqclip-files.jsonl"


class WrittenFiles:
    """The files that a dataset's writer has written, picture by picture, in any run.

    Their names stand in one file of the folder, a line each, before they are written. A kill may
    leave the last line unfinished: its file is not there yet.

    Args:
        folder: the dataset's.

    Raises:
        MasqclipError: the list of names is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / FILE_NAME
        self._names: set[str] = set()
        if self._file.exists():
            content = self._file.read_bytes()
            lines = content[: content.rfind(b"\n") + 1].splitlines()
            self._names = {self._parse(line) for line in lines}
            self._write()

    def claim(self, names: Iterable[str]) -> None:
        """Note, before they are written, the names of files: their paths in the folder."""
        new = [name for name in names if name not in self._names]
        if not new:
            return
        with writing(self._file), self._file.open("ab") as file:
            file.write(b"".join(_line(name) for name in new))
            file.flush()
            os.fsync(file.fileno())
        self._names.update(new)

    def keep(self, names: Iterable[str]) -> None:
        """Remove all files ever claimed but these, and the folders that are empty then."""
        kept = set(names)
        by_letters = {name.casefold(): self._folder / name for name in kept}
        for name in sorted(self._names - kept):
            path = self._folder / name
            if _is_one(path, by_letters.get(name.casefold())):
                continue
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty, or gone
                while (path := path.parent) != self._folder:
                    path.rmdir()
        if kept or self._names:
            self._names = kept
            self._write()

    def _write(self) -> None:
        write_atomically(self._file, b"".join(_line(name) for name in sorted(self._names)))

    def _parse(self, line: bytes) -> str:
        with contextlib.suppress(MasqclipError):
            name = parse_json(line, source=str(self._file))
            path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
            if not path.is_absolute() and ".." not in path.parts:
                return str(name)
        raise MasqclipError(
            f"{self._file}: damaged; delete it, and files of pictures that are gone, to go on"
        )


def _is_one(path: Path, other: Path | None) -> bool:
    """Whether two names are one file: on some file systems those that differ in letter case are."""
    with contextlib.suppress(OSError):
        return other is not None and os.path.samestat(path.lstat(), other.lstat())
    return False


def _line(name: str) -> bytes:
    return json.dumps(name).encode() + b"\n"
