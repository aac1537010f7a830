"""What is finished of a long job, in one file: a line a picture, behind a line about the job.

A line is added when its picture is done and is never changed; it ends with a checksum of itself. A
kill may leave the last line unfinished; it is then cut off, and its picture is done again. Anything
else that is not as it was written is told.

A picture is told by its file's size and time, as rsync does: where they are the same it counts as
the same, and nothing is read; where only the time differs, the digest of the bytes decides.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masqclip.data.digests import digest_file
from masqclip.data.files import sync_folder
from masqclip.data.json_files import parse_json
from masqclip.data.locks import LOCK_NAME
from masqclip.errors import MasqclipError

FILE_NAME = ".masqclip-labels.jsonl"
_CHECK = b', "check": "'
_CLOSING = len(_CHECK) + 8 + len(b'"}')


@dataclass(frozen=True)
class PictureFile:
    """A picture's file as it was when the picture was read.

    Attributes:
        bytes: its size.
        mtime_ns: when it was changed last.
        digest: of its bytes.
    """

    bytes: int
    mtime_ns: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> PictureFile:
        """The file as it is now.

        Raises:
            MasqclipError: it cannot be read.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise MasqclipError(f"{path}: cannot be read ({error.strerror or error})") from error
        return cls(status.st_size, status.st_mtime_ns, digest_file(path))

    def is_still(self, path: Path) -> bool:
        """Whether a file holds what this one held; it is read only where its time differs."""
        try:
            status = path.stat()
            if status.st_size != self.bytes:
                return False
            return status.st_mtime_ns == self.mtime_ns or digest_file(path) == self.digest
        except (OSError, MasqclipError):  # gone since it was listed, which reading it will say
            return False


class Journal:
    """The finished pictures of the job in a folder.

    Args:
        folder: where the dataset goes; made if need be.
        about: the settings that every result depends on; ready for JSON.
        weights: gives the digest of the model's weights, where they can be told; asked for when
            the settings are the same.

    Raises:
        MasqclipError: the folder holds something else, or results of other settings or weights; or
            the journal is damaged.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], weights: Callable[[], str] | None = None
    ) -> None:
        self._file = folder / FILE_NAME
        self._lines: dict[str, bytes] = {}
        folder.mkdir(parents=True, exist_ok=True)
        about = json.loads(json.dumps(about))  # as it is read back: no tuples
        lines = self._whole_lines()
        if lines:
            header = self._parse(lines[0], 1)
            _check(folder, header, about)
            if header.get("weights") != (weights() if weights else None):
                raise MasqclipError(
                    f"{folder}: the model's weights have changed since these labels were made; "
                    "give the same weights, name another folder, or delete this one to start anew"
                )
            for number, line in enumerate(lines[1:], start=2):
                self._lines[self._parse(line, number)["file_name"]] = line
        elif any(path.name not in (FILE_NAME, LOCK_NAME) for path in folder.iterdir()):
            raise MasqclipError(
                f"{folder}: not empty, and it holds no labels to go on with; name another folder"
            )
        else:
            self._write({**about, "weights": weights() if weights else None})
            sync_folder(folder)

    def __len__(self) -> int:
        """Number of finished pictures."""
        return len(self._lines)

    def find(self, name: str, path: Path) -> dict[str, Any] | None:
        """The result for a picture as it was added, or None: not done, or not with these bytes.

        Args:
            name: of the picture.
            path: its file.
        """
        line = self._lines.get(name)
        if line is None:
            return None
        record: dict[str, Any] = json.loads(line)
        before = PictureFile(record["bytes"], record["mtime_ns"], record["digest"])
        return record["result"] if before.is_still(path) else None

    def add(self, name: str, file: PictureFile, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write down that a picture is done; returns the result as it will be read back."""
        self._lines[name] = self._write({"file_name": name, **asdict(file), "result": result})
        return json.loads(self._lines[name])["result"]

    def _whole_lines(self) -> list[bytes]:
        """The lines there are, after cutting off one that a kill has left unfinished."""
        if not self._file.exists():
            return []
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._file, len(whole))
        return whole.split(b"\n")[:-1]

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        """A line's record.

        Raises:
            MasqclipError: it is not as it was written.
        """
        if not line.endswith(_check_of(line[:-_CLOSING] + b"}")):
            whole = "the folder, to start anew"
            remedy = "that line, and its picture is done again" if number > 1 else whole
            raise MasqclipError(
                f"{self._file}: line {number} is damaged, or of an earlier masqclip: "
                f"delete {remedy}"
            )
        record: dict[str, Any] = parse_json(line, source=f"{self._file}, line {number}")
        return record

    def _write(self, record: Mapping[str, Any]) -> bytes:
        body = json.dumps(record).encode()
        line = body[:-1] + _check_of(body)
        with self._file.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return line


def _check_of(body: bytes) -> bytes:
    """How the line of a record ends, whose JSON is `body`."""
    return _CHECK + b'%08x"}' % zlib.crc32(body)


def _check(folder: Path, before: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    differing = [key for key in about if before.get(key) != about[key]]
    if differing:
        raise MasqclipError(
            f"{folder}: holds labels made with another {', '.join(differing)}; name another "
            "folder, or delete this one to start anew"
        )
