"""Semantic decoding: one class a pixel.

Every proposal votes for every class with its probability, wherever its mask is
(paper, section 4; the marginalisation of MaskFormer): ``sum_q p(q, k) * sigmoid(mask_q)``.

Shapes: Q proposals, K classes, H x W output pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from masqclip.decoding.masks import (
    MaskLogits,
    MaskSource,
    as_source,
    in_full_precision,
    row_chunks,
    sound_proposals,
)

#: Pixels in which a class wins or cannot win as a whole: small enough to hold few masks' borders.
TILE_ROWS, TILE_COLUMNS = 16, 32
_LEADERS = 8


@dataclass(frozen=True)
class SemanticResult:
    """The winning class of every pixel.

    ``class_map`` is int64 [H, W], -1 where nothing reached the threshold; ``scores`` is float32
    [H, W], the winner's score, also where it was too low to be reported.
    """

    class_map: Tensor
    scores: Tensor


@in_full_precision
def semantic_scores(mask_logits: MaskLogits, log_probs: Tensor) -> Tensor:
    """Return the published class scores float32 [K, H, W], all at once.

    Args:
        mask_logits: [Q, H, W] at output size, or a `MaskSource`.
        log_probs: [Q, K], log object score + log class probability.
    """
    source, log_probs = _voters(as_source(mask_logits), log_probs)
    return _vote(source.rows(0, source.shape[1]), log_probs)


@in_full_precision
def decode_semantic(
    mask_logits: MaskLogits, log_probs: Tensor, *, min_score: float = 0.0
) -> SemanticResult:
    """Give every pixel the class of the highest score.

    Works through the picture in tiles, so that K x H x W never exists, and computes the scores of
    those classes only that can win in a tile.

    Args:
        mask_logits: [Q, H, W] at output size, or a `MaskSource`.
        log_probs: [Q, K], log object score + log class probability.
        min_score: a pixel whose best score is lower, or zero, stays unlabelled (-1). A score sums
            over proposals, so it can exceed 1 where several of them agree.
    """
    source, log_probs = _voters(as_source(mask_logits), log_probs)
    queries, height, width = source.shape
    class_map = torch.full((height, width), -1, dtype=torch.int64, device=source.device)
    scores = torch.zeros((height, width), dtype=torch.float32, device=source.device)
    if queries == 0:
        return SemanticResult(class_map, scores)

    votes = log_probs.float().exp()
    # Where nobody votes, as for proposals of no probability, the first class has won nothing.
    least = max(min_score, torch.finfo(votes.dtype).tiny)
    for start, stop in _bands(source.device, height, width * max(votes.shape)):
        mask_probs = source.rows(start, stop).sigmoid()
        best, winner = _contest(mask_probs, votes)
        scores[start:stop] = best
        class_map[start:stop] = winner.masked_fill(best < least, -1)
    return SemanticResult(class_map, scores)


def _voters(source: MaskSource, log_probs: Tensor) -> tuple[MaskSource, Tensor]:
    """Masks and log-probabilities without proposals that hold no numbers."""
    sound = sound_proposals(source, log_probs)
    if bool(sound.all()):
        return source, log_probs
    return source.select(sound.nonzero().flatten()), log_probs[sound]


def _bands(device: torch.device, height: int, floats_per_row: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that are decided together: a tile's on a processor, all that fit elsewhere."""
    if device.type != "cpu":
        yield from row_chunks(height, floats_per_row)
        return
    for start in range(0, height, TILE_ROWS):
        yield start, min(start + TILE_ROWS, height)


def _vote(mask_logits: Tensor, log_probs: Tensor) -> Tensor:
    """Sum the proposals' votes: masks [Q, R, W] and log-probabilities [Q, K] to [K, R, W]."""
    return torch.einsum("qk,qrw->krw", log_probs.float().exp(), mask_logits.sigmoid())


def _contest(mask_probs: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """The best score and its class at every pixel of a band: both [R, W].

    Few classes can win in a small tile, and it is proven which: no score of class k exceeds
    ``sum_q votes[q, k] * max(mask_q)`` in the tile. The scores of a few leaders are computed first;
    then those of every class whose bound reaches the lowest pixel's best. The result is that of the
    arg-max over all classes, whatever their number.

    Args:
        mask_probs: [Q, R, W].
        votes: [Q, K], p(q, k).
    """
    if mask_probs.device.type != "cpu":
        # A GPU has the products done before it could be told which of them to leave out.
        return torch.einsum("qk,qrw->krw", votes, mask_probs).max(dim=0)
    rows, width = mask_probs.shape[1:]
    span = min(TILE_COLUMNS, width)
    # The last tile ends with the picture and may repeat columns of the one before.
    lefts = [*range(0, width - span, span), width - span]
    whole = len(lefts) - 1
    tiles = mask_probs.new_empty(len(lefts), len(mask_probs), rows, span)
    tiles[:whole] = mask_probs[..., : whole * span].unflatten(2, (whole, span)).permute(2, 0, 1, 3)
    tiles[whole] = mask_probs[..., lefts[-1] :]
    tiles = tiles.flatten(2)
    # Sums in another order may differ in the last bits; a bound must not fall short of a score.
    bounds = (tiles.amax(dim=-1) @ votes) * (1 + 1e-5)  # [T, K]
    favourites = votes.argmax(dim=1).unique()
    leaders = bounds[:, favourites].topk(min(_LEADERS, len(favourites))).indices
    leaders = favourites[leaders].sort(dim=1).values  # of equal scores the first class wins
    best, place = (votes.T[leaders] @ tiles).max(dim=1)
    winner = leaders.gather(1, place)
    bounds.scatter_(1, leaders, -1.0)
    for tile in (bounds.amax(dim=1) >= best.amin(dim=1)).nonzero().flatten().tolist():
        _let_others_in(tiles[tile], votes, bounds[tile], best[tile], winner[tile])
    repeated = (len(lefts) - 1) * span - lefts[-1]
    return _join(best, rows, repeated), _join(winner, rows, repeated)


def _join(tiles: Tensor, rows: int, repeated: int) -> Tensor:
    """Tiles [T, P] side by side: [rows, W], without the last one's first `repeated` columns."""
    *whole, last = tiles.unflatten(1, (rows, -1)).unbind()
    return torch.cat([*whole, last[:, repeated:]], dim=1)


def _let_others_in(
    mask_probs: Tensor, votes: Tensor, bounds: Tensor, best: Tensor, winner: Tensor
) -> None:
    """Give a tile's pixels to classes beyond the leaders, in place, the most promising first.

    Args:
        mask_probs: [Q, P] of one tile.
        votes: [Q, K].
        bounds: [K], what no score of the class exceeds here.
        best, winner: [P], so far.
    """
    order = bounds.argsort(descending=True)
    start, number = 0, _LEADERS
    while start < len(order) and bool(bounds[order[start]] >= best.min()):
        classes = order[start : start + number].sort().values
        scores, place = (votes.T[classes] @ mask_probs).max(dim=0)
        challenger = classes[place]
        wins = (scores > best) | ((scores == best) & (challenger < winner))
        best[wins], winner[wins] = scores[wins], challenger[wins]
        start, number = start + number, 2 * number
