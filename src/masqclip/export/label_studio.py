"""Label Studio's formats: brush masks.

A brush mask is a run-length code of the RGBA bytes of the painted layer, as the library rle-pack
writes it; Label Studio reads the alpha byte of each pixel. In bits, the most significant first:

- 32: the number of words; 5: bits of a word, less one; 4 times 4: the four sizes of a count, in
  bits, less one;
- then records: 1: whether it is a run of one word; 2: which size its count has; the count, less
  one; and the word (a record that is no run holds that many words, and is not needed here).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD_BITS = 8
_COUNT_BITS = np.array([4, 8, 12, 16])
_LONGEST_RUN = 1 << 16


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """A mask [H,W] as Label Studio's brush stroke: the bytes of its ``rle``, 0..255 each."""
    runs, painted = _runs(mask)
    counts = 4 * runs - 1  # a pixel is four bytes, all 0 or all 255
    size = np.searchsorted(_COUNT_BITS, np.ceil(np.log2(counts + 1)))
    count_bits = _COUNT_BITS[size]
    records = (4 + size) << count_bits | counts  # the leading bit says that it is a run
    records = records << _WORD_BITS | np.where(painted, 255, 0)
    header = [4 * mask.size, _WORD_BITS - 1, *(_COUNT_BITS - 1)]
    values = np.concatenate([np.array(header, np.int64), records])
    widths = np.concatenate([[32, 5, 4, 4, 4, 4], 3 + count_bits + _WORD_BITS])
    # Every value's bits, the most significant first, one value after the other.
    ends = np.repeat(np.cumsum(widths), widths)
    bits = np.repeat(values, widths) >> (ends - 1 - np.arange(len(ends))) & 1
    packed: list[int] = np.packbits(bits.astype(np.uint8)).tolist()
    return packed


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lengths of the mask's runs in pixels, row by row, and whether each is painted."""
    flat = mask.ravel().astype(bool)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    longest = _LONGEST_RUN // 4
    # A run too long for its count goes on as another one.
    starts = np.union1d(changes, np.arange(0, flat.size, longest))
    return np.diff(starts, append=flat.size), flat[starts]
