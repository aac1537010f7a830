"""What proposers see of a picture, told by their configurations, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masqclip.data.frames import resized_size
from masqclip.proposals.sight import Sight
from masqclip.proposals.square import fitted_size
from masqclip.proposals.union import UNION

# Where a configuration has the side of the square, and the published one. The videos' models hold
# the image's: SAM 2's beside the rest, SAM 3's as a part.
_VISION = ("vision_config", "backbone_config", "image_size")
_SIDES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "eomt": (("image_size",), 640),
    "eomt_dinov3": (("image_size",), 640),
    "sam": (("vision_config", "image_size"), 1024),
    "sam2": (_VISION, 1024),
    "sam2_video": (_VISION, 1024),
    "sam3": (_VISION, 1008),
    "sam3_video": (("detector_config", *_VISION), 1008),
}
#: transformers' model types that see one square.
SQUARE_TYPES = tuple(_SIDES)
#: Those that stretch pictures over their square; the others fit them into it.
STRETCHED = ("sam2", "sam2_video", "sam3", "sam3_video")


def square_side(proposer_type: str, config: Mapping[str, Any]) -> int | None:
    """The side in pixels of the one square that a proposer sees; None where it sees any size.

    Args:
        proposer_type: transformers' model type.
        config: the proposer's, as a dictionary.
    """
    if proposer_type not in _SIDES:
        return None
    path, value = _SIDES[proposer_type]
    found: Any = config
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is None:
        return value
    if isinstance(found, (list, tuple)) and len(set(found)) == 1:
        found = found[0]
    return found if type(found) is int else None


def seen_by(
    proposer_type: str, config: Mapping[str, Any], size: tuple[int, int]
) -> list[tuple[int, int]]:
    """(height, width) in pixels that a proposer sees of a picture; of a union, that each part sees.

    Args:
        proposer_type: a model's.
        config: the proposer's, as a dictionary.
        size: (height, width) of the picture in the model's frame.
    """
    if proposer_type == UNION:
        return [
            seen
            for part in config["parts"]
            for seen in seen_by(
                part["proposer_type"],
                part["proposer_config"],
                resized_size(*size, Sight.of(part["sight"], source="the sight of a proposer")),
            )
        ]
    if side := square_side(proposer_type, config):
        return [fitted_size(*size, side, stretch=proposer_type in STRETCHED)]
    return [size]
