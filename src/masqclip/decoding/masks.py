"""Mask logits of one image at output size, read a few rows at a time.

A proposer answers at a quarter of its padded frame; results are wanted at the size of the picture.
The published path (paper, section 4; landscape 3.4) resizes bilinearly to the padded frame, crops
the padding away and resizes to the picture. Both steps act on rows and columns apart, so any range
of output rows can be computed alone: no decoder ever holds Q x H x W floats.

Shapes: Q proposals; h, w stride-4 grid; H, W output pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 1 << 21
"""Floats of one intermediate result of a decoder: 8 MiB, which processors' caches like best."""


class MaskSource(Protocol):
    """Mask logits of Q proposals at output size, of which rows can be asked for."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Q, H, W)."""

    @property
    def device(self) -> torch.device:
        """Where the rows appear."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the float32 logits [Q, stop - start, W] of output rows start to stop, >= 1 row."""

    def select(self, query_ids: Tensor) -> MaskSource:
        """Return the same masks for these proposals only, in this order."""


@dataclass(frozen=True)
class FullMasks:
    """Mask logits that already stand at output size."""

    logits: Tensor  # [Q, H, W]

    @property
    def shape(self) -> tuple[int, int, int]:
        queries, height, width = self.logits.shape
        return queries, height, width

    @property
    def device(self) -> torch.device:
        return self.logits.device

    def rows(self, start: int, stop: int) -> Tensor:
        return self.logits[:, start:stop].float()

    def select(self, query_ids: Tensor) -> FullMasks:
        return FullMasks(self.logits[query_ids])


@dataclass(frozen=True)
class ResizedMasks:
    """Mask logits of the padded frame, brought to output size when their rows are read.

    Sizes are (height, width) in pixels. ``padded_size`` is the frame that the proposer saw and that
    ``logits`` cover; ``image_size`` is the part of it that is picture (top left);
    ``output_size`` is the size of the masks that are wanted.
    """

    logits: Tensor  # [Q, h, w]
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.logits.shape[0], *self.output_size)

    @property
    def device(self) -> torch.device:
        return self.logits.device

    def rows(self, start: int, stop: int) -> Tensor:
        # Rows first: at the grid's own width they cost little, and only those asked for are made.
        wanted = torch.arange(start, stop, device=self.device)
        below, above, fraction = _neighbours(wanted, self.image_size[0], self.output_size[0])
        first, last = int(below[0]), int(above[-1])
        frame_rows = torch.arange(first, last + 1, device=self.device)
        picture = _take_rows(
            self.logits.float(),
            *_neighbours(frame_rows, self.logits.shape[1], self.padded_size[0]),
        )
        tall = _take_rows(picture, below - first, above - first, fraction)
        wide = _resize_columns(tall, self.padded_size[1])[..., : self.image_size[1]]
        return _resize_columns(wide, self.output_size[1])

    def select(self, query_ids: Tensor) -> ResizedMasks:
        return replace(self, logits=self.logits[query_ids])


MaskLogits = Tensor | MaskSource
"""What a decoder accepts: logits [Q, H, W] at output size, or something that makes their rows."""


def as_source(mask_logits: MaskLogits) -> MaskSource:
    """Let a plain tensor [Q, H, W] be read like any other source of masks."""
    return FullMasks(mask_logits) if isinstance(mask_logits, Tensor) else mask_logits


def resize_masks(
    mask_logits: Tensor,
    *,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Resize a proposer's mask logits [Q, h, w] to the picture: float32 [Q, H, W], all at once.

    For large pictures hand `ResizedMasks`, with the same arguments, to a decoder instead.
    """
    source = ResizedMasks(mask_logits, padded_size, image_size, output_size)
    return source.rows(0, output_size[0])


def row_chunks(height: int, floats_per_row: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) ranges of rows of which each stays within `CHUNK_ELEMENTS` floats."""
    step = max(1, CHUNK_ELEMENTS // max(1, floats_per_row))
    for start in range(0, height, step):
        yield start, min(start + step, height)


def mask_areas(masks: Tensor) -> Tensor:
    """The pixels of each mask, int64 [Q], of masks [Q, H, W] bool."""
    # A sum of booleans would be one of int64 numbers: four times as slow.
    return masks.view(torch.uint8).sum(dim=2, dtype=torch.int32).sum(dim=1)


def _neighbours(wanted: Tensor, size_in: int, size_out: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two input rows of each output row and how far it lies towards the second.

    Pixel centres are at half integers (``align_corners=False``); beyond the border the border row
    repeats.
    """
    # Positions need more than float32's 24 bits to keep their fraction on rows in the thousands.
    position = ((wanted.double() + 0.5) * (size_in / size_out) - 0.5).clamp(0, size_in - 1)
    below = position.long()
    above = (below + 1).clamp(max=size_in - 1)
    return below, above, (position - below).float()


def _take_rows(grid: Tensor, below: Tensor, above: Tensor, fraction: Tensor) -> Tensor:
    """Interpolate rows of ``grid`` [Q, h, w]; the other arguments are one number per new row."""
    return torch.lerp(grid[:, below], grid[:, above], fraction[:, None])


def _resize_columns(rows: Tensor, width: int) -> Tensor:
    """Resize [Q, R, w] to [Q, R, width] along its last axis only."""
    if rows.shape[-1] == width:
        return rows
    return F.interpolate(rows, size=width, mode="linear", align_corners=False)
