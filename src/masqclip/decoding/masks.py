"""Mask logits of one image at output size, read a few rows at a time.

A proposer answers at a quarter of its padded frame; results are wanted at the size of the picture.
The published path (paper, section 4; landscape 3.4) resizes bilinearly to the padded frame, crops
the padding away and resizes to the picture. Both steps act on rows and columns apart, so any range
of output rows can be computed alone: no decoder ever holds Q x H x W floats.

Shapes: Q proposals; h, w stride-4 grid; H, W output pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

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

    def narrow_rows(self, start: int, stop: int) -> Tensor:
        """Return the same rows at a width of the source's own, [Q, stop - start, w].

        `widen_rows` makes of them what `rows` returns.
        """

    def select(self, query_ids: Tensor) -> MaskSource:
        """Return the same masks for these proposals only, in this order."""

    def sound(self) -> Tensor:
        """Whether all of a proposal's logits are numbers, [Q] bool."""


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

    def narrow_rows(self, start: int, stop: int) -> Tensor:
        return self.rows(start, stop)

    def select(self, query_ids: Tensor) -> FullMasks:
        return FullMasks(self.logits[query_ids])

    def sound(self) -> Tensor:
        return ~self.logits.amax(dim=(1, 2)).isnan()  # the highest of NaN and anything is NaN


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
        return widen_rows(self.narrow_rows(start, stop), self.output_size[1])

    def narrow_rows(self, start: int, stop: int) -> Tensor:
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
        return widen_rows(tall, self.padded_size[1])[..., : self.image_size[1]]

    def select(self, query_ids: Tensor) -> ResizedMasks:
        return replace(self, logits=self.logits[query_ids])

    def sound(self) -> Tensor:
        # Between infinity and a number there is none.
        return self.logits.isfinite().flatten(1).all(dim=1)


MaskLogits = Tensor | MaskSource
"""What a decoder accepts: logits [Q, H, W] at output size, or something that makes their rows."""


Decoder = TypeVar("Decoder", bound=Callable[..., Any])


def as_source(mask_logits: MaskLogits) -> MaskSource:
    """Let a plain tensor [Q, H, W] be read like any other source of masks."""
    return FullMasks(mask_logits) if isinstance(mask_logits, Tensor) else mask_logits


def sound_proposals(source: MaskSource, log_probs: Tensor) -> Tensor:
    """Which proposals hold numbers, in their masks and their classes: [Q] bool.

    In half precision a model can overflow. A proposal of NaN would win every pixel, since no number
    is higher; so decoders leave it out.

    Args:
        source: the masks.
        log_probs: [Q, K].
    """
    return source.sound() & ~log_probs.isnan().any(dim=1)


def in_full_precision(decode: Decoder) -> Decoder:
    """Let a decoder compute in float32 whatever its caller's autocast says.

    Its bounds, sums and comparisons are proven for float32 and cost little.
    """

    @wraps(decode)
    def run(mask_logits: MaskLogits, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(mask_logits.device.type, enabled=False):
            return decode(mask_logits, *args, **kwargs)

    return cast(Decoder, run)


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


def row_chunks(
    height: int, floats_per_row: int, *, at_most: int = CHUNK_ELEMENTS
) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) ranges of rows of which each stays within `CHUNK_ELEMENTS` floats.

    `at_most` is a limit to the number of rows as well.
    """
    step = min(max(1, CHUNK_ELEMENTS // max(1, floats_per_row)), at_most)
    for start in range(0, height, step):
        yield start, min(start + step, height)


def widen_rows(rows: Tensor, width: int) -> Tensor:
    """Resize [Q, R, w] to [Q, R, width] along its last axis only."""
    if rows.shape[-1] == width:
        return rows
    return F.interpolate(rows, size=width, mode="linear", align_corners=False)


def tile_bounds(rows: Tensor, width: int, columns: int) -> tuple[Tensor, Tensor]:
    """Between which numbers the logits lie in tiles of rows that are not yet widened.

    A widened number lies between its two neighbours, but for rounding.

    Args:
        rows: [Q, R, w].
        width: to which `widen_rows` would bring them.
        columns: of a tile, which is all R rows high.

    Returns:
        The lowest and the highest logits, both [Q, T] for T tiles from left to right.
    """
    lefts = torch.arange(0, width, columns, device=rows.device)
    rights = (lefts + columns - 1).clamp(max=width - 1)
    first, _, _ = _neighbours(lefts, rows.shape[-1], width)
    _, last, _ = _neighbours(rights, rows.shape[-1], width)
    reach = torch.arange(int((last - first).max()) + 1, device=rows.device)
    read = torch.minimum(first[:, None] + reach, last[:, None])  # [T, columns to look at]
    return rows.amin(dim=1)[:, read].amin(dim=-1), rows.amax(dim=1)[:, read].amax(dim=-1)


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
