"""SigLIP (Zhai et al., 2023) and SigLIP 2 of one picture size (Tschannen et al., 2025).

There is no class token. The last block is the pooling head: one learned probe reads all patches,
and mask class tokens are that probe, each reading the patches under its mask. So of MasQ-Tuning
there is one projection of queries to learn, and one embedding. The words are read by a tower
without a causal mask, at one length, and the last token answers for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipConfig

from masqclip.towers.clip import ClipBlock
from masqclip.towers.pretrainable import SmallSizes, window_tokens
from masqclip.towers.tokenizer import plain_token_ids
from masqclip.towers.tower import Block, Part, Turns

# The tower computes all of its length for every text, so a small one has a short one.
_SMALL_CONTEXT = 32
_PARTS: tuple[Part, ...] = ("q", "k", "v")


class PoolingBlock:
    """The pooling head as a block; see `masqclip.towers.tower.Block`.

    Args:
        vision: transformers' SigLIP vision model.
    """

    reads_itself = False

    def __init__(self, vision: Any) -> None:
        self.norm: nn.Module = vision.post_layernorm
        self.head: Any = vision.head
        self.heads: int = self.head.attention.num_heads

    def read(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden)

    def ask(self, own: Tensor) -> Tensor:
        return own

    def project(self, part: Part, read: Tensor) -> Tensor:
        return F.linear(read, *self.weights(part))

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        attention, place = self.head.attention, _PARTS.index(part)
        return attention.in_proj_weight.chunk(3)[place], attention.in_proj_bias.chunk(3)[place]

    def turn(self, x: Tensor, turns: Turns | None) -> Tensor:
        return x

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """The probe itself is not added: what it read is all that goes on."""
        pooled = self.head.attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return pooled + self.head.mlp(self.head.layernorm(pooled))


class SiglipTower:
    """The picture tower of a SigLIP; see `masqclip.towers.tower.Tower`.

    Args:
        siglip: transformers' `SiglipModel`.
    """

    family = "siglip"
    prefix = 0

    def __init__(self, siglip: Any) -> None:
        vision = siglip.vision_model
        self.vision: Any = vision
        self.modules: Sequence[nn.Module] = (vision,)
        self.image_size: int = vision.config.image_size
        self.patch_size: int = vision.config.patch_size
        self.width: int = vision.config.hidden_size
        layers = [ClipBlock(layer) for layer in vision.encoder.layers]
        self.blocks: list[Block] = [*layers, PoolingBlock(vision)]
        self.first = len(layers)

    def start(self, pixel_values: Tensor) -> tuple[Tensor, Turns | None]:
        other_size = tuple(pixel_values.shape[-2:]) != (self.image_size, self.image_size)
        return self.vision.embeddings(pixel_values, interpolate_pos_encoding=other_size), None

    def start_window(self, pixel_values: Tensor, corner: Tensor, kept: Tensor | None) -> Tensor:
        """As `masqclip.towers.pretrainable.WindowedTower` has it."""
        return window_tokens(self.vision.embeddings, pixel_values, corner, kept, prefix=0)

    def run(self, hidden: Tensor) -> Tensor:
        """As `masqclip.towers.pretrainable.WindowedTower` has it."""
        for layer in self.vision.encoder.layers:
            hidden = layer(hidden, None)
        return hidden

    def own_embedding(self) -> Tensor:
        """Nothing is added to the probe."""
        return torch.zeros_like(self._probe())

    def own_start(self, embedding: Tensor) -> Tensor:
        return self._probe() + embedding

    def embed(self, own: Tensor) -> Tensor:
        return own

    def moving(self) -> Mapping[str, Tensor]:
        return {}

    def frozen(self) -> Mapping[str, Tensor]:
        return self.vision.state_dict()

    def _probe(self) -> Tensor:
        return self.vision.head.probe[0, 0]


class SiglipWords:
    """The word tower of a SigLIP; see `masqclip.towers.tower.Words`.

    Args:
        siglip: transformers' `SiglipModel`.
        tokenizer: of it, from `load_tokenizer`.
    """

    def __init__(self, siglip: Any, tokenizer: Any) -> None:
        config = siglip.text_model.config
        self.siglip = siglip
        self.tokenizer = tokenizer
        self.size: int = config.projection_size
        self.context_length: int = config.max_position_embeddings
        self.modules: Sequence[nn.Module] = (siglip.text_model,)
        self.settings = repr((config.hidden_act, config.num_attention_heads))

    def token_ids(self, texts: Sequence[str], *, cut: bool = False) -> list[list[int]]:
        return plain_token_ids(self.tokenizer, texts, self.context_length if cut else None)

    def pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """The tower was trained on texts padded to its length, and answers at the last place."""
        padding = self.tokenizer.pad_token_id
        return torch.tensor(
            [[*ids, *[padding] * (self.context_length - len(ids))] for ids in tokens]
        )

    def embed(self, padded: Tensor) -> Tensor:
        return self.siglip.text_model(input_ids=padded).pooler_output


def small_siglip(sizes: SmallSizes) -> SiglipConfig:
    """The configuration of a SigLIP to train from nothing; `_SMALL_CONTEXT` tokens are read."""
    return SiglipConfig(
        vision_config={
            "hidden_size": sizes.vision_width,
            "intermediate_size": 4 * sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "hidden_act": "gelu_pytorch_tanh",
        },
        text_config={
            "vocab_size": sizes.tokens,
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "max_position_embeddings": _SMALL_CONTEXT,
            "hidden_act": "gelu_pytorch_tanh",
            "projection_size": sizes.vision_width,
            "bos_token_id": sizes.start_id,
            "eos_token_id": sizes.end_id,
            "pad_token_id": sizes.padding_id,
        },
    )
