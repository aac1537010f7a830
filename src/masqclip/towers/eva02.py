"""EVA02-CLIP (Sun et al., 2023: EVA-CLIP): the models B/16, L/14 and L/14 of 336 pixels.

The picture tower is an EVA-02 (Fang et al., 2023). Beside what `rotary_vit.py` says: keys have no
bias, a norm stands between attention and its output projection, and MLPs are SwiGLUs with a norm
before their last layer. The class token answers. Rotary positions are those of a grid of 16 x 16
patches, whatever the picture's: rows are counted from 0, and the half that goes by rows is first.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, PreTrainedConfig

from masqclip.towers.rotary_vit import (
    INITIAL_SCALE,
    RotaryAttention,
    RotaryClipConfig,
    RotaryClipModel,
    RotaryLayer,
    RotaryTokens,
    RotaryTower,
    patch_turns,
)
from masqclip.towers.tower import Turns

_TRAINED_GRID = 16  # of the pretraining, at 224 pixels with patches of 14


class Eva02VisionConfig(PreTrainedConfig):
    """The picture tower's sizes, by transformers' names."""

    model_type = "eva02_vision_model"
    base_config_key = "vision_config"

    def __init__(
        self,
        *,
        hidden_size: int = 768,
        intermediate_size: int = 2048,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        image_size: int = 224,
        patch_size: int = 16,
        layer_norm_eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.image_size = image_size
        self.patch_size = patch_size
        self.layer_norm_eps = layer_norm_eps
        super().__init__(**kwargs)


class Eva02ClipConfig(RotaryClipConfig):
    """An EVA02-CLIP's sizes; arguments as in `RotaryClipConfig`."""

    model_type = "eva02_clip"
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": Eva02VisionConfig,
        "text_config": CLIPTextConfig,
    }

    # transformers makes an __init__ for a class that has none of its own.
    def __init__(
        self,
        *,
        vision_config: Any = None,
        text_config: Any = None,
        projection_dim: int = 512,
        logit_scale_init_value: float = INITIAL_SCALE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            vision_config=vision_config,
            text_config=text_config,
            projection_dim=projection_dim,
            logit_scale_init_value=logit_scale_init_value,
            **kwargs,
        )


class SwiGlu(nn.Module):
    """An MLP in which one projection gates the other."""

    def __init__(self, width: int, inner: int, eps: float) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner)
        self.up = nn.Linear(width, inner)
        self.norm = nn.LayerNorm(inner, eps=eps)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B,T,D] to [B,T,D]."""
        narrowed: Tensor = self.down(self.norm(F.silu(self.gate(x)) * self.up(x)))
        return narrowed


class Eva02Vision(nn.Module):
    """The picture tower's weights."""

    def __init__(self, config: Eva02VisionConfig) -> None:
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = RotaryTokens(
            width,
            image_size=config.image_size,
            patch_size=config.patch_size,
            class_token=True,
            bias=True,
        )
        self.pre_norm = nn.Identity()
        self.layers = nn.ModuleList(
            RotaryLayer(
                width,
                config.num_attention_heads,
                eps,
                attention=RotaryAttention(
                    width, key_bias=False, inner_norm=nn.LayerNorm(width, eps=eps)
                ),
                mlp=SwiGlu(width, config.intermediate_size, eps),
            )
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(width, eps=eps)

    def turns(self, grid: tuple[int, int], like: Tensor) -> Turns:
        """How the tokens of a grid are turned."""
        return patch_turns(
            grid,
            self.config.hidden_size // self.config.num_attention_heads,
            trained=_TRAINED_GRID,
            start=0,
            columns_first=False,
            prefix=1,
            like=like,
        )


class Eva02ClipModel(RotaryClipModel):
    """An EVA02-CLIP; attributes as in `RotaryClipModel`."""

    config_class = Eva02ClipConfig
    vision_class = Eva02Vision


class Eva02Tower(RotaryTower):
    """The picture tower of an `Eva02ClipModel`; see `masqclip.towers.tower.Tower`."""

    family = "eva02"
