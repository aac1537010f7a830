"""What a slow proposer says of itself before it begins."""

from __future__ import annotations

import torch
import transformers
from families import FAMILIES

from masqclip.proposals.cost import Cost, cost, cost_note
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.sam import Sam2Proposer, SamProposer
from masqclip.proposals.sam3 import Sam3Proposer
from masqclip.proposals.sight import Sight
from masqclip.proposals.union import UnionProposer
from masqclip.proposals.words import asking


def test_minutes_are_told_and_seconds_are_not() -> None:
    """Of models that are described and not made: full sizes cost nothing here."""
    with torch.device("meta"):
        sam = SamProposer(transformers.SamConfig())
        sam2 = Sam2Proposer(transformers.Sam2Config())
        sam3 = Sam3Proposer(transformers.Sam3Config())
        tiny = Sam2Proposer(FAMILIES["sam2"]().config)
        eomt = EomtProposer(FAMILIES["eomt"]().config)
        few = SamProposer(transformers.SamConfig(points_per_side=4))
    assert cost(tiny, threads=1) is cost(eomt, threads=1) is None
    found, other, least = (cost(proposer, threads=2) for proposer in (sam, sam2, few))
    assert found is not None
    assert other is not None
    assert found.steps == other.steps == "1,024 points a picture"
    assert 40 < other.seconds < found.seconds < 600
    assert 0.5 < found.gigabytes < 8
    assert least is None or least.seconds < found.seconds / 2
    one, two = cost(sam, threads=1), cost(sam, threads=4)
    assert isinstance(one, Cost)
    assert isinstance(two, Cost)
    assert one.seconds == 4 * two.seconds, "by the number of threads"
    words = cost(sam3, threads=2)
    assert words is not None
    assert words.steps == "2 words a picture"
    with asking([[1, 2]] * 30):
        more = cost(sam3, threads=2)
    assert more is not None
    assert more.seconds > 2 * words.seconds
    union = cost(UnionProposer([sam, eomt, sam3], [Sight()] * 3), threads=2)
    assert union is not None
    assert union.seconds == found.seconds + words.seconds
    assert union.steps == "1,024 points a picture and 2 words a picture"
    assert cost(UnionProposer([tiny, eomt], [Sight()] * 2), threads=2) is None


def test_the_line() -> None:
    with torch.device("meta"):
        sam = SamProposer(transformers.SamConfig())
    line = cost_note(sam, threads=1)
    assert line is not None
    assert line.startswith("the proposer asks for 1,024 points a picture: about ")
    assert " minutes and " in line
    assert cost_note(EomtProposer(FAMILIES["eomt"]().config), threads=1) is None
