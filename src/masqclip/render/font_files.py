"""Fonts: those that are shipped, those of the system, and which characters each of them has.

What is shipped has Latin, Greek, Cyrillic, Hebrew, Arabic and Devanagari letters (``fonts/``). What
else a label needs, such as Chinese, is sought in the folders where systems keep their fonts, the
first time that it is needed. Which characters a font has is read from its ``cmap`` table, in the
formats 4 and 12 of the OpenType specification; a file that cannot be read has none.
"""

from __future__ import annotations

import os
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ImageFont

# The first one writes whatever it can.
_SHIPPED = ("NotoSans.ttf", "NotoSansHebrew.ttf", "NotoSansArabic.ttf", "NotoSansDevanagari.ttf")
_SUFFIXES = frozenset((".ttf", ".otf", ".ttc", ".otc"))
# Words in a file's name that make it a worse choice for a label.
_ODD = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black")
# Fonts that claim characters they show as boxes or not at all.
_EMPTY = ("lastresort", "adobeblank")
# A system with more files, or a table with more bytes, is no system's.
_MAX_FILES, _MAX_FACES, _MAX_TABLE = 20_000, 64, 1 << 24


@dataclass(frozen=True)
class FontFile:
    """A face in a font's file.

    Attributes:
        path: of the file.
        face: its number in a collection (.ttc), else 0.
    """

    path: str
    face: int = 0

    def has(self, characters: Set[str]) -> bool:
        """Whether it has every one of these characters."""
        starts, ends = _coverage(self)
        for character in characters:
            place = bisect_right(starts, ord(character)) - 1
            if place < 0 or ord(character) > ends[place]:
                return False
        return True

    def at(self, size: float) -> ImageFont.FreeTypeFont:
        """The font with letters of a size in pixels, for one thread at a time.

        Raises:
            OSError: the file is broken, or is of bitmaps of other sizes.
        """
        return ImageFont.truetype(self.path, size, index=self.face)


@cache
def shipped_fonts() -> tuple[FontFile, ...]:
    """The package's own fonts; the first is the one to write with."""
    folder = Path(__file__).with_name("fonts")
    return tuple(FontFile(str(folder / name)) for name in _SHIPPED)


@lru_cache(maxsize=1024)
def system_font(characters: frozenset[str]) -> FontFile | None:
    """A font of the system that has all of these characters; None where none has."""
    for font in _system_fonts():
        if font.has(characters) and _is_usable(font):
            return font
    return None


def font_folders() -> list[Path]:
    """The folders where this system keeps its fonts."""
    home = Path.home()
    if sys.platform == "darwin":
        folders = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    elif sys.platform == "win32":
        folders = [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
        if local := os.environ.get("LOCALAPPDATA"):
            folders.append(Path(local) / "Microsoft" / "Windows" / "Fonts")
    else:
        data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        own = os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")
        folders = [Path(folder) / "fonts" for folder in (own, *data.split(":"))]
        folders.append(home / ".fonts")
    return folders


@cache
def _system_fonts() -> tuple[FontFile, ...]:
    """The faces of all of the system's fonts, plain sans-serif ones first."""
    files = []
    for folder in font_folders():
        for root, _, names in os.walk(folder):
            files += [
                os.path.join(root, name)
                for name in names
                if os.path.splitext(name)[1].lower() in _SUFFIXES
                and not name.lower().startswith(_EMPTY)
            ]
            if len(files) > _MAX_FILES:
                break
    files.sort(key=_oddness)
    return tuple(FontFile(path, face) for path in files for face in range(_faces(path)))


def _oddness(path: str) -> tuple[int, bool, str]:
    name = os.path.basename(path).lower()
    return sum(word in name for word in _ODD), "sans" not in name, path


@cache
def _is_usable(font: FontFile) -> bool:
    """Whether letters of any size can be drawn: of coloured pictures they cannot."""
    try:
        return font.at(17).getlength("x") >= 0
    except OSError:
        return False


# The file's tables


def _faces(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return len(_face_offsets(file))
    except (OSError, struct.error):
        return 0


def _face_offsets(file: BinaryIO) -> list[int]:
    head = file.read(12)
    if head[:4] != b"ttcf":
        return [0]
    count = min(struct.unpack(">I", head[8:12])[0], _MAX_FACES)
    return list(struct.unpack(f">{count}I", file.read(4 * count)))


@cache
def _coverage(font: FontFile) -> tuple[list[int], list[int]]:
    """The first and the last characters of the ranges that a font has, ascending."""
    try:
        with open(font.path, "rb") as file:
            ranges = sorted(_ranges(_cmap(file, font.face)))
    except (OSError, ValueError, IndexError, struct.error):
        ranges = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in ranges:
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends


def _cmap(file: BinaryIO, face: int) -> bytes:
    """The table that says which characters there are; empty where there is none."""
    file.seek(_face_offsets(file)[face])
    (tables,) = struct.unpack(">4xH6x", file.read(12))
    for _ in range(tables):
        tag, offset, length = struct.unpack(">4s4xII", file.read(16))
        if tag == b"cmap":
            file.seek(offset)
            return file.read(min(length, _MAX_TABLE))
    return b""


def _ranges(cmap: bytes) -> Iterator[tuple[int, int]]:
    """The ranges of characters of all Unicode subtables."""
    if not cmap:
        return
    (count,) = struct.unpack_from(">2xH", cmap)
    offsets = set()
    for number in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", cmap, 4 + 8 * number)
        if platform == 0 or (platform, encoding) in ((3, 1), (3, 10)):
            offsets.add(offset)
    for offset in offsets:
        (form,) = struct.unpack_from(">H", cmap, offset)
        if form == 4:
            yield from _segments(cmap, offset)
        elif form == 12:
            (groups,) = struct.unpack_from(">I", cmap, offset + 12)
            table = np.frombuffer(cmap, ">u4", 3 * groups, offset + 16).reshape(-1, 3)
            yield from ((int(first), int(last)) for first, last, glyph in table if last >= first)


def _segments(cmap: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """The ranges of a subtable of format 4, without the characters that it gives no glyph."""
    (twice,) = struct.unpack_from(">H", cmap, offset + 6)
    count = twice // 2

    def column(at: int) -> list[int]:
        return np.frombuffer(cmap, ">u2", count, offset + at).tolist()

    ends, starts = column(14), column(16 + twice)
    shifts, places = column(16 + 2 * twice), column(16 + 3 * twice)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start == 0xFFFF or end < start:
            continue
        if not places[number]:
            yield start, end if end < 0xFFFF else 0xFFFE
            continue
        # The glyphs stand in an array behind the table, so far from where its place is said.
        at = offset + 16 + 3 * twice + 2 * number + places[number]
        glyphs = np.frombuffer(cmap, ">u2", end - start + 1, at)
        kept = np.flatnonzero((glyphs != 0) & ((glyphs.astype(int) + shifts[number]) % 65536 != 0))
        yield from ((start + int(place),) * 2 for place in kept)
