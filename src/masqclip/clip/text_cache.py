"""A bounded table of text embeddings by string, in memory and, where asked, in one file.

The file is ``text-<fingerprint>.safetensors``: the matrix ``embeddings`` [N, D] and, in its
metadata, the N strings as JSON. It is written beside itself and moved into place, so readers
always see a whole file. It is a convenience: one that cannot be read is written anew, a folder
that cannot be written to is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

# 100 MB of float32 at 768 channels. A table that would outgrow this starts afresh.
MAX_STRINGS = 32_768


class EmbeddingCache:
    """Rows of float32 embeddings on the CPU, found by string.

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
        self._rows: dict[str, int] = {}
        self._table = torch.empty(0, width)
        self._unsaved = False
        if file is not None:
            self._load(file)

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, strings: Sequence[str]) -> list[str]:
        """Those of the strings that are not in the table, each once, in order."""
        return [string for string in dict.fromkeys(strings) if string not in self._rows]

    def lookup(self, strings: Sequence[str]) -> Tensor:
        """Embeddings [N, D] of strings that are all in the table."""
        return self._table[[self._rows[string] for string in strings]]

    def add(self, strings: Sequence[str], embeddings: Tensor) -> None:
        """Take in new strings and their embeddings [N, D]; what exceeds the bound is not kept."""
        if len(self) + len(strings) > self._max_strings:
            self._rows, self._table = {}, self._table[:0]
        strings = strings[: self._max_strings]
        first = len(self)
        self._rows |= {string: first + i for i, string in enumerate(strings)}
        self._table = torch.cat([self._table, embeddings[: len(strings)].float().cpu()])
        self._unsaved = True

    def save(self) -> None:
        """Write the file, if there is one and anything is new."""
        if self._file is None or not self._unsaved:
            return
        self._unsaved = False
        # A full disk or a read-only home must not fail what the embeddings were computed for.
        with contextlib.suppress(OSError, SafetensorError):
            self._write(self._file)

    def _write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
        os.close(handle)
        try:
            strings = json.dumps(list(self._rows))
            save_file({"embeddings": self._table}, name, metadata={"strings": strings})
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise

    def _load(self, file: Path) -> None:
        try:
            with safe_open(file, "pt") as opened:
                strings = json.loads(opened.metadata()["strings"])
                table = opened.get_tensor("embeddings")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return
        whole = isinstance(strings, list) and table.shape == (len(strings), self._table.shape[1])
        if whole and bool(table.isfinite().all()) and len(set(strings)) == len(strings):
            self._rows = {string: i for i, string in enumerate(strings)}
            self._table = table.float()
