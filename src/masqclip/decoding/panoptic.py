"""Panoptic decoding: every pixel belongs to one segment or to none; things count, stuff merges.

The published rule (landscape 3.4; the inference of MaskFormer): proposals whose best class is
likelier than ``object_threshold`` compete for each pixel with probability x mask probability. The
winner gets the pixel if its own mask is there (>= 0.5). A proposal that won too small a part of its
mask (below ``overlap_threshold``) was hidden by others and is dropped, its pixels left unlabelled.

Shapes: Q proposals, K classes, H x W output pixels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from masqclip.decoding.masks import (
    MaskLogits,
    MaskSource,
    as_source,
    in_full_precision,
    mask_areas,
    row_chunks,
    sound_proposals,
    tile_bounds,
    widen_rows,
)
from masqclip.decoding.winner import PanopticSegment, keep_winners

#: Pixels of a magnified picture whose owner is one as a rule.
TILE_ROWS, TILE_COLUMNS = 64, 64
# How much wider a picture is than its masks, from where it pays to look at their bounds first.
_MAGNIFIED = 8
# By which a bound may be wrong: resizing and the sigmoid round in the seventh digit.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class PanopticResult:
    """Who owns each pixel: ``segment_map`` is int32 [H, W], 0 where nobody does."""

    segment_map: Tensor
    segments: list[PanopticSegment]


@in_full_precision
def decode_panoptic(
    mask_logits: MaskLogits,
    log_probs: Tensor,
    *,
    stuff_ids: Collection[int],
    object_threshold: float = 0.3,
    overlap_threshold: float = 0.3,
) -> PanopticResult:
    """Divide the picture among the proposals.

    Args:
        mask_logits: [Q, H, W] at output size, or a `MaskSource`.
        log_probs: [Q, K], log object score + log class probability.
        stuff_ids: classes whose regions are one segment; all others are things.
        object_threshold: a proposal takes part if its best probability is above this.
        overlap_threshold: the share of its own mask that a proposal must win to be kept.
    """
    source = as_source(mask_logits)
    probs, class_ids = log_probs.float().exp().max(dim=1)
    competes = (probs > object_threshold) & sound_proposals(source, log_probs)
    probs, class_ids = probs[competes], class_ids[competes]
    if len(probs) == 0:
        empty = torch.zeros(source.shape[1:], dtype=torch.int32, device=source.device)
        return PanopticResult(empty, [])

    contest = _contest(source.select(competes.nonzero().flatten()), probs)
    segments, ids = keep_winners(
        class_ids.tolist(),
        probs.tolist(),
        *contest.counts(),
        stuff_ids=stuff_ids,
        overlap_threshold=overlap_threshold,
    )
    # In place and in bands: an index into a map of 50 megapixels is 400 MB.
    owner = contest.owner
    segment_of = torch.tensor(ids, dtype=torch.int32, device=source.device)
    for start, stop in row_chunks(*owner.shape):
        band = owner[start:stop]
        band.copy_(segment_of.index_select(0, band.flatten()).view_as(band))
    return PanopticResult(owner, segments)


@dataclass(frozen=True)
class _Contest:
    """Who won which pixels; all counts are pixels, one int64 per competing proposal."""

    owner: Tensor  # [H, W] int32: the winner where its own mask is, else Q
    won: Tensor  # where it beat the others, inside its mask or not
    area: Tensor  # its mask (>= 0.5)
    solid: Tensor  # both: what it owns

    def counts(self) -> tuple[list[int], list[int], list[int]]:
        return self.won.tolist(), self.area.tolist(), self.solid.tolist()


def _contest(source: MaskSource, probs: Tensor) -> _Contest:
    """Let the proposals compete for the pixels, band by band."""
    queries, height, width = source.shape
    owner = torch.empty((height, width), dtype=torch.int32, device=source.device)
    contest = _Contest(owner, *torch.zeros((3, queries), dtype=torch.int64, device=source.device))
    own_width = source.narrow_rows(0, 1).shape[-1]
    magnified = source.device.type == "cpu" and width >= _MAGNIFIED * own_width
    at_most = TILE_ROWS if magnified else height
    for start, stop in row_chunks(height, queries * width, at_most=at_most):
        if magnified:
            _decide_tiles(contest, owner[start:stop], source.narrow_rows(start, stop), probs)
        else:
            owner[start:stop] = _decide_pixels(contest, source.rows(start, stop), probs)
    return contest


def _decide_pixels(contest: _Contest, logits: Tensor, probs: Tensor) -> Tensor:
    """The owners [R, C] of pixels with logits [Q, R, C], which are counted."""
    queries = len(probs)
    mask_probs = logits.sigmoid()
    # max() finds the same first winner as argmax(), several times faster on a processor.
    winner = (probs[:, None, None] * mask_probs).max(dim=0).indices
    inside = mask_probs >= 0.5
    owners = torch.where(inside.gather(0, winner[None])[0], winner, queries)
    contest.won.add_(winner.flatten().bincount(minlength=queries))
    contest.area.add_(mask_areas(inside))
    contest.solid.add_(owners.flatten().bincount(minlength=queries + 1)[:queries])
    return owners


def _decide_tiles(contest: _Contest, owner: Tensor, rows: Tensor, probs: Tensor) -> None:
    """Decide a band of a magnified picture, pixel by pixel only in tiles that are disputed.

    Of most tiles the bounds of the logits say who wins all of their pixels, and whose masks they
    are in. The result is that of `_decide_pixels`.

    Args:
        contest: what to count in.
        owner: [R, W], the band to fill.
        rows: [Q, R, w], logits that are not yet widened.
        probs: [Q].
    """
    queries, (height, width) = len(probs), owner.shape
    low, high = tile_bounds(rows, width, TILE_COLUMNS)
    best, winner = (probs[:, None] * low.sigmoid()).max(dim=0)
    rival = (probs[:, None] * high.sigmoid()).scatter(0, winner[None], -1.0).amax(dim=0)
    error = _ROUNDING * (1 + torch.maximum(low.abs(), high.abs()))
    outside = high < -error
    settled = (best > rival + _ROUNDING) & ((low > error) | outside).all(dim=0)

    sizes = torch.full_like(winner, TILE_COLUMNS)
    sizes[-1] = width - (len(sizes) - 1) * TILE_COLUMNS
    pixels = torch.where(settled, height * sizes, 0)
    owners = torch.where(outside.gather(0, winner[None])[0], queries, winner)
    contest.won.index_add_(0, winner, pixels)
    contest.area.add_(((~outside) * pixels).sum(dim=1))
    # Pixels of nobody are given to a row past the last.
    owned = torch.zeros(queries + 1, dtype=torch.int64).index_add_(0, owners, pixels)
    contest.solid.add_(owned[:queries])
    owner[:] = owners.int().repeat_interleave(sizes)

    disputed = (~settled).repeat_interleave(sizes).nonzero().flatten()
    if len(disputed):
        logits = widen_rows(rows, width)[..., disputed]
        owner[:, disputed] = _decide_pixels(contest, logits, probs).int()
