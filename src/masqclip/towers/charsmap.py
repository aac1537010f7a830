"""SentencePiece's table of characters that are read as others, checked before it is used.

It is a double array: each number of it says where those of its children lie. The library that
walks through it trusts every one of them, and one that leads out of the array ends a thread.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError

_LEAF = np.uint32(1 << 31)
_LABEL = np.uint32(1 << 31 | 0xFF)
_LETTERS = np.arange(1, 256, dtype=np.uint32)


def check_charsmap(content: bytes, *, source: str) -> None:
    """Refuse a table in which a text can lead anywhere but to a place of it.

    Args:
        content: four bytes that say how long the array is, the array, and texts that end in 0.
        source: what holds it, for the errors.

    Raises:
        MasqclipError: it is damaged.
    """
    size = int.from_bytes(content[:4], "little") if len(content) >= 4 else 0
    if not size or size % 4 or size > len(content) - 4:
        raise _damaged(source)
    units = np.frombuffer(content, "<u4", size // 4, offset=4).astype(np.uint32)
    texts = content[4 + size :]
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(source) from error
    starts = {0, *(i + 1 for i, byte in enumerate(texts) if not byte)}
    # Every number that a text can lead to, a letter deeper each turn.
    seen = np.zeros(len(units), bool)
    bases = _within(units, _offsets(units[:1]), source)
    while len(bases):
        places = _within(units, (bases[:, None] ^ _LETTERS), source)
        found = (units[places] & _LABEL) == _LETTERS
        reached = np.unique(places[found])
        reached = reached[~seen[reached]]
        seen[reached] = True
        bases = _within(units, reached ^ _offsets(units[reached]), source)
        leaves = (units[reached] >> np.uint32(8) & np.uint32(1)).astype(bool)
        values = units[bases[leaves]] & ~_LEAF
        if not {int(value) for value in np.unique(values)} <= starts:
            raise _damaged(source)


def _offsets(units: NDArray[np.uint32]) -> NDArray[np.uint32]:
    wide = (units & np.uint32(1 << 9)) >> np.uint32(6)
    return (units >> np.uint32(10)) << wide


def _within(
    units: NDArray[np.uint32], places: NDArray[np.uint32], source: str
) -> NDArray[np.uint32]:
    if places.size and int(places.max()) >= len(units):
        raise _damaged(source)
    return places


def _damaged(source: str) -> MasqclipError:
    return MasqclipError(f"{source} has a damaged table of characters (precompiled_charsmap)")
