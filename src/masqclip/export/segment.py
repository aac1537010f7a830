"""What a segment must have to be written in another format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from masqclip.data.named_masks import NamedMask
from masqclip.errors import MasqclipError


class ExportedSegment(NamedMask, Protocol):
    """A named mask, and its numbers."""

    @property
    def id(self) -> int:
        """Counts from 1 in its picture."""

    @property
    def class_id(self) -> int:
        """The name's place in the vocabulary."""

    @property
    def suggestion(self) -> str | None:
        """Of what was found without being asked for: the name that comes nearest."""


def check_kind(kind: str, kinds: Sequence[str]) -> None:
    """Refuse what is none of the kinds that a format knows.

    Raises:
        MasqclipError: with those that there are.
    """
    if kind not in kinds:
        known = [repr(one) for one in kinds]
        raise MasqclipError(f"kind {kind!r}: give {', '.join(known[:-1])} or {known[-1]}")
