"""One file of the Hub: it goes on where it stopped, and is what the Hub says it is.

The bytes are huggingface_hub's to fetch (retries, redirects, tokens, a bar); where a download
stopped is ours to remember, since of a process that was killed it keeps nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from masqclip.data.files import writing
from masqclip.errors import MasqclipError
from masqclip.hub.repository import RemoteFile, Repository, explained

_PIECE = 1 << 20


def fetch(repository: Repository, file: RemoteFile, target: Path, *, what: str) -> None:
    """Fetch a file, unless it is there; what an earlier try fetched of it is not fetched again.

    Args:
        repository: that has the file.
        file: which.
        target: where it goes. Until it is whole and verified it has another name.
        what: what the repository is, for the errors.

    Raises:
        MasqclipError: the connection broke, or what came is not the file; the message says what to
            do.
        OSError: it cannot be written; the disk is full, for instance.
    """
    from huggingface_hub.utils._fixes import WeakFileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(file, target)
    lock = partial.with_suffix(".lock")
    with WeakFileLock(lock):  # another process may be fetching the same
        try:
            if _is_there(file, target):
                return
            with writing(target):
                _append(repository, file, partial, what=what)
            if not matches(partial, file):
                partial.unlink()
                raise MasqclipError(
                    f"{file.name} of {repository.name!r} came with another content than the Hub "
                    "announces (its digest differs): it was thrown away; run the same command again"
                )
            os.replace(partial, target)
        finally:
            with contextlib.suppress(PermissionError):  # Windows removes no file that is open
                lock.unlink(missing_ok=True)


def missing_bytes(file: RemoteFile, target: Path) -> int:
    """How many bytes of a file are still to come."""
    if _is_there(file, target):
        return 0
    partial = _partial(file, target)
    return file.size - min(file.size, partial.stat().st_size if partial.is_file() else 0)


def _is_there(file: RemoteFile, target: Path) -> bool:
    return target.is_file() and target.stat().st_size == file.size


def _partial(file: RemoteFile, target: Path) -> Path:
    """What a file is called until it is whole and verified."""
    return target.with_name(f".{target.name}.{file.digest[:16]}.part")


def matches(path: Path, file: RemoteFile) -> bool:
    """Whether a file has the digest that the Hub announced: SHA-256, or git's SHA-1 of a blob."""
    if len(file.digest) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest() == file.digest


def _append(repository: Repository, file: RemoteFile, partial: Path, *, what: str) -> None:
    """Fetch what is missing of a file to the end of what is there."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(
        repository.name, file.name, revision=repository.revision, endpoint=repository.endpoint
    )
    partial.touch()
    with partial.open("r+b") as opened:
        there = opened.seek(0, os.SEEK_END)
        if there > file.size:
            there = opened.truncate(0)
            opened.seek(0)
        if there == file.size:
            return
        try:
            http_get(
                url,
                opened,
                resume_size=there,
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                raise
            raise _broken(error, repository, file, partial, what=what) from error
        except Exception as error:
            raise _broken(error, repository, file, partial, what=what) from error


def _broken(
    error: Exception, repository: Repository, file: RemoteFile, partial: Path, *, what: str
) -> MasqclipError:
    if getattr(error, "response", None) is not None:
        return explained(error, repository.name, what=what)
    with partial.open("rb") as opened:
        page = opened.read(64).lstrip().lower().startswith((b"<!doctype", b"<html"))
    if page:
        partial.unlink()
        return MasqclipError(
            f"in place of {file.name} of {repository.name!r} came a page for people (a proxy's, or "
            "a sign-in): open its address in a browser, or name a mirror (HF_ENDPOINT)"
        )
    return MasqclipError(
        f"the download of {file.name} of {repository.name!r} broke off after "
        f"{partial.stat().st_size:,} of "
        f"{file.size:,} bytes: run the same command again, and it goes on from there"
    )
