"""One mask and its name: what a result is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from masqclip.data.bit_masks import BitMask, binary_mask, mask_box
from masqclip.export.polygons import TOLERANCE, mask_polygons


@dataclass(frozen=True, eq=False)
class Segment:
    """One mask and its name.

    Attributes:
        id: counts from 1 in its picture; the value in a panoptic map.
        name: as the vocabulary says it.
        class_id: the name's place in the vocabulary.
        score: 0..1.
        thing: a countable thing, or a region of stuff.
        mask: [H,W] bool; 0 and 1 become bool. Where a picture's masks would take much memory they
            are kept as bits; each look then makes an array anew, which cannot be written to.
        suggestion: of what was found without being asked for, the name that comes nearest.

    Raises:
        MasqclipError: the mask holds other numbers, such as probabilities.
    """

    id: int
    name: str
    class_id: int
    score: float
    thing: bool
    mask: NDArray[np.bool_] = field(repr=False)
    suggestion: str | None = None

    def __post_init__(self) -> None:
        mask = binary_mask(np.asarray(self.mask), what=f"the segment {self.name!r}")
        object.__setattr__(self, "mask", mask)

    @classmethod
    def packed(
        cls,
        id: int,
        name: str,
        class_id: int,
        score: float,
        thing: bool,
        bits: BitMask,
        suggestion: str | None = None,
    ) -> Segment:
        """A segment that keeps its mask as bits."""
        segment = cls.__new__(cls)
        fields = {"id": id, "name": name, "class_id": class_id, "score": score, "thing": thing}
        known = {"box": bits.box if bits.area else (0, 0, 0, 0), "area": bits.area}
        segment.__dict__.update(fields, _bits=bits, suggestion=suggestion, **known)
        return segment

    if not TYPE_CHECKING:  # where every name would be an attribute

        def __getattr__(self, name: str) -> np.ndarray:
            """The mask of a packed segment, which has none of its own."""
            if name == "mask" and "_bits" in self.__dict__:
                return self.__dict__["_bits"].unpack()
            raise AttributeError(f"a Segment has no {name!r}")

    @property
    def label(self) -> str:
        """What people are told: the name, or what is suggested, with a question mark."""
        return self.name if self.suggestion is None else f"{self.suggestion}?"

    def called(self, name: str) -> Segment:
        """The same mask under another name, of which nothing is suggested."""
        twin = Segment.__new__(Segment)
        twin.__dict__.update(self.__dict__, name=name, suggestion=None)
        return twin

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels, ends exclusive; zeros for an empty mask."""
        return mask_box(self.mask)

    @cached_property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))

    def polygons(self, *, tolerance: float = TOLERANCE) -> list[NDArray[np.float64]]:
        """The outlines of the mask's parts, the largest first, holes filled.

        Args:
            tolerance: pixels that an outline may be moved by to have fewer points.

        Returns:
            [N,2] of x, y each, clockwise, not closed; (0, 0) is the picture's upper left corner,
            and a lone pixel is a square of side 1.

        Raises:
            MasqclipError: the tolerance is no number of pixels.
        """
        return mask_polygons(self.mask, tolerance=tolerance)
