"""Masks that say the same thing twice: the better one stays."""

from __future__ import annotations

import torch
from torch import Tensor

from masqclip.proposals.square import OUTSIDE

_LEAST = 1e-6  # a probability whose logarithm, and that of its opposite, are numbers


def scores_to_logits(scores: Tensor) -> Tensor:
    """Probabilities [N] of being an object -> object logits [N, 2]."""
    scores = scores.float().clamp(_LEAST, 1 - _LEAST)
    return torch.stack([scores.log(), (-scores).log1p()], dim=-1)


def suppress(masks: Tensor, scores: Tensor, max_overlap: float) -> Tensor:
    """Greedy suppression of masks that repeat a better one.

    Args:
        masks: [N, h, w] bool.
        scores: [N].
        max_overlap: the largest IoU with a better mask that is kept.

    Returns:
        The indices of what is kept, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    flat = masks[order].flatten(1).float()
    area = flat.sum(dim=1)
    shared = flat @ flat.T
    overlap = shared / (area[:, None] + area[None, :] - shared).clamp(min=1)
    kept: list[int] = []
    for index, row in enumerate((overlap > max_overlap).cpu()):
        if not row[kept].any():
            kept.append(index)
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def best(
    masks: Tensor, scores: Tensor, object_logits: Tensor, *, max_overlap: float, count: int
) -> tuple[Tensor, Tensor]:
    """The best masks of a picture that do not repeat one another; as many for every picture.

    Args:
        masks: [N, h, w] logits; a pixel is inside where > 0.
        scores: [N], by which they are compared.
        object_logits: [N, 2], (object, no object).
        max_overlap: as in `suppress`.
        count: Q; where fewer are kept, empty masks that are no object fill up.

    Returns:
        Masks [Q, h, w] and object logits [Q, 2], best first.
    """
    kept = suppress(masks > 0, scores, max_overlap)[:count]
    missing = count - len(kept)
    empty = masks.new_full((missing, *masks.shape[1:]), OUTSIDE)
    nothing = scores_to_logits(scores.new_zeros(missing)).to(object_logits.dtype)
    return torch.cat([masks[kept], empty]), torch.cat([object_logits[kept], nothing])
