"""Vocabularies in memory, with their examples: bounded by number, bytes and the time nobody asks.

Like an upload, each has an identifier of its own that nobody can guess (`masqclip.serve.store`).
"""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from masqclip.clip.saved_vocabulary import SavedVocabulary
from masqclip.serve.settings import ServeSettings

#: No picture's identifier, and no word.
IDENTIFIER = re.compile("v-[0-9a-f]{32}")


@dataclass
class _Kept:
    saved: SavedVocabulary
    size: int
    used: float


class VocabularyStore:
    """Vocabularies by identifier, the least recently used out first.

    Args:
        settings: the bounds. One vocabulary that is larger than all may be by itself is kept until
            the next one comes.
        clock: seconds.
    """

    def __init__(
        self, settings: ServeSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._clock = settings, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, identifier: str) -> SavedVocabulary | None:
        """The vocabulary, which thereby becomes the most recently used one."""
        self._forget_idle()
        kept = self._kept.get(identifier)
        if kept is None:
            return None
        self._kept.move_to_end(identifier)
        kept.used = self._clock()
        return kept.saved

    def put(self, saved: SavedVocabulary, identifier: str | None = None) -> str:
        """Keep a vocabulary, in the place of one or as a new one; returns its identifier."""
        self._forget_idle()
        identifier = identifier or f"v-{secrets.token_hex(16)}"
        self.remove(identifier)
        kept = self._kept[identifier] = _Kept(saved, _size(saved), self._clock())
        self.bytes += kept.size
        while len(self) > 1 and (
            len(self) > self._settings.max_vocabularies
            or self.bytes > self._settings.vocabulary_bytes
        ):
            self.remove(next(iter(self._kept)))
        return identifier

    def remove(self, identifier: str) -> bool:
        """Forget one; false if it is not there."""
        kept = self._kept.pop(identifier, None)
        if kept is not None:
            self.bytes -= kept.size
        return kept is not None

    def _forget_idle(self) -> None:
        oldest = self._clock() - self._settings.vocabulary_seconds
        while self._kept and next(iter(self._kept.values())).used < oldest:
            self.remove(next(iter(self._kept)))


def _size(saved: SavedVocabulary) -> int:
    """Bytes, about: a string of Python has some fifty beside its letters."""
    rows = (*saved.categories, *saved.rivals)
    strings = [text for row in rows for text in (row.name, *row.prompts)]
    strings += [*saved.templates, *saved.assumed]
    size = sum(50 + 4 * len(text) for text in strings) + 500 * len(rows)
    spaces = {}
    for row in rows:
        if (examples := row.examples) is not None:
            size += examples.embeddings.nbytes + examples.context.nbytes
            size += sum(50 + len(thumbnail) for thumbnail in examples.thumbnails)
            spaces[id(examples.space)] = examples.space
    return size + sum(space.probe.nbytes + space.word_mean.nbytes for space in spaces.values())
