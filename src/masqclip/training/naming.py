"""What a proposal should be named, and the loss on it (MasQCLIP, sec. 3.3).

Shapes: Q proposals, G annotations, R text rows (classes, then background).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: The target of a place where there is no mask: cross-entropy leaves it out.
NOTHING = -100


def assign_labels(
    mask_logits: Tensor,
    masks: Tensor,
    labels: Tensor,
    *,
    background: int,
    threshold: float = 0.4,
    size: int = 336,
) -> Tensor:
    """The text row that each proposal should be named with.

    Both sides are made binary masks of `size` x `size`. A proposal takes the label of the
    annotation with the lowest Dice cost, 1 - (2|A and B| + 1) / (|A| + |B| + 1), when that cost is
    below `threshold`; several may take the same one. All others are background.

    By that formula two masks without a pixel are alike. So an annotation that has none left at this
    size names nobody, and a proposal that has none is background.

    Args:
        mask_logits: [Q,h,w] over the frame.
        masks: [G,H,W] bool over the same frame; G may be zero.
        labels: [G] text rows.
        background: the row of the rest.
        threshold: largest cost, exclusive.
        size: side at which masks are compared, in pixels.

    Returns:
        [Q] int64.
    """
    nobody = torch.full((len(mask_logits),), background, device=mask_logits.device)
    if len(masks) == 0:
        return nobody
    with torch.autocast(mask_logits.device.type, enabled=False):  # bfloat16 cannot count pixels
        predicted = F.interpolate(
            mask_logits[None].float(), size=(size, size), mode="bilinear", align_corners=False
        )[0].flatten(1)
        predicted = (predicted.sigmoid() > 0.5).float()
        annotated = F.interpolate(masks[None].float(), size=(size, size), mode="nearest")[0]
        annotated = annotated.flatten(1)
        shared = predicted @ annotated.T
        sizes, annotated_sizes = predicted.sum(-1, keepdim=True), annotated.sum(-1)
    cost = 1 - (2 * shared + 1) / (sizes + annotated_sizes + 1)
    cost = cost.masked_fill((sizes == 0) | (annotated_sizes == 0), torch.inf)
    best, nearest = cost.min(dim=1)
    return torch.where(best < threshold, labels[nearest], nobody)


def tuning_loss(
    logits: Tensor, targets: Tensor, *, background_weight: float = 0.1, total: Tensor | None = None
) -> Tensor:
    """Weighted cross-entropy over classes and background, the last row of the words.

    Args:
        logits: [...,R], scaled cosines.
        targets: [...] rows; `NOTHING` does not count.
        background_weight: of targets that are the last row; a weighted mean is taken.
        total: the weight of all targets of the batch that these are a part of; of these alone
            unless given.

    Returns:
        A scalar; 0 where nothing counts.
    """
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = background_weight
    losses = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), weight, ignore_index=NOTHING, reduction="sum"
    )
    if total is None:
        total = weight[targets[targets != NOTHING]].sum()
    return losses / total.clamp(min=torch.finfo(losses.dtype).tiny)
