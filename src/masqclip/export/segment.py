"""What a segment must have to be written in another format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError


class ExportedSegment(Protocol):
    """One mask and its name: `masqclip.result.Segment` is one."""

    @property
    def id(self) -> int:
        """Counts from 1 in its picture."""

    @property
    def name(self) -> str:
        """As the vocabulary says it."""

    @property
    def class_id(self) -> int:
        """The name's place in the vocabulary."""

    @property
    def score(self) -> float:
        """0..1."""

    @property
    def thing(self) -> bool:
        """A countable thing, or a region of stuff."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[H,W], which may be made at every look."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels, ends exclusive; zeros for an empty mask."""

    @property
    def area(self) -> int:
        """Pixels of the mask."""


def check_kind(kind: str, kinds: Sequence[str]) -> None:
    """Refuse what is none of the kinds that a format knows.

    Raises:
        MasqclipError: with those that there are.
    """
    if kind not in kinds:
        known = [repr(one) for one in kinds]
        raise MasqclipError(f"kind {kind!r}: give {', '.join(known[:-1])} or {known[-1]}")
