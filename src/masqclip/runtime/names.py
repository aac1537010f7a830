"""Names to text embeddings by an exported word tower; see `masqclip.clip.name_encoder`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_encoder import NameEncoder
from masqclip.runtime.sessions import Sessions
from masqclip.runtime.settings import OnnxSettings
from masqclip.runtime.tokens import TOKENIZER, Tokens


class OnnxNames(NameEncoder):
    """The text side of an exported CLIP.

    Args:
        settings: of the folder.
        sessions: its graphs.
        cache: as in `NameEncoder`.

    Raises:
        MasqclipError: its tokenizer is damaged.
    """

    def __init__(
        self, settings: OnnxSettings, sessions: Sessions, *, cache: bool | str | Path = True
    ) -> None:
        super().__init__(
            width=settings.embedding_size,
            context_length=settings.text.context_length,
            templates=settings.text.templates,
            as_openai=settings.text.as_openai,
            cache=cache,
        )
        self._settings, self._sessions = settings, sessions
        self._tokens = Tokens(settings.folder, settings.text)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `NameEncoder`."""
        return self._tokens.ids(texts)

    def run_tower(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """See `NameEncoder`."""
        told = self._settings.text
        length = told.pad_to or max(1, *map(len, tokens))
        padded = np.full((len(tokens), length), told.pad_id, np.int64)
        for row, ids in zip(padded, tokens, strict=True):
            row[: len(ids)] = ids
        return self._sessions.run("text", {"token_ids": padded}, ["text_embeddings"])[0]

    def fingerprint(self) -> str:
        """See `NameEncoder`."""
        files = self._settings.files
        parts = [repr(self._settings.text), *(files[name][1] for name in ("text.onnx", TOKENIZER))]
        parts += [digest for name, (_, digest) in files.items() if name.endswith(".data")]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
