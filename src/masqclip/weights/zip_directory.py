"""The list of entries at the end of a ZIP archive, for archives that store them as they are.

Python's reader makes an object of every entry and inflates what is compressed. Here an archive of
millions of entries is refused, and what is compressed is not an entry: no bytes come out of a file
that are not in it.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pickle import UnpicklingError

_MAX_ENTRIES = 60_000  # the largest models have some thousand
_STORED = 0
_ENCRYPTED = 1

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")  # of the second end record, for archives above 4 GB
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 65_535


@dataclass(frozen=True)
class Entry:
    """An entry that is stored as it is.

    Attributes:
        start: of its bytes in the file.
        length: of them.
        checksum: their CRC-32, as the archive tells it.
    """

    start: int
    length: int
    checksum: int


def stored_entries(content: mmap.mmap) -> dict[str, Entry]:
    """The entries of an archive by name, without those that are compressed or encrypted.

    Raises:
        pickle.UnpicklingError: the list is damaged or longer than any model's.
    """
    try:
        return _entries(content)
    except (struct.error, UnicodeDecodeError) as error:
        raise UnpicklingError("the archive is damaged") from error


def _entries(content: mmap.mmap) -> dict[str, Entry]:
    position, count = _directory(content)
    if count > _MAX_ENTRIES:
        raise UnpicklingError(f"the archive has more than {_MAX_ENTRIES:,} entries")
    entries = {}
    for _ in range(count):
        fields = _ENTRY.unpack_from(content, position)
        if fields[0] != b"PK\x01\x02":
            raise UnpicklingError("the archive is damaged")
        flags, method, checksum, stored, length = fields[3], fields[4], *fields[7:10]
        name_length, extra_length, comment_length, header = *fields[10:13], fields[16]
        name_start = position + _ENTRY.size
        name = bytes(content[name_start : name_start + name_length]).decode("utf-8")
        extra_start = name_start + name_length
        extra = bytes(content[extra_start : extra_start + extra_length])
        position = extra_start + extra_length + comment_length
        length, stored, header = _large(extra, [length, stored, header])
        if method != _STORED or flags & _ENCRYPTED:
            continue
        local = _LOCAL.unpack_from(content, header)
        start = header + _LOCAL.size + local[9] + local[10]
        if local[0] != b"PK\x03\x04" or stored != length or start + length > len(content):
            raise UnpicklingError("the archive is damaged, or ends early")
        entries[name] = Entry(start, length, checksum)
    return entries


def _directory(content: mmap.mmap) -> tuple[int, int]:
    """Where the list begins, and how many entries it has."""
    end = content.rfind(b"PK\x05\x06", max(0, len(content) - _END.size - _LONGEST_COMMENT))
    if end < 0:
        raise UnpicklingError("the archive ends early")
    fields = _END.unpack_from(content, end)
    count, start = fields[4], fields[6]
    locator = end - _LOCATOR.size
    if locator >= 0 and content[locator : locator + 4] == b"PK\x06\x07":
        record = _END64.unpack_from(content, min(_LOCATOR.unpack_from(content, locator)[2], end))
        if record[0] == b"PK\x06\x06":
            count, start = record[7], record[9]
    return min(start, len(content)), count


def _large(extra: bytes, numbers: list[int]) -> list[int]:
    """Length, stored length and header, of which those that are too large stand elsewhere."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<2H", extra)
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 1:
            large = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
            return [next(large, n) if n == 0xFFFFFFFF else n for n in numbers]
    return numbers
