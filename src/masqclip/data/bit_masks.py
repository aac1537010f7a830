"""Masks a bit a pixel and no larger than their box: for the many masks of one large picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError

Box = tuple[int, int, int, int]


def mask_box(mask: NDArray[np.bool_]) -> Box:
    """The box of a mask [H, W]: x0, y0, x1, y1 in pixels, ends exclusive; zeros if it is empty."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return (0, 0, 0, 0)
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def label_boxes(labels: NDArray[np.integer], highest: int) -> NDArray[np.int64]:
    """The box of each label of a map [H,W] of labels 0 to `highest`: [highest + 1, 4], as
    `mask_box` has them; that of a label that is nowhere is nothing."""
    height, width = labels.shape
    in_rows = np.zeros((height, highest + 1), bool)
    in_columns = np.zeros((width, highest + 1), bool)
    places = np.arange(width)
    for row, found in zip(labels, in_rows, strict=True):
        found[row] = True
        in_columns[places, row] = True
    rows, columns = in_rows.argmax(axis=0), in_columns.argmax(axis=0)
    last_rows = height - in_rows[::-1].argmax(axis=0)
    last_columns = width - in_columns[::-1].argmax(axis=0)
    return np.stack([columns, rows, last_columns, last_rows], axis=1)


def binary_mask(mask: NDArray[Any], *, what: str) -> NDArray[np.bool_]:
    """A mask [H, W] as bool.

    Args:
        mask: bool, which is returned itself, or 0 and 1 of any type.
        what: whose it is, for errors.

    Raises:
        MasqclipError: it has other axes, or holds other numbers, such as probabilities or logits.
    """
    if mask.ndim != 2:
        raise MasqclipError(f"the mask of {what} has the shape {mask.shape}: give [H, W]")
    if mask.dtype == bool:
        return mask
    inside = mask == 1
    wrong = mask[~(inside | (mask == 0))]
    if wrong.size:
        raise MasqclipError(
            f"the mask of {what} holds {wrong.flat[0]}: give bool, or 0 and 1 (of probabilities "
            "mask > 0.5, of logits mask > 0)"
        )
    return np.asarray(inside, bool)


@dataclass(frozen=True, eq=False)
class BitMask:
    """A mask as the bits of its box.

    Attributes:
        shape: (H, W) of the picture.
        box: x0, y0, x1, y1; all that is inside lies in it.
        bits: [y1 - y0, bytes of a row] uint8.
        area: pixels inside.
    """

    shape: tuple[int, int]
    box: Box
    bits: NDArray[np.uint8]
    area: int

    @classmethod
    def pack(
        cls, part: NDArray[np.bool_], *, shape: tuple[int, int], at: tuple[int, int] = (0, 0)
    ) -> BitMask:
        """Pack a mask.

        Args:
            part: [h, w] bool, all of the mask or the part of it that is not empty.
            shape: (H, W) of the whole.
            at: (x, y) of the part in the whole.
        """
        x0, y0, x1, y1 = mask_box(part)
        crop = part[y0:y1, x0:x1]
        box = (at[0] + x0, at[1] + y0, at[0] + x1, at[1] + y1)
        return cls(shape, box, np.packbits(crop, axis=1), int(np.count_nonzero(crop)))

    def unpack(self) -> NDArray[np.bool_]:
        """The mask [H, W], which may not be written to: it is made anew at every call."""
        mask = np.zeros(self.shape, bool)
        x0, y0, x1, y1 = self.box
        if self.area:
            mask[y0:y1, x0:x1] = np.unpackbits(self.bits, axis=1, count=x1 - x0).view(bool)
        mask.flags.writeable = False
        return mask
