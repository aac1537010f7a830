"""EoMT (Kerssies et al., 2025) as a proposer: a plain ViT that reads queries beside its patches."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import EomtConfig, EomtForUniversalSegmentation

from masqclip.data.transforms import PIXEL_MEAN, PIXEL_STD
from masqclip.proposals.base import Proposals
from masqclip.proposals.segmenters import SegmenterProposer, object_logits
from masqclip.proposals.square import from_square, to_square

# EoMT was trained with black beside the picture.
_BLACK = tuple(-mean / std for mean, std in zip(PIXEL_MEAN, PIXEL_STD, strict=True))


class EomtProposer(SegmenterProposer):
    """An EoMT of panoptic or instance segmentation; the picture is fitted into its square."""

    config_class = EomtConfig
    segmenter_class = EomtForUniversalSegmentation

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`."""
        side = self.config.image_size
        output = self.segmenter(to_square(pixel_values, pixel_mask, side, _BLACK))
        masks = [
            from_square(logits, inside, side)
            for logits, inside in zip(output.masks_queries_logits, pixel_mask, strict=True)
        ]
        return Proposals(torch.stack(masks), object_logits(output.class_queries_logits))
