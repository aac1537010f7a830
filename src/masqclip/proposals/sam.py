"""SAM (Kirillov et al., 2023) and SAM 2 (Ravi et al., 2024) as proposers: their automatic masks.

What both share is `point_grid`. They differ in how a picture becomes a square (SAM pads it, SAM 2
stretches it), in what the decoder reads of it (SAM 2: three maps), and in the published threshold
of the predicted IoU. SAM 2's memory of a video is no part of the image model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

from masqclip.proposals.point_grid import SETTINGS, GridProposer
from masqclip.proposals.square import picture_side


class SamProposer(GridProposer):
    """SAM's masks of everything; see `GridProposer`."""

    config_class = SamConfig
    segmenter_class = SamModel

    @property
    def side(self) -> int:
        """See `GridProposer`."""
        return int(self.config.vision_config.image_size)

    def encode(self, squares: Tensor) -> list[Any]:
        """See `GridProposer`: [1, C, s / 4, s / 4] each."""
        return list(self.segmenter.get_image_embeddings(squares).split(1))

    def answer(self, encoded: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `GridProposer`."""
        told = self.segmenter(
            image_embeddings=encoded, input_points=points[None, :, None], multimask_output=True
        )
        return told.pred_masks.flatten(0, 2), told.iou_scores.flatten()


class Sam2Proposer(SamProposer):
    """SAM 2's masks of everything, of 2 and 2.1; see `GridProposer`."""

    config_class = Sam2Config
    segmenter_class = Sam2Model
    settings: ClassVar[Mapping[str, float]] = {**SETTINGS, "min_predicted_iou": 0.8}
    stretch = True

    @property
    def side(self) -> int:
        """See `GridProposer`."""
        return picture_side(self.config.vision_config.backbone_config.image_size)

    def encode(self, squares: Tensor) -> list[Any]:
        """See `GridProposer`: of each the maps at strides 4, 8 and 16."""
        maps = self.segmenter.get_image_embeddings(squares)
        return [[level[i : i + 1] for level in maps] for i in range(len(squares))]
