"""What a proposer is: pixels in, class-agnostic masks with an object score out.

A proposer knows "an object" (or a region of stuff), never which one; naming is CLIP's part. Any
universal segmenter fits behind the protocol, because only masks and object logits cross it.

Shapes: `B` images, `Q` proposals, `H W` the padded frame, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
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


def tempered(log_scores: Tensor, log_probs: Tensor, trust: float) -> Tensor:
    """Log object scores [Q] that doubt less where a class is sure (OVRCOAT).

    Args:
        log_scores: [Q], log object scores.
        log_probs: [Q,K], log class probabilities.
        trust: 0..1, how far the probability of no object gives way to that of the best class.
    """
    nothing = -log_scores.expm1()
    sure = log_probs.amax(dim=-1).exp() if log_probs.shape[-1] else torch.zeros_like(nothing)
    return torch.log1p(-nothing * (1 - trust * sure))


def promising(proposals: Proposals, min_object_score: float) -> Proposals:
    """The proposals of a batch that can matter, in their order; as many for each picture."""
    if min_object_score <= 0:
        return proposals
    scores = object_log_scores(proposals.object_logits.float()).exp()
    scores = scores.nan_to_num(-1.0)  # to a top-k NaN is the highest
    count = max(1, int((scores >= min_object_score).sum(dim=1).max()))
    chosen = scores.topk(min(count, scores.shape[1])).indices.sort(dim=1).values[..., None]
    return Proposals(
        proposals.mask_logits.take_along_dim(chosen[..., None], dim=1),
        proposals.object_logits.take_along_dim(chosen, dim=1),
    )


def surely_objects(mask_logits: Tensor) -> Proposals:
    """Masks [B,Q,h,w] of a system that has no object score: all of them score one."""
    certain = mask_logits.new_tensor([0.0, -torch.inf])
    return Proposals(mask_logits, certain.expand(*mask_logits.shape[:2], 2))
