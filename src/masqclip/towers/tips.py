"""TIPS v2 (Google DeepMind, 2026): a ViT with two class tokens, and words that are averaged.

The second class token was trained on synthetic captions; transformers has it as a register. The
first answers for the picture, and it is what mask class tokens start as; every mask sees both. What
attention and the MLP give is scaled, channel by channel. The word tower has no causal mask; what
pads a text is masked out, and the mean of the rest answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from masqclip.errors import MasqclipError
from masqclip.towers.tokenizer import plain_token_ids
from masqclip.towers.tower import Part, Turns

_POSITIONS = "embeddings.position_embeddings"


class TipsBlock:
    """A block of a TIPS; see `masqclip.towers.tower.Block`."""

    reads_itself = False

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.heads: int = layer.attention.num_attention_heads

    def read(self, hidden: Tensor) -> Tensor:
        return self.layer.norm1(hidden)

    ask = read

    def project(self, part: Part, read: Tensor) -> Tensor:
        return getattr(self.layer.attention, f"{part}_proj")(read)

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        projection = getattr(self.layer.attention, f"{part}_proj")
        return projection.weight, projection.bias

    def turn(self, x: Tensor, turns: Turns | None) -> Tensor:
        return x

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        layer = self.layer
        mixed = layer.attention.o_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + layer.layer_scale1(mixed)
        return hidden + layer.layer_scale2(layer.mlp(layer.norm2(hidden)))


class TipsTower:
    """The picture tower of a TIPS; see `masqclip.towers.tower.Tower`.

    Args:
        tips: transformers' `Tipsv2Model`.
    """

    family = "tips"
    first = 0

    def __init__(self, tips: Any) -> None:
        vision = tips.vision_model
        self.vision: Any = vision
        self.modules: Sequence[nn.Module] = (vision,)
        self.image_size: int = vision.config.image_size
        self.patch_size: int = vision.config.patch_size
        self.width: int = vision.config.hidden_size
        self.prefix: int = 1 + vision.config.num_register_tokens
        self.blocks = [TipsBlock(layer) for layer in vision.encoder.layer]

    def start(self, pixel_values: Tensor) -> tuple[Tensor, Turns | None]:
        return self.vision.embeddings(pixel_values), None

    def own_embedding(self) -> Tensor:
        """The position of the first class token."""
        return self._positions()[0, 0]

    def own_start(self, embedding: Tensor) -> Tensor:
        return self.vision.embeddings.cls_token[0, 0] + embedding

    def embed(self, own: Tensor) -> Tensor:
        return self.vision.layernorm(own)

    def moving(self) -> Mapping[str, Tensor]:
        """The position of the class token, as in a CLIP."""
        return {"class_position": self._positions()[0, 0]}

    def frozen(self) -> Mapping[str, Tensor]:
        numbers = dict(self.vision.state_dict())
        return numbers | {_POSITIONS: numbers[_POSITIONS][:, 1:]}

    def _positions(self) -> Tensor:
        return self.vision.embeddings.position_embeddings


class TipsWords:
    """The word tower of a TIPS; see `masqclip.towers.tower.Words`.

    Args:
        tips: transformers' `Tipsv2Model`.
        tokenizer: of it.
    """

    def __init__(self, tips: Any, tokenizer: Any) -> None:
        config = tips.text_model.config
        self.tips = tips
        self.tokenizer = tokenizer
        self.size: int = config.hidden_size
        self.context_length: int = config.max_position_embeddings
        self.modules: Sequence[nn.Module] = (tips.text_model,)
        self.settings = repr(
            (config.hidden_act, config.num_attention_heads, config.scale_sqrt_depth)
        )

    def token_ids(self, texts: Sequence[str], *, cut: bool = False) -> list[list[int]]:
        return plain_token_ids(self.tokenizer, texts, self.context_length if cut else None)

    def pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        longest = max(1, *map(len, tokens))
        padding = self.tokenizer.pad_token_id
        return torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in tokens])

    def embed(self, padded: Tensor) -> Tensor:
        told = padded != self.tokenizer.pad_token_id
        told[:, 0] = True  # of a text without tokens something must be read
        return self.tips.text_model(input_ids=padded, attention_mask=told).pooler_output


def tips_scale(tips: Any) -> float:
    """How much cosines are multiplied by: this family keeps a temperature.

    Raises:
        MasqclipError: the temperature is none.
    """
    temperature = float(tips.temperature.detach())
    if not temperature > 0:
        raise MasqclipError(
            f"this TIPS has the temperature {temperature:g}, by which nothing can be divided: its "
            "weights are damaged"
        )
    return 1 / temperature
