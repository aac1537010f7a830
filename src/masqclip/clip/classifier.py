"""From mask embeddings and text embeddings to class log-probabilities (MasQCLIP, sec. 3.4).

Shapes: B pictures, Q masks, E embedding size, K classes; the R text rows are K classes, then
distractors, then "background".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: What published CLIPs have learned; `MasQClipConfig.logit_scale` is a model's own.
LOGIT_SCALE = 100.0


def clip_logits(
    mask_embeddings: Tensor, text_embeddings: Tensor, *, logit_scale: float = LOGIT_SCALE
) -> Tensor:
    """Scaled cosine of every mask with every text row.

    Args:
        mask_embeddings: [B,Q,E], not normalised.
        text_embeddings: [R,E], L2-normalised; or [R,S,E] of S prompts a row, of which the one that
            fits a mask best is the row's.
        logit_scale: the inverse temperature.

    Returns:
        [B,Q,R] float32, under autocast too: at a scale of 100, half precision rounds a logit by as
        much as names differ.
    """
    with torch.autocast(mask_embeddings.device.type, enabled=False):
        unit = F.normalize(mask_embeddings.float(), dim=-1)
        if text_embeddings.ndim == 2:
            return logit_scale * unit @ text_embeddings.float().T
        fits = unit @ text_embeddings.float().flatten(0, 1).T
        return logit_scale * fits.unflatten(-1, text_embeddings.shape[:2]).amax(dim=-1)


def class_log_probs(
    mask_embeddings: Tensor,
    text_embeddings: Tensor,
    *,
    num_classes: int,
    logit_scale: float = LOGIT_SCALE,
    prune: float = 0.0,
    sigmoid_bias: float | None = None,
) -> Tensor:
    """Log-probability of every class for every mask.

    All text rows compete; rows after the first `num_classes` (distractors, background) are then
    dropped, so the exponentials of a row sum to less than one.

    Args:
        mask_embeddings, text_embeddings, logit_scale: as in `clip_logits`.
        num_classes: K.
        prune: a class that none of a picture's masks is with this probability or more is taken out
            of that picture's competition; its probability is zero.
        sigmoid_bias: what a CLIP that judges pairs one by one adds to a scaled cosine: then no
            rows compete, and a row's exponentials may sum to more than one. None for softmax.

    Returns:
        [B,Q,K] float32.
    """
    logits = clip_logits(mask_embeddings, text_embeddings, logit_scale=logit_scale)
    if sigmoid_bias is not None:
        log_probs = F.logsigmoid(logits + sigmoid_bias)
    else:
        log_probs = F.log_softmax(logits, dim=-1)
    if prune > 0 and log_probs.shape[1]:
        there = log_probs.amax(dim=1, keepdim=True).exp() >= prune
        there[..., num_classes:] = True
        if sigmoid_bias is not None:
            log_probs = log_probs.masked_fill(~there, -torch.inf)
        else:
            log_probs = F.log_softmax(logits.masked_fill(~there, -torch.inf), dim=-1)
    return log_probs[..., :num_classes]


def geometric_mean(log_probs: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """Two classifiers' answers as one, class by class (FC-CLIP, sec. 3.3).

    Args:
        log_probs, others: [Q,K] of both.
        weights: [K], the weight of `others`, 0..1.

    Returns:
        [Q,K]: as probable in all, for each mask, as `log_probs` were.
    """
    mixed = (1 - weights) * log_probs + weights * others
    whole = log_probs.logsumexp(dim=-1, keepdim=True)
    return mixed - mixed.logsumexp(dim=-1, keepdim=True) + whole
