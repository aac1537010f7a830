"""A bounded table of text embeddings by string, in memory and, where asked, in one file.

What is kept is one `EmbeddingTable`, which never changes: adding publishes another one in a single
assignment. A thread that reads holds strings and rows that belong together, whatever others add.

The file is ``text-<fingerprint>.safetensors``: the matrix ``embeddings`` [N, D] and, in its
metadata, the N strings as JSON. Readers always see a whole file. It is a convenience: one that
cannot be read is written anew, a folder that cannot be written to is left alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from masqclip.data.files import write_atomically

# 100 MB of float32 at 768 channels. A table that would outgrow this starts afresh.
MAX_STRINGS = 32_768


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Strings and their embeddings; nobody changes either.

    Attributes:
        embeddings: [N, D].
        rows: the row of each string.
    """

    embeddings: NDArray[np.float32]
    rows: dict[str, int] = field(default_factory=dict)

    def missing(self, strings: Sequence[str]) -> list[str]:
        """Those of the strings that are not in the table, each once, in order."""
        return [string for string in dict.fromkeys(strings) if string not in self.rows]

    def lookup(self, strings: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings [N, D] of strings that are all in the table."""
        return self.embeddings[[self.rows[string] for string in strings]]

    def joined(self, strings: Sequence[str], embeddings: NDArray[np.float32]) -> EmbeddingTable:
        """A table with more strings, none of which is in this one, and their embeddings [N, D]."""
        first = len(self.rows)
        return EmbeddingTable(
            np.concatenate([self.embeddings, embeddings]),
            self.rows | {string: first + i for i, string in enumerate(strings)},
        )


class EmbeddingCache:
    """Rows of embeddings, found by string.

    Any number of threads may read while one adds or saves; the `NameEncoder` has them take turns.

    Args:
        width: channels D of a row.
        file: where the table is kept between runs; None = in memory only.
        max_strings: rows at most.
    """

    def __init__(
        self, width: int, file: Path | None = None, *, max_strings: int = MAX_STRINGS
    ) -> None:
        self._max_strings = max_strings
        self._file = file
        self._table = EmbeddingTable(np.empty((0, width), np.float32))
        self._unsaved = False
        if file is not None:
            self._load(file)

    def __len__(self) -> int:
        return len(self._table.rows)

    def table(self) -> EmbeddingTable:
        """What is known now."""
        return self._table

    def add(self, strings: Sequence[str], embeddings: NDArray[np.float32]) -> EmbeddingTable:
        """Take in strings and their embeddings [N, D]; what exceeds the bound is not kept.

        Returns:
            What was known and what is new, kept or not.
        """
        before = self._table
        new = [i for i, string in enumerate(strings) if string not in before.rows]
        whole = before.joined([strings[i] for i in new], embeddings[new])
        if len(whole.rows) <= self._max_strings:
            self._table = whole
        else:
            kept = self._max_strings
            afresh = EmbeddingTable(before.embeddings[:0])
            self._table = afresh.joined(strings[:kept], embeddings[:kept])
        self._unsaved = True
        return whole

    def save(self) -> None:
        """Write the file, if there is one and anything is new."""
        if self._file is None or not self._unsaved:
            return
        self._unsaved = False
        table = self._table
        # A full disk or a read-only home must not fail what the embeddings were computed for.
        with contextlib.suppress(OSError, SafetensorError):
            strings = json.dumps(list(table.rows))
            content = save({"embeddings": table.embeddings}, metadata={"strings": strings})
            write_atomically(self._file, content)

    def _load(self, file: Path) -> None:
        if not file.is_file():  # opening a FIFO would wait for a writer
            return
        try:
            with safe_open(file, "np") as opened:
                strings = json.loads(opened.metadata()["strings"])
                table = opened.get_tensor("embeddings")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
            return
        if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
            return
        whole = table.shape == (len(strings), self._table.embeddings.shape[1])
        if whole and bool(np.isfinite(table).all()) and len(set(strings)) == len(strings):
            rows = {string: i for i, string in enumerate(strings)}
            self._table = EmbeddingTable(table.astype(np.float32), rows)
