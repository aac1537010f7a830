"""Instance decoding: the best (proposal, class) pairs as separate masks, which may overlap.

The published rule (landscape 3.4): take the ``top_k`` highest of all Q x K probabilities; the mask
is where the logit is positive; the score is the probability times the mean mask probability inside
the mask. One mask may come back under several names. Two refinements change no published result:
a mask without a pixel, whose score is 0, is left out, and the best come first.

Shapes: Q proposals, K classes, H x W output pixels, N results, U different masks among them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from masqclip.decoding.masks import (
    MaskLogits,
    MaskSource,
    as_source,
    in_full_precision,
    mask_areas,
    row_chunks,
    sound_proposals,
)


@dataclass(frozen=True)
class InstanceResult:
    """Instances in falling order of score.

    A proposal that was found under several names has its mask stored once: instance ``n`` is
    ``unique_masks[mask_index[n]]``, a view.
    """

    unique_masks: Tensor  # [U, H, W] bool
    mask_index: Tensor  # [N] int64 into unique_masks
    scores: Tensor  # [N] float32 in 0..1
    class_ids: Tensor  # [N] int64
    query_ids: Tensor  # [N] int64, the proposals that the masks come from
    unique_queries: Tensor  # [U] int64, those of `unique_masks`

    @property
    def masks(self) -> Tensor:
        """The mask of each instance, [N, H, W] bool: a copy."""
        return self.unique_masks[self.mask_index]


@in_full_precision
def decode_instance(
    mask_logits: MaskLogits,
    log_probs: Tensor,
    *,
    top_k: int = 100,
    min_score: float = 0.0,
    stuff_ids: Collection[int] = frozenset(),
    keep_masks: bool = True,
) -> InstanceResult:
    """Pick the best (proposal, class) pairs.

    Args:
        mask_logits: [Q, H, W] at output size, or a `MaskSource`.
        log_probs: [Q, K], log object score + log class probability.
        top_k: how many pairs to consider, as published *before* the two filters that follow.
        min_score: an instance of a lower score is left out.
        stuff_ids: classes that have no instances; they are left out.
        keep_masks: false leaves ``unique_masks`` empty, [U, 0, 0]: `instance_mask` makes them one
            by one, where all together would be too large.
    """
    source = as_source(mask_logits)
    num_classes = log_probs.shape[1]
    unsound = ~sound_proposals(source, log_probs).unsqueeze(1)
    probs = log_probs.float().exp().masked_fill(unsound, 0.0).flatten()
    probs, pairs = probs.topk(min(top_k, probs.numel()))
    # The mean inside a mask is below 1, so the probability alone can already rule a pair out.
    possible = probs >= min_score
    if stuff_ids:
        stuff = torch.tensor(sorted(stuff_ids), device=pairs.device)
        possible &= ~torch.isin(pairs % num_classes, stuff)
    probs, pairs = probs[possible], pairs[possible]

    query_ids, mask_index = (pairs // num_classes).unique(return_inverse=True)
    masks, mask_scores = _binarise(source.select(query_ids), keep=keep_masks)
    scores = probs * mask_scores[mask_index]
    order = scores.argsort(descending=True, stable=True)
    order = order[(scores[order] >= min_score) & (scores[order] > 0)]
    used, mask_index = mask_index[order].unique(return_inverse=True)
    return InstanceResult(
        unique_masks=masks if len(used) == len(masks) else masks[used],
        unique_queries=query_ids[used],
        mask_index=mask_index,
        scores=scores[order],
        class_ids=pairs[order] % num_classes,
        query_ids=pairs[order] // num_classes,
    )


def instance_mask(mask_logits: MaskLogits, query: int) -> Tensor:
    """The mask [H, W] bool of one proposal."""
    source = as_source(mask_logits)
    source = source.select(torch.tensor([query], device=source.device))
    _, height, width = source.shape
    mask = torch.empty((height, width), dtype=torch.bool, device=source.device)
    for start, stop in row_chunks(height, width):
        mask[start:stop] = source.rows(start, stop)[0] > 0
    return mask


def _binarise(source: MaskSource, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Return masks [Q, H, W] bool and the mean mask probability [Q] inside each, 0 if empty."""
    queries, height, width = source.shape
    size = (height, width) if keep else (0, 0)
    masks = torch.empty((queries, *size), dtype=torch.bool, device=source.device)
    area = torch.zeros(queries, dtype=torch.float64, device=source.device)
    inside = torch.zeros_like(area)
    for start, stop in row_chunks(height, queries * width):
        logits = source.rows(start, stop)
        band = logits > 0
        if keep:
            masks[:, start:stop] = band
        area += mask_areas(band)
        inside += (logits.sigmoid() * band).sum(dim=(1, 2))
    return masks, (inside / area.clamp(min=1)).float()
