"""What drawing and exporting ask of a segment: a mask and its name."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class NamedMask(Protocol):
    """One mask and its name: `masqclip.result.Segment` is one."""

    @property
    def name(self) -> str:
        """As the vocabulary says it."""

    @property
    def score(self) -> float:
        """How sure the model is, 0..1."""

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
