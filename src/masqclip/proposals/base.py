"""What a proposer is: pixels in, class-agnostic masks with an object score out.

A proposer knows "an object" (or a region of stuff), never which one; naming is CLIP's part. Any
universal segmenter fits behind the protocol, because only masks and object logits cross it.

Shapes: `B` images, `Q` proposals, `H W` the padded frame, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class Proposals:
    """Masks without names.

    Attributes:
        mask_logits: [B, Q, h, w], at stride 4 of the padded frame; a pixel is inside where > 0.
        object_logits: [B, Q, 2], (object, no object).
    """

    mask_logits: Tensor
    object_logits: Tensor


class Proposer(Protocol):
    """Anything that turns a batch of frames into `Proposals`."""

    def __call__(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks.

        Args:
            pixel_values: [B, 3, H, W] normalised RGB, zero-padded at the bottom right.
            pixel_mask: [B, H, W] bool, true where the picture is and false on padding.
        """
        ...


def object_log_scores(object_logits: Tensor) -> Tensor:
    """The log-probability that a proposal is an object: [B, Q, 2] -> [B, Q]."""
    return object_logits.log_softmax(dim=-1)[..., 0]
