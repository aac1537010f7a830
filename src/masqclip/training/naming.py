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


def consistency(logits: Tensor, untuned: Tensor, counted: Tensor) -> Tensor:
    """How far tuned queries have left what untuned ones say: the sum over masks of the divergence
    of Kullback and Leibler from the untuned probabilities to the tuned ones.

    Args:
        logits, untuned: [N,R] of both.
        counted: [N] bool, which places hold a mask.
    """
    kept = untuned.softmax(dim=-1) * (untuned.log_softmax(-1) - logits.log_softmax(-1))
    return kept.sum(dim=-1)[counted].sum()


def mixed_names_loss(
    embeddings: Tensor, targets: Tensor, text_embeddings: Tensor, logit_scale: float
) -> Tensor:
    """Cross-entropy of mixtures of two masks with the mixture of their names, among all names.

    Each mask of a picture is mixed half and half with the next one that is to get another name. So
    the term is a sum over pictures, whatever else is in their batch.

    Args:
        embeddings: [B,Q,E], of masks.
        targets: [B,Q] rows of the words; places that are to get no name are negative.
        text_embeddings: [R,E] unit rows.
        logit_scale: the inverse temperature.

    Returns:
        The sum over all mixtures; 0 where there is none.
    """
    unit = F.normalize(embeddings.float(), dim=-1)
    masks, names, others = [], [], []
    for row, wanted in zip(unit, targets, strict=True):
        (places,) = (wanted >= 0).nonzero(as_tuple=True)
        first, second = places, places.roll(-1)
        apart = wanted[first] != wanted[second]
        first, second = first[apart], second[apart]
        masks.append(row[first] + row[second])
        names.append(text_embeddings[wanted[first]])
        others.append(text_embeddings[wanted[second]])
    mixed = F.normalize(torch.cat(masks), dim=-1)
    proxies = F.normalize(torch.cat(names) + torch.cat(others), dim=-1)
    own = (mixed * proxies).sum(dim=-1, keepdim=True)
    logits = logit_scale * torch.cat([mixed @ text_embeddings.float().T, own], dim=-1)
    last = torch.full((len(logits),), logits.shape[-1] - 1, device=logits.device)
    return F.cross_entropy(logits, last, reduction="sum")
