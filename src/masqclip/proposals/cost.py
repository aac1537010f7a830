"""What a slow proposer costs on a processor, told before it begins, from its sizes alone.

The estimates are for people, who want to know whether it is seconds or minutes: multiplications
counted from the sizes, at a pace that was measured (`PACE`). What takes seconds is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from masqclip.proposals.point_grid import POINTS_AT_ONCE, GridProposer
from masqclip.proposals.sam3 import Sam3Proposer
from masqclip.proposals.segmenters import ModelProposer, SegmenterProposer
from masqclip.proposals.square import picture_side
from masqclip.proposals.union import UnionProposer

#: Multiplications a second of one thread, measured on a busy machine by its processor's time: of an
#: encoder (EoMT-L, SAM 2.1 B+), and of SAM's decoder, whose layers are small and maps are large.
PACE, DECODER_PACE = 22e9, 11e9
#: Seconds below which nothing is said.
PATIENCE = 20.0
_STRIDE = 16  # of the maps that decoders read
_FLOAT = 4  # bytes
_MAPS = 6  # of a point's largest ones that are held at a time


@dataclass(frozen=True)
class Cost:
    """What one picture takes.

    Attributes:
        seconds: about.
        gigabytes: beyond the weights, about.
        steps: what the proposer does so often, in words.
    """

    seconds: float
    gigabytes: float
    steps: str


def cost(proposer: nn.Module, *, threads: int) -> Cost | None:
    """What a picture takes on a processor; None where it is seconds, or not known.

    Args:
        proposer: of a model.
        threads: of the processor that compute.
    """
    if isinstance(proposer, UnionProposer):
        found = [cost(part, threads=threads) for part in proposer.parts]
        slow = [each for each in found if each is not None]
        if not slow:
            return None
        steps = " and ".join(each.steps for each in slow)
        most = max(each.gigabytes for each in slow)
        return Cost(sum(each.seconds for each in slow), most, steps)
    if isinstance(proposer, GridProposer):
        points = int(proposer.config.points_per_side) ** 2
        decoder = proposer.config.mask_decoder_config
        tokens, width = (proposer.side // _STRIDE) ** 2, int(decoder.hidden_size)
        # Each layer and the last attention project every token to half its width and back; then
        # the map grows to four times its sides, while its channels shrink.
        layers = int(decoder.num_hidden_layers)
        each = tokens * width**2 * (2 * layers + 2.5)
        seconds = _encoding(proposer, tokens) / PACE + points * each / DECODER_PACE
        memory = POINTS_AT_ONCE * _MAPS * tokens * 2 * width * _FLOAT
        steps = f"{points:,} points a picture"
    elif isinstance(proposer, Sam3Proposer):
        vision = proposer.config.vision_config.backbone_config
        tokens = (picture_side(vision.image_size) // picture_side(vision.patch_size)) ** 2
        words = len(proposer.prompts)
        rest = sum(
            parameter.numel()
            for name in ("detr_encoder", "detr_decoder", "mask_decoder")
            for parameter in getattr(proposer.segmenter, name).parameters()
        )
        seconds = (_encoding(proposer, tokens) + words * rest * tokens * 4) / PACE
        memory = 24 * tokens * int(vision.hidden_size) * _FLOAT * _MAPS
        steps = f"{words} words a picture"
    else:
        return None
    seconds /= max(1, threads)
    return Cost(seconds, memory / 1e9, steps) if seconds >= PATIENCE else None


def cost_note(proposer: ModelProposer, *, threads: int) -> str | None:
    """A line on what a picture takes on a processor, where it is long."""
    found = cost(proposer, threads=threads)
    if found is None:
        return None
    long = found.seconds >= 90
    time = f"{found.seconds / 60:.0f} minutes" if long else f"{found.seconds:.0f} seconds"
    return (
        f"the proposer asks for {found.steps}: about {time} and {found.gigabytes:.1f} GB beside "
        "the weights for each on this processor; a GPU takes a second or two"
    )


def _encoding(proposer: SegmenterProposer, tokens: int) -> float:
    """Multiplications of a picture's encoder, all of whose weights meet each token."""
    encoder = proposer.segmenter.vision_encoder
    return float(tokens * sum(parameter.numel() for parameter in encoder.parameters()))
