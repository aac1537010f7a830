"""What pretraining from nothing needs of a family, beside its towers: sizes, windows, a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from masqclip.towers.tower import Tower

#: How pictures and texts are told apart: all of a batch compete (Radford et al., 2021), or each
#: pair is judged by itself (Zhai et al., 2023).
Contrast = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class SmallSizes:
    """The sizes of a small CLIP.

    Attributes:
        image_size, patch_size: in pixels.
        vision_width, vision_layers, vision_heads: of the tower that reads pictures.
        text_width, text_layers, text_heads: of the one that reads words.
        embedding_size: of the space that they share; a family whose pooling head has no projection
            has it as wide as its picture tower.
        tokens: how many the tokenizer has.
        start_id, end_id, padding_id: of its special tokens.
    """

    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    embedding_size: int
    tokens: int
    start_id: int
    end_id: int
    padding_id: int


class WindowedTower(Tower, Protocol):
    """A picture tower that can be trained on windows of its square, of which it may see a part."""

    def start_window(self, pixel_values: Tensor, corner: Tensor, kept: Tensor | None) -> Tensor:
        """Tokens [B,T,D] of windows before the first block.

        Args:
            pixel_values: [B,3,h,w], normalised, sides multiples of the patch size and at most the
                tower's square.
            corner: [2] row and column, in patches, of the window's first patch.
            kept: [B,k], the window's patches that are looked at; all where it is None.
        """
        ...

    def run(self, hidden: Tensor) -> Tensor:
        """[B,T,D]: tokens through all blocks but the last, as the model's own layers do it."""
        ...


def window_tokens(embeddings: Any, pixel_values: Tensor, corner: Tensor, kept: Tensor | None,
                  *, prefix: int) -> Tensor:  # fmt: skip
    """[B,k,D]: patches of windows with their positions; see `WindowedTower.start_window`.

    Args:
        embeddings: of transformers' vision model: patches, and learned positions.
        pixel_values, corner, kept: as there.
        prefix: how many positions stand before those of the patches.
    """
    patches = embeddings.patch_embedding(pixel_values)
    rows, columns = patches.shape[-2:]
    side = embeddings.image_size // embeddings.patch_size
    grid = embeddings.position_embedding.weight[prefix:].view(side, side, -1)
    y, x = (int(value) for value in corner)
    window = grid[y : y + rows, x : x + columns].flatten(0, 1)
    tokens: Tensor = patches.flatten(2).transpose(1, 2) + window
    if kept is not None:
        tokens = tokens.gather(1, kept.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    return tokens


def with_class_token(tokens: Tensor, token: Tensor) -> Tensor:
    """[B,1+k,D]: a class token [D] before the patches [B,k,D] of each picture."""
    return torch.cat([token.expand(tokens.shape[0], 1, -1).to(tokens.dtype), tokens], dim=1)
