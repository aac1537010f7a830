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
}
