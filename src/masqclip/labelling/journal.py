"""What is finished of a long job, in one file: a line a picture, behind a line about the job.

A line is added when its picture is done and is never changed; it ends with a checksum of itself. A
kill may leave the last line unfinished; it is then cut off, and its picture is done again. Anything
else that is not as it was written is told.

A picture is told by a digest of the bytes that were read. They are not read again where the file is
the same one (inode) of the same size, and unchanged by the file system's own account: the time of
its last change (ctime), which follows the clock. A copying tool sets the date (mtime), never this.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masqclip.data.digests import digest_bytes, digest_file
from masqclip.data.files import read_bounded, sync_folder, writing
from masqclip.data.images import MAX_FILE_BYTES
from masqclip.data.json_files import parse_json
from masqclip.data.locks import LOCK_NAME
from masqclip.errors import MasqclipError
from masqclip.export.own_json import SegmentationJson

FILE_NAME = ".masqclip-labels.jsonl"
_CHECK = b', "check": "'
_CLOSING = len(_CHECK) + 8 + len(b'"}')


@dataclass(frozen=True)
class PictureFile:
    """A picture's file as it was when the picture was read.

    Attributes:
        bytes: its size.
        inode: its number in its file system.
        ctime_ns: when it was changed last, by its file system's account.
        digest: of its bytes.
    """

    bytes: int
    inode: int
    ctime_ns: int
    digest: str

    def is_still(self, path: Path) -> bool:
        """Whether a file holds what this one held; it is read only where it may not be this one."""
        try:
            status = path.stat()
            if status.st_size != self.bytes:
                return False
            # What Windows calls ctime is when a file was made: it says nothing of changes.
            same = sys.platform != "win32" and (
                (status.st_ino, status.st_ctime_ns) == (self.inode, self.ctime_ns)
            )
            return same or digest_file(path) == self.digest
        except (OSError, MasqclipError):  # gone since it was listed, which reading it will say
            return False


def read_picture(path: Path) -> tuple[PictureFile, bytes]:
    """A picture's file as it is now, and its bytes.

    Raises:
        MasqclipError: it cannot be read.
    """
    try:
        status = path.stat()  # before it is read: what changes meanwhile differs the next time
    except OSError as error:
        raise MasqclipError(f"{path}: cannot be read ({error.strerror or error})") from error
    content = read_bounded(path, max_bytes=MAX_FILE_BYTES)
    digest = digest_bytes(content)
    return PictureFile(status.st_size, status.st_ino, status.st_ctime_ns, digest), content


@dataclass(frozen=True)
class Finished:
    """A finished picture.

    Attributes:
        digest: of its file's bytes.
        result: as `Segmentation.to_json` gave it.
    """

    digest: str
    result: SegmentationJson


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

    def find(self, name: str, path: Path) -> Finished | None:
        """The result for a picture as it was added, or None: not done, or not with these bytes.

        Args:
            name: of the picture.
            path: its file.
        """
        line = self._lines.get(name)
        if line is None:
            return None
        record: dict[str, Any] = json.loads(line)
        # An earlier masqclip wrote no inode: then the digest decides.
        before = PictureFile(
            record["bytes"], record.get("inode", -1), record.get("ctime_ns", -1), record["digest"]
        )
        return Finished(before.digest, record["result"]) if before.is_still(path) else None

    def add(self, name: str, file: PictureFile, result: SegmentationJson) -> Finished:
        """Write down that a picture is done; returns the result as it will be read back."""
        self._lines[name] = self._write({"file_name": name, **asdict(file), "result": result})
        return Finished(file.digest, json.loads(self._lines[name])["result"])

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
        with writing(self._file), self._file.open("ab") as file:
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
