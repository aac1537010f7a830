"""Semantic decoding: one class a pixel.

Every proposal votes for every class with its probability, wherever its mask is
(paper, section 4; the marginalisation of MaskFormer): ``sum_q p(q, k) * sigmoid(mask_q)``.

Shapes: Q proposals, K classes, H x W output pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from masqclip.decoding.masks import MaskLogits, as_source, row_chunks


@dataclass(frozen=True)
class SemanticResult:
    """The winning class of every pixel.

    ``class_map`` is int64 [H, W], -1 where nothing reached the threshold; ``scores`` is float32
    [H, W], the winner's score, also where it was too low to be reported.
    """

    class_map: Tensor
    scores: Tensor


def semantic_scores(mask_logits: MaskLogits, log_probs: Tensor) -> Tensor:
    """Return the published class scores float32 [K, H, W], all at once.

    Args:
        mask_logits: [Q, H, W] at output size, or a `MaskSource`.
        log_probs: [Q, K], log object score + log class probability.
    """
    source = as_source(mask_logits)
    return _vote(source.rows(0, source.shape[1]), log_probs)


def decode_semantic(
    mask_logits: MaskLogits, log_probs: Tensor, *, min_score: float = 0.0
) -> SemanticResult:
    """Give every pixel the class of the highest score.

    Works through the picture in bands of rows, so that K x H x W never exists.

    Args:
        mask_logits: [Q, H, W] at output size, or a `MaskSource`.
        log_probs: [Q, K], log object score + log class probability.
        min_score: a pixel whose best score is lower stays unlabelled (-1). A score sums over
            proposals, so it can exceed 1 where several of them agree.
    """
    source = as_source(mask_logits)
    queries, height, width = source.shape
    class_map = torch.full((height, width), -1, dtype=torch.int64, device=source.device)
    scores = torch.zeros((height, width), device=source.device)
    if queries == 0:
        return SemanticResult(class_map, scores)

    for start, stop in row_chunks(height, width * max(queries, log_probs.shape[1])):
        best, winner = _vote(source.rows(start, stop), log_probs).max(dim=0)
        scores[start:stop] = best
        class_map[start:stop] = winner.masked_fill(best < min_score, -1)
    return SemanticResult(class_map, scores)


def _vote(mask_logits: Tensor, log_probs: Tensor) -> Tensor:
    """Sum the proposals' votes: masks [Q, R, W] and log-probabilities [Q, K] to [K, R, W]."""
    return torch.einsum("qk,qrw->krw", log_probs.float().exp(), mask_logits.sigmoid())
