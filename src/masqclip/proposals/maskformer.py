"""MaskFormer (Cheng et al., 2021) as a proposer, also one to train: the second family.

Like Mask2Former it answers with a set of masks, and shares little else with it:

- The pixel decoder is a feature pyramid of convolutions, without deformable attention.
- The decoder is DETR's: queries start at zero and look at the whole of the coarsest map (stride
  32), without masked attention.

The published panoptic model puts six encoder layers after its ResNet, which transformers' model
lacks; its semantic ones are as here. What transformers does otherwise than the published code, and
training needs as published, is put right:

- Hidden states of inner decoder layers lack the last norm, and the first of them are the queries'
  zeros; they are read out all the same. Here each layer is read out as the final one is.
- Random weights are so small that all queries say the same. Here they start as DETR's.

Shapes: `B` images, `Q` queries, `C` channels, `S` positions of the coarsest map, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    DetrConfig,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    PreTrainedModel,
    ResNetConfig,
)
from transformers.models.maskformer import modeling_maskformer

from masqclip.hub import quiet_transformers
from masqclip.proposals.base import Proposals
from masqclip.proposals.segmenters import object_logits
from masqclip.proposals.trainable import TrainableProposer, read_outs, resnet50, small_resnet


class MaskFormerDetrDecoder(modeling_maskformer.MaskFormerDetrDecoder):
    """DETR's decoder; its hidden states are what each layer ends with, after the last norm.

    It has the name of transformers' own, by which that knows what files call its weights.
    """

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: transformers would not rename the weights of what it did not write."""
        return False

    def forward(
        self,
        inputs_embeds: Tensor,
        encoder_hidden_states: Tensor,
        spatial_position_embeddings: Tensor,
        object_queries_position_embeddings: Tensor,
        **unused: Any,
    ) -> modeling_maskformer.DetrDecoderOutput:
        """As in transformers: queries [B, Q, C] look at [B, S, C], each with its positions."""
        hidden, states = inputs_embeds, []
        for layer in self.layers:
            hidden = layer(
                hidden,
                None,
                spatial_position_embeddings,
                object_queries_position_embeddings,
                encoder_hidden_states,
            )
            states.append(self.layernorm(hidden))
        return modeling_maskformer.DetrDecoderOutput(
            last_hidden_state=states[-1], hidden_states=tuple(states)
        )


class MaskFormerProposer(TrainableProposer):
    """A MaskFormer that proposes masks of anything; arguments as in `TrainableProposer`."""

    config_class = MaskFormerConfig
    segmenter_class = MaskFormerForInstanceSegmentation

    def __init__(self, config: MaskFormerConfig, *, freeze_batch_norm: bool = False) -> None:
        super().__init__(config, freeze_batch_norm=freeze_batch_norm)
        _start(self.segmenter.model)

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """See `SegmenterProposer`."""
        config = segmenter.config
        config.use_auxiliary_loss = False  # with it transformers' own forward fails
        config.decoder_config.backbone_config = None  # of a DETR only the decoder is taken
        segmenter.model.transformer_module.decoder.__class__ = MaskFormerDetrDecoder
        # A hook, as sharded training (FSDP) gathers weights while their module runs, no longer.
        segmenter.register_forward_hook(_read_states)
        super().adopt(segmenter)

    @property
    def num_queries(self) -> int:
        """Proposals a picture."""
        return int(self.config.decoder_config.num_queries)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> Proposals:
        """Propose masks for [B, 3, H, W] normalised pixels; `pixel_mask` is not needed."""
        output = self.segmenter(pixel_values=pixel_values)
        return Proposals(output.masks_queries_logits, object_logits(output.class_queries_logits))

    def layer_proposals(self, pixel_values: Tensor) -> list[Proposals]:
        """Proposals after every decoder layer, for deep supervision."""
        return read_outs(
            self.segmenter(
                pixel_values=pixel_values, output_hidden_states=True, output_auxiliary_logits=True
            )
        )


def _read_states(segmenter: Any, _: Any, output: Any) -> Any:
    """Read the decoder's inner layers out, where their states [B, Q, C] were asked for."""
    if output.transformer_decoder_hidden_states is not None:
        pixels = output.pixel_decoder_last_hidden_state
        output.auxiliary_logits = [
            {
                "masks_queries_logits": torch.einsum(
                    "bqc,bchw->bqhw", segmenter.mask_embedder(state), pixels
                ),
                "class_queries_logits": segmenter.class_predictor(state),
            }
            for state in output.transformer_decoder_hidden_states[:-1]
        ]
    return output


def _start(model: Any) -> None:
    """Random weights as the published code has them, where transformers has others."""
    queries, decoder = model.transformer_module.queries_embedder, model.transformer_module.decoder
    for name, parameter in decoder.named_parameters():
        if parameter.ndim > 1:
            # In the published code the three are one matrix, of three times the rows.
            joint = name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
            nn.init.xavier_uniform_(parameter, gain=0.5**0.5 if joint else 1.0)
    nn.init.normal_(queries.weight)
    nn.init.kaiming_uniform_(model.pixel_level_module.decoder.mask_projection.weight, a=1)


def resnet50_maskformer_config() -> MaskFormerConfig:
    """ResNet-50, 100 queries, 6 decoder layers, 256 wide: the published sizes."""
    backbone = resnet50()
    return _config(backbone, width=256, feedforward=2048, heads=8, num_queries=100, layers=6)


def miniature_maskformer_config(
    *,
    num_queries: int = 28,
    width: int = 64,
    backbone_widths: tuple[int, int, int, int] = (32, 64, 128, 256),
    backbone_depths: tuple[int, int, int, int] = (1, 2, 2, 1),
    decoder_layers: int = 4,
) -> MaskFormerConfig:
    """A small one, beside the Mask2Former of `masqclip-mini`, whose backbone it has.

    Args:
        num_queries: proposals an image.
        width: channels of pixel decoder, queries and mask features; a multiple of 32.
        backbone_widths: channels of the four ResNet stages (strides 4, 8, 16, 32).
        backbone_depths: basic blocks of each stage.
        decoder_layers: of DETR's decoder.
    """
    backbone = small_resnet(backbone_widths, backbone_depths)
    return _config(
        backbone,
        width=width,
        feedforward=4 * width,
        heads=4,
        num_queries=num_queries,
        layers=decoder_layers,
    )


def _config(
    backbone: ResNetConfig,
    *,
    width: int,
    feedforward: int,
    heads: int,
    num_queries: int,
    layers: int,
) -> MaskFormerConfig:
    with quiet_transformers():
        decoder = DetrConfig(
            encoder_layers=0,
            d_model=width,
            num_queries=num_queries,
            decoder_layers=layers,
            decoder_ffn_dim=feedforward,
            decoder_attention_heads=heads,
            encoder_attention_heads=heads,
            # Published: 0.1. Without it a step's losses do not depend on how its batch is split.
            dropout=0.0,
        )
        return MaskFormerConfig(
            backbone_config=backbone,
            decoder_config=decoder,
            fpn_feature_size=width,
            mask_feature_size=width,
            num_labels=1,
        )
