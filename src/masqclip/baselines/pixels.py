"""The image encoder of the systems that read no CLIP picture: a proposer's backbone and decoder.

LSeg+, OpenSeg and XPM train an encoder of pictures of their own, where the published ones have an
EfficientNet-B7 with a feature pyramid, or a ResNet-50. Here it is the pixel-level module of a
Mask2Former or MaskFormer: a backbone, and a decoder that ends at a quarter of the picture's side.

Shapes: B pictures, H W the padded frame, C the decoder's channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.devices import full_precision
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.proposals.trainable import TrainableProposer


def pixel_module(model: MasQClipModel) -> Any:
    """The proposer's pixel-level module.

    Raises:
        MasqclipError: the proposer has none.
    """
    if not isinstance(model.proposer, TrainableProposer):
        raise MasqclipError(
            f"a proposer of the type {model.config.proposer_type!r} has no pixel decoder that "
            f"{model.system} could train: take a Mask2Former or a MaskFormer"
        )
    return model.proposer.segmenter.model.pixel_level_module


def map_widths(model: MasQClipModel) -> list[int]:
    """The channels of each map of the proposer's `pyramid`.

    Raises:
        MasqclipError: the proposer has none.
    """
    pixel_module(model)
    config = model.proposer.config
    maskformer = config.model_type == "maskformer"
    width = config.fpn_feature_size if maskformer else config.feature_size
    return [width, width, width, config.mask_feature_size]


def finest(module: Any, pixels: Tensor) -> Tensor:
    """What a pixel-level module says at a quarter of the side: [B,C,H/4,W/4]."""
    dtype = next(module.parameters()).dtype
    features: Tensor = module(pixels.to(dtype)).decoder_last_hidden_state
    return features


def pyramid(module: Any, pixels: Tensor) -> list[Tensor]:
    """The decoder's maps, coarsest first, the finest at a quarter of the side: [B,C,h,w] each."""
    dtype = next(module.parameters()).dtype
    found = module(pixels.to(dtype), output_hidden_states=True)
    return [*found.decoder_hidden_states, found.decoder_last_hidden_state]


def pool(levels: list[Tensor], masks: Tensor) -> Tensor:
    """The mean of every map under every mask, side by side: [B,Q,len(levels) x C].

    Args:
        levels: [B,C,h,w] each.
        masks: [B,Q,H,W] weights, 0 or more; a mask of none gives zeros.
    """
    pooled = []
    with full_precision(masks):  # sums are too large for half precision
        for level in levels:
            size = (level.shape[-2], level.shape[-1])
            weights = F.adaptive_avg_pool2d(masks.float(), size).flatten(2)
            total = weights.sum(-1, keepdim=True).clamp(min=1e-6)
            pooled.append(torch.einsum("bqp,bcp->bqc", weights, level.float().flatten(2)) / total)
    return torch.cat(pooled, dim=-1).to(levels[-1].dtype)
