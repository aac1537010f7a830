"""From mask embeddings and text embeddings to class log-probabilities (MasQCLIP, sec. 3.4).

Shapes: B pictures, Q masks, E embedding size, K classes; the text rows are K classes, then
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
        text_embeddings: [R,E], L2-normalised.
        logit_scale: the inverse temperature.

    Returns:
        [B,Q,R] float32, under autocast too: at a scale of 100, half precision rounds a logit by as
        much as names differ.
    """
    with torch.autocast(mask_embeddings.device.type, enabled=False):
        unit = F.normalize(mask_embeddings.float(), dim=-1)
        return logit_scale * unit @ text_embeddings.float().T


def class_log_probs(
    mask_embeddings: Tensor,
    text_embeddings: Tensor,
    *,
    num_classes: int,
    logit_scale: float = LOGIT_SCALE,
    sigmoid_bias: float | None = None,
) -> Tensor:
    """Log-probability of every class for every mask.

    All text rows compete; rows after the first `num_classes` (distractors, background) are then
    dropped, so the exponentials of a row sum to less than one.

    Args:
        mask_embeddings, text_embeddings, logit_scale: as for `clip_logits`.
        num_classes: K.
        sigmoid_bias: what a CLIP that judges pairs one by one adds to a scaled cosine: then no
            rows compete, and a row's exponentials may sum to more than one. None for softmax.

    Returns:
        [B,Q,K] float32.
    """
    logits = clip_logits(mask_embeddings, text_embeddings, logit_scale=logit_scale)
    if sigmoid_bias is not None:
        return F.logsigmoid(logits[..., :num_classes] + sigmoid_bias)
    return F.log_softmax(logits, dim=-1)[..., :num_classes]
