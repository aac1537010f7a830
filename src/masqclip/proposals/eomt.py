"""EoMT (Kerssies et al., 2025) as a proposer: a plain ViT that reads queries beside its patches."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
)

from masqclip.proposals.base import Proposals
from masqclip.proposals.segmenters import SegmenterProposer, object_logits
from masqclip.proposals.square import from_square, to_square


class EomtProposer(SegmenterProposer):
    """An EoMT of panoptic or instance segmentation; the picture is fitted into its square.

    EoMT was trained with black beside the picture (`black`).
    """

    config_class = EomtConfig
    segmenter_class = EomtForUniversalSegmentation
    sees_square = True

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`."""
        side = self.config.image_size
        output = self.segmenter(to_square(pixel_values, pixel_mask, side, self.black))
        masks = [
            from_square(logits, inside, side)
            for logits, inside in zip(output.masks_queries_logits, pixel_mask, strict=True)
        ]
        return Proposals(torch.stack(masks), object_logits(output.class_queries_logits))


class EomtDinov3Proposer(EomtProposer):
    """An EoMT whose ViT is a DINOv3."""

    config_class = EomtDinov3Config
    segmenter_class = EomtDinov3ForUniversalSegmentation
