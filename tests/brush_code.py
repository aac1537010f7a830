"""Label Studio's brush code, read bit by bit as the format's description has it."""

from __future__ import annotations

import numpy as np


def brush_words(rle: list[int]) -> np.ndarray:
    """The bytes of the painted layer, uint8: red, green, blue and alpha of every pixel."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    number, word_bits = read(32), read(5) + 1
    count_bits = [read(4) + 1 for _ in range(4)]
    words: list[int] = []
    while len(words) < number:
        is_run = read(1)
        count = read(count_bits[read(2)]) + 1
        words += [read(word_bits)] * count if is_run else [read(word_bits) for _ in range(count)]
    assert len(words) == number
    assert len(bits) - at < 8
    return np.array(words, np.uint8)
