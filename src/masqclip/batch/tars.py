"""The members of a tar file, as far as they are there, and a word for each part that is damaged.

Python's own reader takes the first header that is not right for the end, and so loses in silence
what follows. This one demands a proper end, reads on behind it (files that were joined), and where
a header is damaged it looks for the next one. It reads headers only, and none of unbounded length.

Formats: POSIX ustar and pax, GNU's long names. Nothing is unpacked, so a member's name is only a
name here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from masqclip.errors import MasqclipError

BLOCK = 512
_MAX_EXTENSION = 1 << 20  # bytes of a long name or of a pax header
_SCAN = 2048 * BLOCK  # read at a time where headers are looked for
_ZEROS = bytes(_SCAN)
_MAX_ZEROS = 1 << 30  # between two members; a file without end has more
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd",
            b"PK\x03\x04": "zip"}  # fmt: skip
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device",
          b"5": "a folder", b"6": "a pipe", b"S": "a sparse file",
          b"M": "the rest of another volume's file"}  # fmt: skip
_FILES = (b"0", b"\0", b"7")
_DIGITS = re.compile("[0-9]{1,18}")
_RECORD = re.compile(rb"([0-9]{1,7}) ([^=]+)=")


@dataclass(frozen=True)
class Member:
    """A member of a tar, or a part of it that is damaged.

    Attributes:
        name: of the member; empty for a damaged part.
        start: of its bytes in the tar.
        size: how many they are.
        problem: why it cannot be read as a file; None = it can.
    """

    name: str
    start: int
    size: int
    problem: str | None = None


@dataclass(frozen=True)
class _Header:
    name: str
    kind: bytes
    size: int
    extended: bool  # GNU sparse: more blocks of the map follow


def tar_members(file: BinaryIO) -> Iterator[Member]:
    """The members of a plain tar file, in its order; folders are left out.

    Args:
        file: open to read, at any position.
    """
    end = file.seek(0, os.SEEK_END)
    at, ended = 0, False  # ended: only zeros since the last member
    pax: dict[str, str] = {}  # of the next member
    always: dict[str, str] = {}  # of all members
    long_name: str | None = None
    while at < end:
        block = _read(file, at, BLOCK)
        if not block.strip(b"\0"):
            begun, ended = at, True
            at = _skip_zeros(file, at, min(end, begun + _MAX_ZEROS))
            if at < end and at - begun >= _MAX_ZEROS:
                yield Member("", at, end - at, f"nothing but zeros from byte {begun:,} on")
                return
            continue
        header = parse_header(block)
        if header is None:
            next_at = _find_header(file, at + BLOCK, end)
            yield Member("", at, next_at - at, _damage(block, at, next_at, end))
            at, ended, pax, long_name = next_at, next_at >= end, {}, None
            continue
        start, ended = at + BLOCK, False
        if header.kind in (b"x", b"g", b"X", b"L", b"K"):
            content = _read(file, start, header.size) if header.size <= _MAX_EXTENSION else b""
            if len(content) < header.size:
                yield Member("", at, end - at, f"its header at byte {at:,} is cut short")
                at, ended = _find_header(file, start, end), True
                continue
            if header.kind == b"L":
                long_name = _text(content)
            elif header.kind == b"g":
                always |= _pax(content)
            elif header.kind != b"K":
                pax = _pax(content)
            at = start + _padded(header.size)
            continue
        facts = always | pax
        name = facts.get("GNU.sparse.name") or facts.get("path") or long_name or header.name
        size = int(facts["size"]) if _DIGITS.fullmatch(facts.get("size", "")) else header.size
        sparse = header.kind == b"S" or any(key.startswith("GNU.sparse.") for key in facts)
        pax, long_name = {}, None
        while header.extended:
            header = _Header(header.name, header.kind, size, _more(_read(file, start, BLOCK)))
            start += BLOCK
        if header.kind in (b"1", b"2"):
            size = 0  # of what it links to, in some tars
        if start + size > end:
            yield Member(
                name, start, size, f"cut short: {size:,} bytes, of which {end - start:,} are there"
            )
            at, ended = _find_header(file, start, end), True
            continue
        at = start + _padded(size)
        if header.kind in _FILES and not sparse:
            if not name.endswith("/"):
                yield Member(name, start, size)
        elif header.kind not in (b"5", b"V"):
            what = _KINDS[b"S"] if sparse else _KINDS.get(header.kind, "no regular file")
            yield Member(name, start, size, f"{what} in the tar: pack the file itself")
    if not ended:
        yield Member("", end, 0, "it has no end mark, so more may be missing: pack it again")


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    try:
        file.seek(at)
        return file.read(size)
    except (OSError, ValueError) as error:
        raise MasqclipError(f"cannot be read at byte {at:,} ({error})") from error


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _skip_zeros(file: BinaryIO, at: int, end: int) -> int:
    """Where the next block is that holds anything, or the end."""
    while at < end:
        chunk = _read(file, at, _SCAN)
        if chunk != _ZEROS and (rest := chunk.lstrip(b"\0")):
            return at + (len(chunk) - len(rest)) // BLOCK * BLOCK
        at += len(chunk) or _SCAN
    return end


def _find_header(file: BinaryIO, after: int, end: int) -> int:
    """Where the next header is at or behind a position, or the end."""
    at = _padded(after)
    while at < end:
        chunk = _read(file, at, _SCAN)
        for found in re.finditer(b"ustar", chunk):
            begin = found.start() - 257
            if begin >= 0 and begin % BLOCK == 0 and parse_header(chunk[begin : begin + BLOCK]):
                return at + begin
        at += _SCAN
    return end


def _damage(block: bytes, at: int, next_at: int, end: int) -> str:
    if at == 0:
        packed = next((name for magic, name in _PACKERS.items() if block.startswith(magic)), None)
        hint = f": it is packed with {packed}, unpack it first" if packed else ""
        return f"not a plain tar file{hint}"
    what = "to its end" if next_at >= end else f"to byte {next_at:,}"
    return f"damaged from byte {at:,} {what}, and what stood there is lost: pack it again"


# Headers


def parse_header(block: bytes) -> _Header | None:
    """What a block of 512 bytes says as a header; None where it is none, or damaged."""
    if len(block) < BLOCK:
        return None
    if not _sum_is_right(block, _number(block[148:156])):
        return None
    size = _number(block[124:136])
    if size is None or size < 0:
        return None
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    kind = block[156:157]
    return _Header(name, kind, size, kind == b"S" and block[482] != 0)


def _sum_is_right(block: bytes, stated: int | None) -> bool:
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(blank)
    # Some old writers summed signed bytes.
    return stated is not None and (
        stated == total or stated == total - 256 * sum(byte > 127 for byte in blank)
    )


def _more(block: bytes) -> bool:
    """Whether a block of a sparse file's map is followed by another."""
    return len(block) == BLOCK and block[504] != 0


def _number(field: bytes) -> int | None:
    """Octal digits, or the base 256 of large numbers."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1)) * (field[0] == 0xFF)
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    return int(digits, 8) if re.fullmatch(b"[0-7]+", digits) else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(content: bytes) -> dict[str, str]:
    """The records ``length key=value`` of a pax header; what is none ends them."""
    found: dict[str, str] = {}
    at = 0
    while match := _RECORD.match(content, at):
        stop = at + int(match[1])
        if stop <= match.end() or stop > len(content):
            break
        value = content[match.end() : stop - 1]
        found[match[2].decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = stop
    return found
