"""Packed records: what goes in comes out, and workers share it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from masqclip.data.records import PackedRecords

RECORDS = [{"id": 1, "masks": [[0.5, 2.0]]}, {}, ["a", None], 3]


def test_what_goes_in_comes_out() -> None:
    packed = PackedRecords(RECORDS)
    assert list(packed) == RECORDS
    assert len(PackedRecords([])) == 0
    assert list(packed[np.array([3, 0])]) == [3, RECORDS[0]]
    assert list(packed[1:3]) == RECORDS[1:3]
    with pytest.raises(IndexError):
        packed[4]


def test_the_fingerprint_is_of_the_chosen_records() -> None:
    packed = PackedRecords(RECORDS)
    assert packed[1:3].digest() == PackedRecords(RECORDS[1:3]).digest()
    assert packed.digest() != packed[np.array([1, 0, 2, 3])].digest()


def private_bytes() -> int:
    """Memory of this process that it shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def growth_in_a_worker(records: list[object] | PackedRecords) -> int:
    """Bytes that a forked process copies by reading every record."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = private_bytes()
        for i in range(len(records)):
            len(str(records[i]))
        os.write(writing, str(private_bytes() - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 100))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_a_worker_copies_nothing_by_reading() -> None:
    """A list of the same records is copied whole, which is what this guards against."""
    plain = [{"id": i, "polygon": [float(x) for x in range(60)]} for i in range(4000)]
    packed = PackedRecords(plain)
    assert packed.nbytes < 2_000_000
    assert growth_in_a_worker(packed) < 1_000_000
    assert growth_in_a_worker(plain) > 4_000_000
