"""The core Perception Encoder (Bolya et al., 2025): PE-Core T/16, S/16, B/16, L/14 and G/14.

Beside what `rotary_vit.py` says: a norm stands before the blocks, and a pooling head behind them.
Its probe reads all tokens, the class token too; the largest model, G, has no class token. Rotary
positions are those of the tower's own grid; the half that goes by columns is first, and places are
counted from 1 behind a class token.

In the pooling head a mask's class token takes the place of the picture's: the probe reads it, and
the patches under the mask. Without a class token mask class tokens are the probe, as in a SigLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
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
from masqclip.towers.tower import Part, Turns


class PeVisionConfig(PreTrainedConfig):
    """The picture tower's sizes, by transformers' names.

    Args:
        class_token: whether there is one.
        pooling_heads, pooling_intermediate_size: of the pooling head.
    """

    model_type = "pe_vision_model"
    base_config_key = "vision_config"

    def __init__(
        self,
        *,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        image_size: int = 224,
        patch_size: int = 16,
        layer_norm_eps: float = 1e-5,
        class_token: bool = True,
        pooling_heads: int = 8,
        pooling_intermediate_size: int = 3072,
        **kwargs: Any,
    ) -> None:
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.image_size = image_size
        self.patch_size = patch_size
        self.layer_norm_eps = layer_norm_eps
        self.class_token = class_token
        self.pooling_heads = pooling_heads
        self.pooling_intermediate_size = pooling_intermediate_size
        super().__init__(**kwargs)


class PeClipConfig(RotaryClipConfig):
    """A PE-Core's sizes; arguments as in `RotaryClipConfig`."""

    model_type = "pe_clip"
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": PeVisionConfig,
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


class Mlp(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B,T,D] to [B,T,D]."""
        narrowed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return narrowed


class PePooling(nn.Module):
    """The pooling head as a block, with the norm before it; see `masqclip.towers.tower.Block`."""

    def __init__(self, config: PeVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.pooling_heads
        self.reads_itself = config.class_token
        self.pre_norm = nn.LayerNorm(width, eps=eps)
        self.probe = nn.Parameter(torch.randn(width) * width**-0.5)
        self.attention = RotaryAttention(width, key_bias=True, inner_norm=nn.Identity())
        self.norm = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, config.pooling_intermediate_size)

    def read(self, hidden: Tensor) -> Tensor:
        normed: Tensor = self.pre_norm(hidden)
        return normed

    def ask(self, own: Tensor) -> Tensor:
        """The probe, which is the same for all masks that have a class token to read."""
        return self.probe.expand_as(own) if self.reads_itself else own

    def project(self, part: Part, read: Tensor) -> Tensor:
        return self.attention.project(part, read)

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        return self.attention.weights(part)

    def turn(self, x: Tensor, turns: Turns | None) -> Tensor:
        """Here no position counts."""
        return x

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """What came in is not added: what the probe read is all that goes on."""
        pooled = self.attention.output(mixed)
        after: Tensor = pooled + self.mlp(self.norm(pooled))
        return after


class PeVision(nn.Module):
    """The picture tower's weights."""

    def __init__(self, config: PeVisionConfig) -> None:
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = RotaryTokens(
            width,
            image_size=config.image_size,
            patch_size=config.patch_size,
            class_token=config.class_token,
            bias=False,
        )
        self.pre_norm = nn.LayerNorm(width, eps=eps)
        self.layers = nn.ModuleList(
            RotaryLayer(
                width,
                config.num_attention_heads,
                eps,
                attention=RotaryAttention(width, key_bias=True, inner_norm=nn.Identity()),
                mlp=Mlp(width, config.intermediate_size),
            )
            for _ in range(config.num_hidden_layers)
        )
        self.pool = PePooling(config)

    def turns(self, grid: tuple[int, int], like: Tensor) -> Turns:
        """How the tokens of a grid are turned."""
        prefix = self.embeddings.prefix
        return patch_turns(
            grid,
            self.config.hidden_size // self.config.num_attention_heads,
            trained=self.embeddings.side,
            start=prefix,
            columns_first=True,
            prefix=prefix,
            like=like,
        )


class PeClipModel(RotaryClipModel):
    """A PE-Core with its word tower; attributes as in `RotaryClipModel`."""

    config_class = PeClipConfig
    vision_class = PeVision


class PeTower(RotaryTower):
    """The picture tower of a `PeClipModel`; see `masqclip.towers.tower.Tower`."""

    family = "pe"

    def __init__(self, clip: Any) -> None:
        super().__init__(clip)
        self.first = 0 if self.prefix else len(self.blocks)
        self.blocks = [*self.blocks, self.vision.pool]

    def own_embedding(self) -> Tensor:
        """The position of the class token; without one nothing is added to the probe."""
        return super().own_embedding() if self.prefix else torch.zeros_like(self.vision.pool.probe)

    def own_start(self, embedding: Tensor) -> Tensor:
        return super().own_start(embedding) if self.prefix else self.vision.pool.probe + embedding

    def embed(self, own: Tensor) -> Tensor:
        return self.projection(own)

    def moving(self) -> Mapping[str, Tensor]:
        return super().moving() if self.prefix else {}
