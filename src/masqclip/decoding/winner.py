"""What a panoptic map is made of. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


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
