"""The masked CLIP tower: a mask class token per proposal in a frozen CLIP (MasQCLIP, sec. 3.3).

A *mask class token* reads the picture as CLIP's own class token does, but attends only to the class
token and to the patches under its mask. Nothing ever attends to it. So the picture's tokens do not
depend on the masks, and the tower falls into two functions:

- `encode_image`: CLIP's own forward pass, once a picture; hands every block's keys and values on.
- `embed_masks`: the mask class tokens' way through the same blocks; any masks, any number of times.

Of a mask class token only its query projections are its own (`MaskQueries`): one linear layer a
block, and a learned embedding that takes the place of a position. Keys, values, output projections,
MLPs and norms are CLIP's, frozen. With the queries started from CLIP's own this is MaskCLIP.

Shapes: B pictures, Q masks, P patches, D width, N heads, L blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation

QueryStart = Literal["clip", "random"]


@dataclass(frozen=True)
class ImageTokens:
    """What a picture's own pass leaves for the masks to read.

    Attributes:
        keys, values: one [B,N,1+P,D/N] tensor a block; row 0 is the class token.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def select(self, rows: slice | Tensor) -> ImageTokens:
        """The tokens of some of the pictures."""
        return ImageTokens(
            tuple(key[rows] for key in self.keys), tuple(value[rows] for value in self.values)
        )


class MaskQueries(nn.Module):
    """All that MasQ-Tuning learns: a query projection a block, and the mask class embedding.

    Args:
        vision: the frozen tower (transformers' CLIP vision model) whose sizes they take.
    """

    def __init__(self, vision: Any) -> None:
        super().__init__()
        width = vision.config.hidden_size
        self.projections = nn.ModuleList(nn.Linear(width, width) for _ in vision.encoder.layers)
        self.embedding = nn.Parameter(torch.zeros(width))

    @torch.no_grad()
    def start(self, vision: Any, how: QueryStart = "clip") -> None:
        """Set the values that training starts from.

        Args:
            vision: the frozen tower.
            how: ``clip`` copies CLIP's own query projections, so the untuned model is MaskCLIP;
                ``random`` draws them as the published code does. The embedding starts as the
                position embedding of CLIP's class token either way.
        """
        for projection, layer in zip(self.projections, vision.encoder.layers, strict=True):
            assert isinstance(projection, nn.Linear)
            if how == "clip":
                projection.load_state_dict(layer.self_attn.q_proj.state_dict())
            else:
                projection.reset_parameters()
        self.embedding.copy_(vision.embeddings.position_embedding.weight[0])


def encode_image(vision: Any, pixel_values: Tensor) -> ImageTokens:
    """Run CLIP over pictures and keep the keys and values of every block.

    The last block's own output is never computed: masks read only its keys and values.

    Args:
        vision: transformers' CLIP vision model.
        pixel_values: [B,3,S,S] at CLIP's size, normalised for CLIP; at any other size, of whole
            patches, position embeddings are interpolated.
    """
    side = vision.config.image_size
    other_size = tuple(pixel_values.shape[-2:]) != (side, side)
    hidden = vision.embeddings(pixel_values, interpolate_pos_encoding=other_size)
    hidden = vision.pre_layrnorm(hidden)
    keys, values = [], []
    last = len(vision.encoder.layers) - 1
    for number, layer in enumerate(vision.encoder.layers):
        attention = layer.self_attn
        normed = layer.layer_norm1(hidden)
        key = _split_heads(attention.k_proj(normed), attention.num_heads)
        value = _split_heads(attention.v_proj(normed), attention.num_heads)
        keys.append(key)
        values.append(value)
        if number < last:
            query = _split_heads(attention.q_proj(normed), attention.num_heads)
            mixed = F.scaled_dot_product_attention(query, key, value)
            hidden = _finish_block(layer, hidden, mixed)
    return ImageTokens(tuple(keys), tuple(values))


def embed_masks(clip: Any, queries: MaskQueries, tokens: ImageTokens, visible: Tensor) -> Tensor:
    """Read every mask's content out of an encoded picture.

    Args:
        clip: transformers' CLIP model.
        queries: the learned query projections and embedding.
        tokens: from `encode_image`.
        visible: [B,Q,P] bool, the patches that each mask covers (`patch_visibility`).

    Returns:
        [B,Q,E] mask embeddings in the space of the text embeddings, not normalised.
    """
    vision = clip.vision_model
    # CLIP's class token is visible to every mask, so an empty mask still has something to read.
    everyone = torch.ones_like(visible[..., :1])
    mask = torch.cat([everyone, visible], dim=-1).unsqueeze(1)
    start = vision.pre_layrnorm(vision.embeddings.class_embedding + queries.embedding)
    hidden = start.expand(*visible.shape[:2], -1)
    for number, layer in enumerate(vision.encoder.layers):
        query = queries.projections[number](layer.layer_norm1(hidden))
        query = _split_heads(query, layer.self_attn.num_heads)
        key, value = tokens.keys[number], tokens.values[number]
        mixed = F.scaled_dot_product_attention(query.to(key.dtype), key, value, attn_mask=mask)
        hidden = _finish_block(layer, hidden, mixed)
    return clip.visual_projection(vision.post_layernorm(hidden))


def patch_visibility(
    mask_logits: Tensor, *, image_size: int | tuple[int, int], patch_size: int
) -> Tensor:
    """Which patches a mask covers: those in which any pixel's logit is positive.

    Logits are resized bilinearly to CLIP's input and max-pooled over patches (published rule).

    Args:
        mask_logits: [B,Q,h,w] over the padded frame that CLIP sees, at any resolution.
        image_size: side, or (height, width), of CLIP's input in pixels.
        patch_size: side of its patches in pixels.

    Returns:
        [B,Q,P] bool, patches row by row.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    mask_logits = mask_logits.float()
    if mask_logits.device.type == "cpu":  # where masks innermost are resized several times faster
        mask_logits = mask_logits.contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
    return F.max_pool2d(resized, patch_size).flatten(2) > 0


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,T,D] to [B,N,T,D/N]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _finish_block(layer: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
    """What follows attention in a CLIP block: output projection, residual, MLP, residual."""
    hidden = hidden + layer.self_attn.out_proj(mixed.transpose(1, 2).flatten(2))
    return hidden + _mlp(layer.mlp, layer.layer_norm2(hidden))


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """CLIP's MLP; without gradients its quick GELU, x * sigmoid(1.702 x), needs no memory."""
    if torch.is_grad_enabled() or not isinstance(mlp.activation_fn, QuickGELUActivation):
        return mlp(x)
    widened = mlp.fc1(x).mul_(1.702)
    return mlp.fc2(F.silu(widened, inplace=True).div_(1.702))
