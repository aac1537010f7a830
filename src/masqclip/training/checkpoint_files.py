"""The file of one checkpoint: torch's own format, closed by a digest of every byte before it.

torch does not compare the tensors of a file with any checksum, so a flipped bit would be trained
on. The digest is the comment that a ZIP archive, which the format is, may have at its end: other
programs read the file as any of torch's.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from masqclip.data.files import sync_folder, writing
from masqclip.errors import MasqclipError

_MARK = b"masqclip:"
_DIGEST = hashlib.blake2b(digest_size=16)
_CLOSING = len(_MARK) + 2 * _DIGEST.digest_size  # bytes


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, texts, lists and mappings; whole, or not at all.

    Raises:
        OSError: it cannot be written; the disk is full, for instance.
    """
    scratch = path.with_suffix(".partial")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(scratch, state)
            os.replace(scratch, path)
            sync_folder(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _write(path: Path, state: Mapping[str, Any]) -> None:
    with path.open("w+b", buffering=0) as file:
        writer = _Writer(file)
        try:
            torch.save(dict(state), cast(IO[bytes], writer))
        except RuntimeError:
            if writer.error is None:
                raise
            raise writer.error from None
        # The comment's length is the last field of the archive.
        file.seek(-2, os.SEEK_END)
        writer.write(_CLOSING.to_bytes(2, "little"))
        file.seek(0)
        writer.write_at_end(_MARK + _digest(file).encode())
        os.fsync(file.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a file of `write_checkpoint`.

    Raises:
        MasqclipError: it is damaged, or no such file; the line says what to delete.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _CLOSING))
            closing = file.read()
            file.seek(0)
            if not closing.startswith(_MARK):
                raise MasqclipError("it does not end with a digest")
            if closing[len(_MARK) :] != _digest(file, size - _CLOSING).encode():
                raise MasqclipError("it is damaged")
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about odd pickles, in torch's own words
                state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise MasqclipError("it holds no state of a run")
        return state
    except Exception as error:  # torch's own advice is to run what the file says
        reason = error if isinstance(error, MasqclipError | OSError) else type(error).__name__
        raise MasqclipError(
            f"the checkpoint {path} cannot be read ({reason}); delete it to go on from the one "
            "before, or from the start"
        ) from error


def _digest(file: BinaryIO, size: int = -1) -> str:
    """The digest of the next `size` bytes; of all that follow unless given."""
    digest = _DIGEST.copy()
    while content := file.read(1 << 20 if size < 0 else min(1 << 20, size)):
        digest.update(content)
        size -= len(content) if size > 0 else 0
    return digest.hexdigest()


class _Writer:
    """A file for torch, which tells of an error in its own words only; this keeps the error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        """Write all of it."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
            raise
        return len(content)

    def write_at_end(self, content: bytes) -> None:
        """Add it."""
        self._file.seek(0, os.SEEK_END)
        self.write(content)

    def flush(self) -> None:
        """Nothing is kept back."""
