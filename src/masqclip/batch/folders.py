"""Searching a folder: a local one by its entries, any other as fsspec lists it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from masqclip.batch.items import Listed


@dataclass(frozen=True)
class Found:
    """A file below a folder.

    Attributes:
        path: in the file system's own words.
        entry: of a local file, to ask for its size and time.
        listed: of a remote one, which the listing told already.
        problem: why this, a folder, could not be searched; None = it is a file.
    """

    path: str
    entry: os.DirEntry[str] | None = None
    known: Listed | None = None
    problem: str | None = None

    def listed(self) -> Listed:
        """The size and version of the file."""
        if self.known is not None:
            return self.known
        try:
            return Listed() if self.entry is None else Listed.of_status(self.entry.stat())
        except OSError:  # a link to nothing, or to itself
            return Listed()


def search_local(folder: str) -> Iterator[Found]:
    """The files in a local folder and below it; links to folders are not followed.

    What begins with a dot or an underscore is passed over, with all below it.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith((".", "_")):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif not _leads_to_folder(entry):
                        yield Found(entry.path, entry)
        except OSError as error:
            yield Found(here, problem=f"a folder that cannot be listed ({error.strerror or error})")


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: a picture that cannot be read, if it is called like one
        return False


def search_remote(filesystem: Any, folder: str) -> Iterator[Found]:
    """The same of a folder on any of fsspec's file systems."""
    base = folder.rstrip("/") + "/"
    for name, entry in filesystem.find(folder, detail=True).items():
        parts = name.removeprefix(base).split("/")
        if not any(part.startswith((".", "_")) for part in parts):
            yield Found(name, known=Listed.of_entry(entry))
