"""CLIPs as OpenAI built them: those of OpenAI, LAION, DFN, MetaCLIP, and MetaCLIP 2.

A class token that the first block is given beside the patches; positions are added; norms stand
before attention and before the MLP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig
from transformers.activations import QuickGELUActivation

from masqclip.towers.pretrainable import SmallSizes, window_tokens, with_class_token
from masqclip.towers.tokenizer import CONTEXT_LENGTH, PADDING_ID, plain_token_ids
from masqclip.towers.tower import Part, Turns

_POSITIONS = "embeddings.position_embedding.weight"


class ClipBlock:
    """A block of a CLIP; see `masqclip.towers.tower.Block`."""

    reads_itself = False

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.heads: int = layer.self_attn.num_heads

    def read(self, hidden: Tensor) -> Tensor:
        return self.layer.layer_norm1(hidden)

    ask = read

    def project(self, part: Part, read: Tensor) -> Tensor:
        return getattr(self.layer.self_attn, f"{part}_proj")(read)

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        projection = getattr(self.layer.self_attn, f"{part}_proj")
        return projection.weight, projection.bias

    def turn(self, x: Tensor, turns: Turns | None) -> Tensor:
        return x

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        layer = self.layer
        hidden = hidden + layer.self_attn.out_proj(mixed.transpose(1, 2).flatten(2))
        return hidden + _mlp(layer.mlp, layer.layer_norm2(hidden))


class ClipTower:
    """The picture tower of a CLIP; see `masqclip.towers.tower.Tower`.

    Args:
        clip: transformers' `CLIPModel` or `MetaClip2Model`, or one with a vision tower and its
            projection alone.
    """

    family = "clip"
    prefix = 1
    first = 0

    def __init__(self, clip: Any) -> None:
        vision = clip.vision_model
        self.vision: Any = vision
        self.projection: nn.Module = clip.visual_projection
        self.modules: Sequence[nn.Module] = (vision, self.projection)
        self.image_size: int = vision.config.image_size
        self.patch_size: int = vision.config.patch_size
        self.width: int = vision.config.hidden_size
        self.blocks = [ClipBlock(layer) for layer in vision.encoder.layers]

    def start(self, pixel_values: Tensor) -> tuple[Tensor, Turns | None]:
        other_size = tuple(pixel_values.shape[-2:]) != (self.image_size, self.image_size)
        hidden = self.vision.embeddings(pixel_values, interpolate_pos_encoding=other_size)
        return self.vision.pre_layrnorm(hidden), None

    def start_window(self, pixel_values: Tensor, corner: Tensor, kept: Tensor | None) -> Tensor:
        """As `masqclip.towers.pretrainable.WindowedTower` has it."""
        embeddings = self.vision.embeddings
        tokens = window_tokens(embeddings, pixel_values, corner, kept, prefix=1)
        token = embeddings.class_embedding + self._positions()[0]
        return self.vision.pre_layrnorm(with_class_token(tokens, token))

    def run(self, hidden: Tensor) -> Tensor:
        """As `masqclip.towers.pretrainable.WindowedTower` has it."""
        for block in self.blocks[:-1]:
            hidden = block.layer(hidden, None)
        return hidden

    def own_embedding(self) -> Tensor:
        """The position of the class token."""
        return self._positions()[0]

    def own_start(self, embedding: Tensor) -> Tensor:
        return self.vision.pre_layrnorm(self.vision.embeddings.class_embedding + embedding)

    def embed(self, own: Tensor) -> Tensor:
        return self.projection(self.vision.post_layernorm(own))

    def moving(self) -> Mapping[str, Tensor]:
        """The position of the class token: the published training moves that, too."""
        return {"class_position": self._positions()[0]}

    def frozen(self) -> Mapping[str, Tensor]:
        numbers = dict(self.vision.state_dict())
        return numbers | {_POSITIONS: numbers[_POSITIONS][1:]}

    def _positions(self) -> Tensor:
        return self.vision.embeddings.position_embedding.weight


class MetaClip2Tower(ClipTower):
    """The picture tower of a MetaCLIP 2, which computes as a CLIP's."""

    family = "metaclip_2"


class ClipWords:
    """The word tower of a CLIP; see `masqclip.towers.tower.Words`.

    Args:
        clip: transformers' `CLIPModel` or `MetaClip2Model`.
        tokenizer: of it.
    """

    def __init__(self, clip: Any, tokenizer: Any) -> None:
        config = clip.config.text_config
        self.clip = clip
        self.tokenizer = tokenizer
        self.size: int = clip.config.projection_dim
        self.context_length: int = config.max_position_embeddings
        self.modules: Sequence[nn.Module] = (clip.text_model, clip.text_projection)
        self.settings = repr((config.hidden_act, config.num_attention_heads, config.eos_token_id))

    def token_ids(self, texts: Sequence[str], *, cut: bool = False) -> list[list[int]]:
        return plain_token_ids(self.tokenizer, texts, self.context_length if cut else None)

    def pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """What follows the first end token is never seen, whatever it is."""
        longest = max(map(len, tokens))
        return torch.tensor([[*ids, *[PADDING_ID] * (longest - len(ids))] for ids in tokens])

    def embed(self, padded: Tensor) -> Tensor:
        return self.clip.text_projection(self.clip.text_model(input_ids=padded).pooler_output)


def small_clip(sizes: SmallSizes) -> CLIPConfig:
    """The configuration of a CLIP to train from nothing."""
    return CLIPConfig(
        vision_config={
            "hidden_size": sizes.vision_width,
            "intermediate_size": 4 * sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "hidden_act": "gelu",
            "projection_dim": sizes.embedding_size,
        },
        text_config={
            "vocab_size": sizes.tokens,
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "max_position_embeddings": CONTEXT_LENGTH,
            "hidden_act": "gelu",
            "projection_dim": sizes.embedding_size,
            "bos_token_id": sizes.start_id,
            "eos_token_id": sizes.end_id,
            "pad_token_id": sizes.padding_id,
        },
        projection_dim=sizes.embedding_size,
    )


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """CLIP's MLP; without gradients its quick GELU, x * sigmoid(1.702 x), needs no memory."""
    if torch.is_grad_enabled() or not isinstance(mlp.activation_fn, QuickGELUActivation):
        return mlp(x)
    widened = mlp.fc1(x).mul_(1.702)
    return mlp.fc2(F.silu(widened, inplace=True).div_(1.702))
