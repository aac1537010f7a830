"""Semantic decoding in the other published order: classes vote first, their scores are resized.

Where only semantic segmentation is asked for, the published evaluation sums the votes at the size
at which the model saw the picture and resizes the K score maps to the picture. `decode_semantic`
resizes the masks first, as the published evaluation does where it makes panoptic results as well.

Shapes: Q proposals, K classes, H x W output pixels, h x w pixels as seen.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.decoding.masks import ResizedMasks, in_full_precision, sound_proposals

_CHUNK_ELEMENTS = 1 << 24  # floats of the score maps at a time, 64 MiB


@in_full_precision
def decode_resized_scores(masks: ResizedMasks, log_probs: Tensor) -> Tensor:
    """The class of the highest resized score of every pixel: int64 [H, W].

    Args:
        masks: of a proposer.
        log_probs: [Q, K], log object score + log class probability.

    Returns:
        -1 everywhere if no proposal is left.
    """
    sound = sound_proposals(masks, log_probs)
    masks, log_probs = masks.select(sound.nonzero().flatten()), log_probs[sound]
    height, width = masks.output_size
    if len(log_probs) == 0:
        return torch.full((height, width), -1, dtype=torch.int64, device=masks.device)
    seen = replace(masks, output_size=masks.image_size)
    mask_probs = seen.rows(0, masks.image_size[0]).sigmoid()
    probs = log_probs.float().exp()
    best = mask_probs.new_full((height, width), -1.0)
    winner = torch.full((height, width), -1, dtype=torch.int64, device=masks.device)
    step = max(1, _CHUNK_ELEMENTS // (height * width))
    for first in range(0, probs.shape[1], step):
        votes = torch.einsum("qk,qhw->khw", probs[:, first : first + step], mask_probs)
        scores = F.interpolate(
            votes[None], size=(height, width), mode="bilinear", align_corners=False
        )[0]
        high, place = scores.max(dim=0)
        higher = high > best
        best = torch.where(higher, high, best)
        winner = torch.where(higher, place + first, winner)
    return winner
