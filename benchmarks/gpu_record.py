"""What `gpu.py` has measured so far: one JSON file, whole after every piece.

A piece is noted before it begins as well: one that took its process, or the whole call, down with
it several times is given up with a line, and does not cost every later call its time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError

FILE_NAME = "results.json"
_MOST_BEGUN = 3


class Record:
    """The results of a folder.

    Args:
        folder: where they are.
        settings: what they are of; other results are not mixed with them.
        retry_failed: measure again what ended in an error, but for want of memory.

    Raises:
        MasqclipError: the folder holds results of something else.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], *, retry_failed: bool = False
    ) -> None:
        self.path = folder / FILE_NAME
        self.settings = settings
        self.entries: dict[str, dict[str, Any]] = {}
        self._begun: dict[str, int] = {}
        if not self.path.exists():
            return
        found = read_json(self.path, what="the results")
        try:
            before = found["settings"]
            self.entries, self._begun = dict(found["entries"]), dict(found["begun"])
        except (KeyError, TypeError, ValueError) as error:
            raise MasqclipError(
                f"{self.path} holds no results of this program: name another --out"
            ) from error
        if before != settings:
            raise MasqclipError(
                f"{self.path} holds results of {before}, not of {settings}: name another --out"
            )
        if retry_failed:
            kept = self.entries.items()
            self.entries = {k: e for k, e in kept if "error" not in e or e.get("out of memory")}

    def is_done(self, key: str) -> bool:
        """Whether a piece was measured, or has failed."""
        return key in self.entries

    def begin(self, key: str) -> bool:
        """Note that a piece begins; False when it has never ended before and is given up."""
        count = self._begun.get(key, 0)
        if count >= _MOST_BEGUN:
            self.finish(key, {"error": f"began {count} times and never ended", "seconds": 0.0})
            return False
        self._begun[key] = count + 1
        self._write()
        return True

    def leave(self, key: str) -> None:
        """Note that a piece was broken off for want of time, which is not its fault."""
        if self._begun.pop(key, None) is not None:
            self._write()

    def finish(self, key: str, entry: dict[str, Any]) -> None:
        """Keep what was measured."""
        self._begun.pop(key, None)
        self.entries[key] = entry
        self._write()

    def forget(self, key: str) -> None:
        """Drop an entry, if there is one."""
        if self.entries.pop(key, None) is not None:
            self._write()

    def part(self, name: str) -> dict[str, dict[str, Any]]:
        """The entries of a part, by what follows its name."""
        start = f"{name}/"
        return {k.removeprefix(start): e for k, e in self.entries.items() if k.startswith(start)}

    def _write(self) -> None:
        whole = {"settings": self.settings, "entries": self.entries, "begun": self._begun}
        write_atomically(self.path, (json.dumps(whole, indent=1) + "\n").encode())
