"""Searching a folder of pictures: one walk for every command, and the tally of what it passes over.

Links to folders are followed, and every folder is searched once, however many names and links lead
to it: a link to a folder above is no trap. Files are told by their names alone; whether one can be
read shows when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

SUB_FOLDERS = "sub-folders (--recursive, recursive=True, searches them)"
HIDDEN = "hidden (the name begins with a dot)"
_SHOWN = 3  # names for each reason


@dataclass
class _Tally:
    count: int = 0
    names: list[str] = field(default_factory=list)


class LeftOut:
    """What a search for pictures passes over: how many, why, and the first names of each kind."""

    def __init__(self) -> None:
        self._pictures: dict[str, _Tally] = {}
        self._others: dict[str, _Tally] = {}

    def add(self, reason: str, name: str, *, picture: bool = True) -> None:
        """Count a file or folder.

        Args:
            reason: what they have in common, and what helps.
            name: its path.
            picture: whether it is a picture or may hold some, which people will miss.
        """
        tally = (self._pictures if picture else self._others).setdefault(reason, _Tally())
        tally.count += 1
        if len(tally.names) < _SHOWN:
            tally.names.append(name)

    def lines(self, *, pictures_only: bool = False) -> list[str]:
        """A line for each reason: how many, why, and the first names.

        Args:
            pictures_only: only what people will miss.
        """
        found = self._pictures if pictures_only else self._pictures | self._others
        return [
            f"left out, {reason}: {tally.count:,} ({', '.join(tally.names)}"
            f"{', ...' if tally.count > _SHOWN else ''})"
            for reason, tally in found.items()
        ]

    def take_in(self, other: LeftOut) -> None:
        """Add what another search passed over."""
        for ours, theirs in (self._pictures, other._pictures), (self._others, other._others):
            for reason, more in theirs.items():
                tally = ours.setdefault(reason, _Tally())
                tally.count += more.count
                tally.names = [*tally.names, *more.names][:_SHOWN]


@dataclass(frozen=True)
class FoundFile:
    """A file that a search has met, or a folder that it cannot search.

    Attributes:
        path: from the folder that was searched on.
        entry: of a file, to ask for its size and time.
        problem: why this, a folder, cannot be searched; None = it is a file.
    """

    path: str
    entry: os.DirEntry[str] | None
    problem: str | None = None


def search_folder(folder: str, left_out: LeftOut, *, recursive: bool = True) -> Iterator[FoundFile]:
    """Everything in a folder that is no folder and not hidden: files, and links to whatever.

    What lies at several places is listed under its own path first, else under the first link's.

    Args:
        folder: where to search; where it cannot be searched, that is the only thing yielded.
        left_out: takes what begins with a dot, and without `recursive` the sub-folders.
        recursive: search sub-folders and those below them as well.
    """
    waiting = [folder]
    linked: list[str] = []
    seen: set[tuple[int, int]] = set()
    while waiting or linked:
        here = waiting.pop() if waiting else linked.pop(0)
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield FoundFile(here, None, f"cannot be listed ({error.strerror or error})")
            continue
        for entry in entries:
            if entry.name.startswith("."):
                left_out.add(HIDDEN, entry.path, picture=False)
            elif not _leads_to_folder(entry):
                yield FoundFile(entry.path, entry)
            elif not recursive:
                left_out.add(SUB_FOLDERS, entry.path)
            else:
                (linked if entry.is_symlink() else waiting).append(entry.path)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: a picture that cannot be read, if it is called like one
        return False
