"""One small model of each family of segmenters, of random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers

SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "bottleneck",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
MASK2FORMER = {
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
    "num_attention_heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 7,
    "num_labels": 3,
}
DETR = {
    "model_type": "detr",
    "d_model": 32,
    "num_queries": 7,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
SAM2_VISION = {
    "model_type": "sam2_vision_model",
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 2, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 2],
        "window_positional_embedding_background_size": [4, 4],
        "global_attention_blocks": [2],
    },
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": 16,
}


def sam3_config() -> transformers.Sam3Config:
    layer = {"hidden_size": 32, "num_attention_heads": 2}
    return transformers.Sam3Config(
        vision_config={
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "backbone_config": layer
            | {
                "model_type": "sam3_vit_model",
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "image_size": 64,
                "patch_size": 16,
                "window_size": 2,
                "pretrain_image_size": 32,
                "global_attn_indexes": [1],
            },
        },
        text_config=layer
        | {
            "model_type": "clip_text_model",
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "max_position_embeddings": 8,
            "vocab_size": 49_408,
        },
        geometry_encoder_config=layer | {"num_layers": 1, "intermediate_size": 32, "roi_size": 2},
        detr_encoder_config=layer | {"num_layers": 1, "intermediate_size": 32},
        detr_decoder_config=layer | {"num_layers": 2, "intermediate_size": 32, "num_queries": 5},
        mask_decoder_config=layer | {"num_upsampling_stages": 2},
        num_proposals=7,
        max_overlap=1.0,
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "mask2former-swin": lambda: transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(backbone_config=SWIN, **MASK2FORMER)
    ),
    "mask2former-resnet": lambda: transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(backbone_config=RESNET, **MASK2FORMER)
    ),
    "maskformer": lambda: transformers.MaskFormerForInstanceSegmentation(
        transformers.MaskFormerConfig(
            backbone_config=SWIN,
            decoder_config=DETR,
            fpn_feature_size=32,
            mask_feature_size=32,
            num_labels=3,
        )
    ),
    "oneformer": lambda: transformers.OneFormerForUniversalSegmentation(
        transformers.OneFormerConfig(
            backbone_config=SWIN,
            num_queries=7,
            hidden_dim=32,
            mask_dim=32,
            conv_dim=32,
            encoder_feedforward_dim=32,
            dim_feedforward=32,
            num_attention_heads=2,
            encoder_layers=1,
            decoder_layers=2,
            query_dec_layers=1,
            text_encoder_width=16,
            text_encoder_num_layers=1,
            text_encoder_context_length=77,
            num_labels=3,
        )
    ),
    "eomt": lambda: transformers.EomtForUniversalSegmentation(
        transformers.EomtConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=64,
            patch_size=16,
            num_blocks=1,
            num_queries=7,
            num_labels=3,
        )
    ),
    "sam": lambda: transformers.SamModel(
        transformers.SamConfig(
            vision_config={
                "hidden_size": 16,
                "output_channels": 16,
                "num_pos_feats": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 64,
                "window_size": 2,
                "global_attn_indexes": [],
                "mlp_dim": 32,
            },
            prompt_encoder_config={"hidden_size": 16, "image_size": 64, "image_embedding_size": 4},
            mask_decoder_config={
                "hidden_size": 16,
                "mlp_dim": 16,
                "num_attention_heads": 2,
                "num_hidden_layers": 1,
                "iou_head_hidden_dim": 16,
            },
            points_per_side=3,
            min_predicted_iou=-9.0,
            min_stability=0.0,
            num_proposals=7,
        )
    ),
    "eomt_dinov3": lambda: transformers.EomtDinov3ForUniversalSegmentation(
        transformers.EomtDinov3Config(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=64,
            patch_size=16,
            num_blocks=1,
            num_queries=7,
            num_labels=3,
        )
    ),
    "sam2": lambda: transformers.Sam2Model(
        transformers.Sam2Config(
            vision_config=SAM2_VISION,
            prompt_encoder_config={"hidden_size": 16, "image_size": 64},
            mask_decoder_config={
                "hidden_size": 16,
                "mlp_dim": 16,
                "num_attention_heads": 2,
                "num_hidden_layers": 1,
                "iou_head_hidden_dim": 16,
            },
            points_per_side=3,
            min_predicted_iou=-9.0,
            min_stability=0.0,
            num_proposals=7,
        )
    ),
    "sam3": lambda: transformers.Sam3Model(sam3_config()),
}
