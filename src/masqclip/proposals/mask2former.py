"""Mask2Former as a proposer (transformers' implementation, pure PyTorch).

- One class, "object": the paper trains Mask2Former without names (section 3.2). A checkpoint with
  K classes works too: its object logit is the log-sum-exp of the K, which is exactly the logit
  of "any of them", so zoo models propose without being retrained.
- transformers' Mask2Former takes a pixel mask and ignores it; the published models were trained
  that way (padding is part of the picture), so nothing here makes up for it.
- Its decoder is one layer longer than it says: `decoder_layers=10` is the published nine, and the
  learned queries themselves are read out as layer zero. Deep supervision sees all of them.

Shapes: `B` images, `Q` queries, `H W` the padded frame, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    PreTrainedModel,
)

from masqclip.hub import quiet_transformers
from masqclip.proposals.base import Proposals
from masqclip.proposals.deformable import use_levelwise_attention
from masqclip.proposals.mask2former_inference import fold_batch_norms, propose
from masqclip.proposals.segmenters import object_logits
from masqclip.proposals.trainable import TrainableProposer, read_outs, resnet50, small_resnet


class Mask2FormerProposer(TrainableProposer):
    """A Mask2Former that proposes masks of anything; arguments as in `TrainableProposer`."""

    config_class = Mask2FormerConfig
    segmenter_class = Mask2FormerForUniversalSegmentation

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """See `SegmenterProposer`."""
        use_levelwise_attention(segmenter)
        fold_batch_norms(segmenter)
        # Without it transformers' forward drops the states that the class logits are read from.
        segmenter.config.use_auxiliary_loss = True
        super().adopt(segmenter)

    @property
    def num_queries(self) -> int:
        """Proposals a picture."""
        return int(self.config.num_queries)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> Proposals:
        """Propose masks for [B, 3, H, W] normalised pixels; `pixel_mask` is not needed."""
        if self.training or self.config.pre_norm:
            return self.layer_proposals(pixel_values)[-1]
        mask_logits, class_logits = propose(self.segmenter, pixel_values)
        return Proposals(mask_logits, object_logits(class_logits))

    def layer_proposals(self, pixel_values: Tensor) -> list[Proposals]:
        """Proposals after every decoder layer, learned queries first, for deep supervision."""
        return read_outs(self.segmenter(pixel_values=pixel_values, output_auxiliary_logits=True))


def mask2former_config(values: dict[str, Any]) -> Mask2FormerConfig:
    """The configuration that a dictionary, such as a part of a ``config.json``, describes."""
    with quiet_transformers():
        return Mask2FormerConfig(**values)


def resnet50_mask2former_config() -> Mask2FormerConfig:
    """The published proposer: ResNet-50, 100 queries, 6 encoder and 9 decoder layers."""
    backbone = resnet50()
    with quiet_transformers():
        return Mask2FormerConfig(backbone_config=backbone, num_queries=100, num_labels=1)


def miniature_mask2former_config(
    *,
    num_queries: int = 28,
    width: int = 64,
    backbone_widths: tuple[int, int, int, int] = (32, 64, 128, 256),
    backbone_depths: tuple[int, int, int, int] = (1, 2, 2, 1),
    encoder_layers: int = 2,
    decoder_layers: int = 4,
) -> Mask2FormerConfig:
    """The proposer of `masqclip-mini`, for scenes of about 128 x 128 pixels.

    Args:
        num_queries: proposals an image.
        width: channels of pixel decoder, queries and mask features; a multiple of 32.
        backbone_widths: channels of the four ResNet stages (strides 4, 8, 16, 32).
        backbone_depths: basic blocks of each stage.
        encoder_layers: deformable attention layers in the pixel decoder.
        decoder_layers: read-outs, that is masked attention layers plus one.
    """
    backbone = small_resnet(backbone_widths, backbone_depths)
    with quiet_transformers():
        return Mask2FormerConfig(
            backbone_config=backbone,
            feature_size=width,
            mask_feature_size=width,
            hidden_dim=width,
            encoder_feedforward_dim=4 * width,
            dim_feedforward=4 * width,
            num_attention_heads=4,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            num_queries=num_queries,
            num_labels=1,
        )
