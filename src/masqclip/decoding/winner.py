"""The second half of the panoptic rule: who keeps what was won. Free of torch.

The first half, which pixels each proposal wins, is `masqclip.decoding.panoptic`'s with PyTorch and
`masqclip.runtime.decoding`'s with NumPy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PanopticSegment:
    """One thing, or all regions of one stuff class.

    ``id`` counts from 1 and is the segment's value in the map; ``score`` (0..1) is the class
    probability of the proposal, for merged stuff that of its best one.
    """

    id: int
    class_id: int
    score: float
    thing: bool


def keep_winners(
    class_ids: Sequence[int],
    scores: Sequence[float],
    won: Sequence[int],
    area: Sequence[int],
    solid: Sequence[int],
    *,
    stuff_ids: Collection[int],
    overlap_threshold: float,
) -> tuple[list[PanopticSegment], list[int]]:
    """Drop proposals that were hidden by others, and merge the regions of a stuff class.

    Args:
        class_ids, scores: of the Q proposals that competed.
        won, area, solid: pixels that each has won, that its mask has, and that are both.
        stuff_ids: classes whose regions are one segment; all others are things.
        overlap_threshold: the share of its own mask that a proposal must win to be kept.

    Returns:
        The segments; and the segment's id of each proposal, 0 where it has none, with a last one
        of 0 that stands for nobody: Q + 1.
    """
    segments: list[PanopticSegment] = []
    stuff: dict[int, int] = {}  # class -> its place in segments
    segment_of = [0] * (len(class_ids) + 1)
    candidates = zip(class_ids, scores, won, area, solid, strict=True)
    for query, (class_id, score, pixels, own, kept) in enumerate(candidates):
        if kept == 0 or pixels / own < overlap_threshold:
            continue
        if class_id in stuff:
            merged = segments[stuff[class_id]]
            segments[stuff[class_id]] = replace(merged, score=max(merged.score, score))
            segment_of[query] = merged.id
            continue
        thing = class_id not in stuff_ids
        if not thing:
            stuff[class_id] = len(segments)
        segments.append(PanopticSegment(len(segments) + 1, class_id, score, thing))
        segment_of[query] = len(segments)
    return segments, segment_of
