"""COCO run-length encoding, in NumPy.

A mask is read column by column; its runs of zeros and ones alternate, zeros first. The compressed
form writes each run as the difference to the run two before it (from the fourth on), in groups of
five bits with a sign, one printable character each. Byte for byte what pycocotools writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from masqclip.data.bit_masks import binary_mask
from masqclip.errors import MasqclipError

_PIECE = 1 << 20  # pixels that are turned at a time: no more than a processor's cache holds
_MAX_GROUPS = 13  # 5-bit groups of a 64-bit number


class Rle(TypedDict):
    """COCO's compressed run lengths: ``size`` is height and width."""

    size: list[int]
    counts: str


def encode_rle(mask: NDArray[Any]) -> Rle:
    """Compress a mask [H, W] to ``{"size": [H, W], "counts": str}``.

    Args:
        mask: bool, or whole numbers, of which all but 0 are inside.

    Raises:
        MasqclipError: it has other axes, or fractions: probabilities say not where a mask ends.
    """
    if mask.ndim != 2:
        raise MasqclipError(f"a mask has axes (height, width); this one has shape {mask.shape}")
    if mask.dtype.kind == "f":
        mask = binary_mask(mask, what="a run-length encoding")
    mask = np.asarray(mask, dtype=bool)
    height, width = mask.shape
    changes = _changes(mask)
    # Runs begin with zeros: with none of them where the first pixel is inside.
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    if len(changes) and changes[-1] == mask.size:
        counts = counts[:-1]
    return {"size": [height, width], "counts": _compress(counts)}


def _changes(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where, column by column, a mask turns from 0 to 1 and back; the end counts as 0.

    Only its box is read, and in pieces: most masks are small in their picture.
    """
    height = mask.shape[0]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return np.zeros(0, np.int64)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    # A row of zeros below ends every column's last run; where the box is as high as the picture
    # runs go on from one column to the next.
    gap = int(bottom - top < height)
    step = max(1, _PIECE // (bottom - top))
    end, tall = int(columns[-1]) + 1, bottom - top + gap
    found, inside = [], False
    for left in range(int(columns[0]), end, step):
        piece = mask[top:bottom, left : min(left + step, end)].T
        line = np.zeros(1 + len(piece) * tall, bool)
        line[0] = inside
        line[1:].reshape(-1, tall)[:, : bottom - top] = piece
        place = np.flatnonzero(line[1:] != line[:-1])
        if tall < height:
            place += place // tall * (height - tall)
        place += left * height + top
        found.append(place)
        inside = bool(line[-1])
    if inside:
        found.append(np.array([end * height]))
    return np.concatenate(found)


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Expand an RLE, compressed (str or bytes) or plain (list of counts), to a mask [H, W].

    Raises:
        MasqclipError: the counts are malformed or do not cover the size exactly.
    """
    counts = rle_counts(rle)
    values = np.arange(counts.size) % 2 == 1
    return np.repeat(values, counts).reshape([int(side) for side in rle["size"]], order="F")


def rle_counts(rle: Mapping[str, Any]) -> NDArray[np.int64]:
    """The lengths of an RLE's runs, which cover its size exactly.

    Raises:
        MasqclipError: as `decode_rle`.
    """
    height, width = (int(side) for side in rle["size"])
    counts = _run_lengths(rle["counts"])
    total = sum(counts.tolist()) if (counts > height * width).any() else int(counts.sum())
    if total != height * width or (counts < 0).any():
        raise MasqclipError(
            f"an RLE of {height} x {width} needs {height * width} pixels; its counts hold {total}"
        )
    return counts


def _run_lengths(counts: str | bytes | Sequence[int]) -> NDArray[np.int64]:
    if isinstance(counts, str):
        return _decompress(counts.encode("ascii", errors="replace"))
    if isinstance(counts, bytes):
        return _decompress(counts)
    try:
        lengths = np.asarray(counts, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise MasqclipError(f"an RLE's counts are no whole numbers ({error})") from error
    if lengths.ndim != 1:
        raise MasqclipError("an RLE's counts are no list of whole numbers")
    return lengths


def _compress(counts: NDArray[np.int64]) -> str:
    differences = counts.astype(np.int64)
    differences[3:] -= counts[1:-2]
    # Row k holds what is left of each number after k groups of five bits (arithmetic shift).
    groups = 1
    while groups < _MAX_GROUPS and not _ends(differences, groups - 1).all():
        groups += 1
    rest = differences[:, None] >> (5 * np.arange(groups))
    last = np.stack([_ends(differences, k) for k in range(groups)], axis=1).argmax(axis=1)
    position = np.arange(groups)
    characters = (rest & 0x1F) + 48 + np.where(position < last[:, None], 0x20, 0)
    used = position <= last[:, None]
    return characters[used].astype(np.uint8).tobytes().decode("ascii")


def _ends(numbers: NDArray[np.int64], group: int) -> NDArray[np.bool_]:
    """Whether a number is complete after this group: what follows is only its sign."""
    rest = numbers >> (5 * group)
    return (rest >> 5) == np.where(rest & 0x10, -1, 0)


def _decompress(text: bytes) -> NDArray[np.int64]:
    if not text:
        return np.zeros(0, np.int64)
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if (codes < 0).any() or (codes > 63).any() or ends.size == 0 or ends[-1] != codes.size - 1:
        raise MasqclipError("an RLE's counts are not COCO's compressed form; they may be cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if (lengths > _MAX_GROUPS).any():
        raise MasqclipError("an RLE's counts hold a number that is too large")
    position = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 0x1F) << (5 * position), starts)
    negative = (codes[ends] & 0x10) != 0
    numbers[negative] -= np.int64(1) << (5 * lengths[negative])
    # Undo "minus the run two before", which begins at the fourth run.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
