"""What is finished of a long job, in one file: a line a picture, behind a line about the job.

A line is added when its picture is done and is never changed. A kill may leave the last line
unfinished; it is then cut off, and its picture is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masqclip.errors import MasqclipError

FILE_NAME = ".masqclip-labels.jsonl"


class Journal:
    """The finished pictures of the job in a folder.

    Args:
        folder: where the dataset goes; made if need be.
        about: the settings that every result depends on; ready for JSON.

    Raises:
        MasqclipError: the folder holds something else, or results of other settings.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._file = folder / FILE_NAME
        self._lines: dict[str, bytes] = {}
        folder.mkdir(parents=True, exist_ok=True)
        about = json.loads(json.dumps(about))  # as it is read back: no tuples
        lines = self._whole_lines()
        if lines:
            _check(folder, json.loads(lines[0]), about)
            self._lines = {json.loads(line)["file_name"]: line for line in lines[1:]}
        elif any(path != self._file for path in folder.iterdir()):
            raise MasqclipError(
                f"{folder}: not empty, and it holds no labels to go on with; name another folder"
            )
        else:
            self._write(about)

    def __len__(self) -> int:
        """Number of finished pictures."""
        return len(self._lines)

    def find(self, name: str, size: int) -> dict[str, Any] | None:
        """The result for a picture as it was added, or None: not done, or not with these bytes.

        Args:
            name: of the picture.
            size: of its file, in bytes; another size is another picture.
        """
        line = self._lines.get(name)
        record: dict[str, Any] | None = json.loads(line) if line else None
        return record["result"] if record and record["bytes"] == size else None

    def add(self, name: str, size: int, result: Mapping[str, Any]) -> None:
        """Write down that a picture is done."""
        self._lines[name] = self._write({"file_name": name, "bytes": size, "result": result})

    def _whole_lines(self) -> list[bytes]:
        """The lines there are, after cutting off one that a kill has left unfinished."""
        if not self._file.exists():
            return []
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._file, len(whole))
        return whole.splitlines()

    def _write(self, record: Mapping[str, Any]) -> bytes:
        line = json.dumps(record).encode()
        with self._file.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return line


def _check(folder: Path, before: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    differing = [key for key in about if before.get(key) != about[key]]
    if differing:
        raise MasqclipError(
            f"{folder}: holds labels made with another {', '.join(differing)}; name another "
            "folder, or delete this one to start anew"
        )
