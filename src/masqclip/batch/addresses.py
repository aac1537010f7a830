"""Addresses: which of them are read, the file system behind one, and names that are no text.

A list or a table is data of anybody's, and an address in it makes this machine open a connection.
Only the schemes of `SCHEMES` are followed, and no chains (``simplecache::...``), unless the job
was told to. File names are bytes; those that are not UTF-8 are percent-encoded where text is due.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO, cast
from urllib.parse import unquote_to_bytes

from masqclip.data.files import open_regular
from masqclip.errors import MasqclipError, require

#: Local files, what docs/scale.md names, and what fsspec keeps within the process.
SCHEMES = frozenset(
    {"file", "local", "memory", "s3", "s3a", "gs", "gcs", "hdfs", "az", "abfs", "abfss"}
)
_RAW = "bytes:"  # before the address of a local file whose name is not UTF-8


def is_url(address: str) -> bool:
    """Whether this is an address with a scheme, not a local path."""
    return "://" in address and not address.startswith("/")


def local_path(address: str) -> str | None:
    """The local path that an address stands for; None where it is on another file system."""
    if not is_url(address):
        return address
    scheme, _, path = address.partition("://")
    return os.path.abspath(path) if scheme in ("file", "local") and "::" not in path else None


def check_scheme(address: str, allowed: Sequence[str] = ()) -> None:
    """Refuse an address that may not be followed.

    Args:
        address: a local path, or an address.
        allowed: schemes beyond `SCHEMES`.

    Raises:
        MasqclipError: with the scheme, and how to allow it.
    """
    if not is_url(address):
        return
    for link in address.split("::"):
        scheme = link.partition("://")[0]
        if scheme not in SCHEMES and scheme not in allowed:
            raise MasqclipError(
                f"{shorten(address)}: addresses of the scheme {shorten(scheme, 40)!r} are not "
                "followed: download it first, or allow them with --allow-scheme"
            )


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of an address or a local path, and the path on it.

    Raises:
        MasqclipError: no such file system, or its package is not installed.
    """
    fsspec: Any = require("fsspec", extra="batch", purpose="masqclip batch")
    if (local := local_path(uri)) is not None:  # it may hold "::", which fsspec would take apart
        return fsspec.filesystem("file"), os.path.abspath(local)
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise MasqclipError(f"{shorten(uri)}: cannot be opened ({error})") from error
    return filesystem, str(path)


def open_file(address: str, *, name: str) -> BinaryIO:
    """A file to read, at any position; a local one only where it is a regular file.

    Raises:
        MasqclipError: it cannot be opened; `name` is what it is called there.
    """
    if (local := local_path(address)) is not None:
        return open_regular(local, name=name)
    filesystem, path = open_filesystem(address)
    try:
        return cast(BinaryIO, filesystem.open(path, "rb"))
    except FileNotFoundError as error:
        raise MasqclipError(f"{name}: no such file: check the path") from error
    except (OSError, ValueError) as error:
        raise MasqclipError(f"{name}: cannot be opened ({error})") from error


# Names


def readable_name(name: str) -> str:
    """A file's name as text: where it is not UTF-8, its odd bytes and its ``%`` percent-encoded.

    `urllib.parse.unquote_to_bytes` gives the bytes of such a name back.
    """
    if is_text(name):
        return name
    return "".join(_encoded(character) for character in name)


def _encoded(character: str) -> str:
    if character == "%" or not is_text(character):
        return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", _ODD))
    return character


_ODD = "surrogateescape"


def is_text(name: str) -> bool:
    """Whether a name can stand in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def pack_address(address: str) -> str:
    """An address as text, however odd its bytes; `unpack_address` gives it back."""
    return address if is_text(address) else _RAW + readable_name(address)


def unpack_address(packed: str) -> str:
    """The address that `pack_address` was given."""
    if packed.startswith(_RAW):
        return os.fsdecode(unquote_to_bytes(packed.removeprefix(_RAW)))
    return packed


def shorten(text: str, most: int = 1000) -> str:
    """A name of anybody's, at a length that a row or a line can bear."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
