"""Many small records in two arrays, so that processes can share them.

A forked worker shares its parent's memory until one of them writes. Python writes to every object
it so much as looks at (its reference count), so a list of annotations is copied into each worker,
page by page. An array is one object: its bytes stay shared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class PackedRecords(Sequence[Any]):
    """Records that JSON can hold, as JSON bytes one after another; read-only.

    Args:
        records: anything `json.dumps` takes; tuples come back as lists.
    """

    def __init__(self, records: Iterable[Any]) -> None:
        content = bytearray()
        ends = []
        for record in records:
            content += json.dumps(record, separators=(",", ":")).encode()
            ends.append(len(content))
        self._bytes = np.frombuffer(bytes(content), np.uint8)
        self._stops = np.array(ends, np.int64)
        self._starts = np.concatenate([np.zeros(1, np.int64), self._stops])[:-1]

    def __len__(self) -> int:
        return len(self._stops)

    def __getitem__(self, index: Any) -> Any:
        """The record of a number; a slice or an array of numbers gives `PackedRecords`."""
        if isinstance(index, (slice, np.ndarray)):
            part = PackedRecords(())
            part._bytes = self._bytes
            part._starts, part._stops = self._starts[index], self._stops[index]
            return part
        return json.loads(self._bytes[self._starts[index] : self._stops[index]].tobytes())

    def digest(self) -> str:
        """A fingerprint of all records, in order."""
        summary = hashlib.sha256()
        for start, stop in zip(self._starts.tolist(), self._stops.tolist(), strict=True):
            summary.update(self._bytes[start:stop].tobytes())
        return summary.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes that all records take together."""
        return int(self._bytes.nbytes + self._starts.nbytes + self._stops.nbytes)
