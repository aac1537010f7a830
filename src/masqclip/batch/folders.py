"""Searching a folder: a local one by the walk of all commands, any other as fsspec lists it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from masqclip.batch.items import Listed
from masqclip.data.folders import HIDDEN, LeftOut, search_folder


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


def search_local(folder: str, left_out: LeftOut) -> Iterator[Found]:
    """The files in a local folder and below it, and the folders that cannot be searched."""
    for file in search_folder(folder, left_out):
        problem = None if file.problem is None else f"a folder that {file.problem}"
        yield Found(file.path, file.entry, problem=problem)


def search_remote(filesystem: Any, folder: str, left_out: LeftOut) -> Iterator[Found]:
    """The same of a folder on any of fsspec's file systems."""
    base = folder.rstrip("/") + "/"
    for name, entry in filesystem.find(folder, detail=True).items():
        if any(part.startswith(".") for part in name.removeprefix(base).split("/")):
            left_out.add(HIDDEN, name, picture=False)
        else:
            yield Found(name, known=Listed.of_entry(entry))


def without_results(files: Iterable[Found], left_out: LeftOut) -> list[Found]:
    """The files that are not results of a batch job in one of the folders below."""
    found = list(files)
    folders = {os.path.dirname(file.path) for file in found}
    jobs = tuple(
        f"{folder}/"
        for file in found
        if os.path.basename(file.path) == "job.json"
        and f"{(folder := os.path.dirname(file.path))}/_plan" in folders
    )
    kept = []
    for file in found:
        if jobs and file.path.startswith(jobs):
            left_out.add("results of a batch job", file.path, picture=False)
        else:
            kept.append(file)
    return kept
