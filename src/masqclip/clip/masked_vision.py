"""The masked CLIP tower: a mask class token per proposal in a frozen CLIP (MasQCLIP, sec. 3.3).

A *mask class token* reads the picture as CLIP's own class token does, but attends only to the class
token and to the patches under its mask. Nothing ever attends to it. So the picture's tokens do not
depend on the masks, and the tower falls into two functions:

- `encode_image`: CLIP's own forward pass, once a picture; hands every block's keys and values on.
- `embed_masks`: the mask class tokens' way through the same blocks; any masks, any number of times.

`encode_and_embed` is both at once, faster, where a picture's masks are known before its encoding.

Of a mask class token only its query projections are its own (`MaskQueries`): one linear layer a
block, and a learned embedding that takes the place of a position. Keys, values, output projections,
MLPs and norms are CLIP's, frozen. With the queries started from CLIP's own this is MaskCLIP. For
comparison (the paper's Table 5) the keys or values that it reads may be made by projections of its
own, too; the picture's tokens go on with CLIP's, and stay as they are.

Shapes: B pictures, Q masks, P patches, D width, N heads, L blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.activations import QuickGELUActivation

QueryStart = Literal["clip", "random"]


@dataclass(frozen=True)
class ImageTokens:
    """What a picture's own pass leaves for the masks to read.

    Attributes:
        keys, values: one [B,N,1+P,D/N] tensor a block; row 0 is the class token. They are CLIP's,
            or made by the masks' own projections.
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
        own: which projections are the mask class tokens' own: ``q`` (published), ``k``, ``v``,
            ``qk`` or ``qkv``. Query projections are there always; without ``q`` they are a copy of
            CLIP's that nothing trains.

    Attributes:
        projections: of queries, one a block.
        keys, values: the projections that make what masks read of a picture, one a block; None
            where they read CLIP's.
    """

    def __init__(self, vision: Any, own: str = "q") -> None:
        super().__init__()
        dtype = vision.embeddings.class_embedding.dtype
        self.own = own
        self.projections = _projections(vision)
        self.keys = _projections(vision) if "k" in own else None
        self.values = _projections(vision) if "v" in own else None
        self.embedding = nn.Parameter(torch.zeros(vision.config.hidden_size, dtype=dtype))

    @torch.no_grad()
    def start(self, vision: Any, how: QueryStart = "clip") -> None:
        """Set the values that training starts from.

        Args:
            vision: the frozen tower.
            how: ``clip`` copies CLIP's own query projections, so the untuned model is MaskCLIP;
                ``random`` draws them as the published code does, unless they are not to be learned
                (`own`). Either way the embedding starts as the position embedding of CLIP's class
                token, and own keys and values as CLIP's: nothing was published for these.
        """
        drawn = how == "random" and "q" in self.own
        starts = {"q_proj": self.projections, "k_proj": self.keys, "v_proj": self.values}
        for name, projections in starts.items():
            if projections is None:
                continue
            for projection, layer in zip(projections, vision.encoder.layers, strict=True):
                assert isinstance(projection, nn.Linear)
                if drawn and name == "q_proj":
                    projection.reset_parameters()
                else:
                    projection.load_state_dict(getattr(layer.self_attn, name).state_dict())
        self.embedding.copy_(vision.embeddings.position_embedding.weight[0])


def encode_image(
    vision: Any, pixel_values: Tensor, queries: MaskQueries | None = None
) -> ImageTokens:
    """Run CLIP over pictures and keep the keys and values of every block.

    The last block's own output is never computed: masks read only its keys and values.

    Args:
        vision: transformers' CLIP vision model.
        pixel_values: [B,3,S,S] at CLIP's size, normalised for CLIP; at any other size, of whole
            patches, position embeddings are interpolated.
        queries: of the masks that are to read them, which may have own keys and values.
    """
    hidden = picture_tokens(vision, pixel_values)
    keys, values = [], []
    last = len(vision.encoder.layers) - 1
    for number, layer in enumerate(vision.encoder.layers):
        normed = layer.layer_norm1(hidden)
        key, value = keys_and_values(layer.self_attn, normed)
        if number < last:
            hidden = finish_block(layer, hidden, attend_as_clip(layer, normed, key, value))
        key, value = _read_by_masks(queries, number, layer, normed, key, value)
        keys.append(key)
        values.append(value)
    return ImageTokens(tuple(keys), tuple(values))


def embed_masks(clip: Any, queries: MaskQueries, tokens: ImageTokens, visible: Tensor) -> Tensor:
    """Read every mask's content out of an encoded picture.

    Args:
        clip: transformers' CLIP model.
        queries: the learned query projections and embedding.
        tokens: from `encode_image`.
        visible: [B,Q,P] bool, the patches that each mask covers (`patch_visibility`), or float, how
            much each counts beside the class token's 1 (`mask_coverage.patch_weights`).

    Returns:
        [B,Q,E] mask embeddings in the space of the text embeddings, not normalised.
    """
    vision = clip.vision_model
    hidden, mask = mask_class_tokens(vision, queries, visible)
    blocks = zip(
        vision.encoder.layers, queries.projections, tokens.keys, tokens.values, strict=True
    )
    for layer, projection, key, value in blocks:
        mixed = _attend_as_masks(layer, projection, hidden, key, value, mask)
        hidden = finish_block(layer, hidden, mixed)
    return clip.visual_projection(vision.post_layernorm(hidden))


def encode_and_embed(
    clip: Any, queries: MaskQueries, pixel_values: Tensor, visible: Tensor
) -> tuple[ImageTokens, Tensor]:
    """`encode_image` and `embed_masks`, block by block; the same results.

    What both kinds of tokens share in a block, the output projection and the MLP, is one matrix
    product for both: a hundred mask class tokens alone keep neither a processor nor a GPU busy.

    Args:
        clip, queries, visible: as for `embed_masks`.
        pixel_values: as for `encode_image`.
    """
    vision = clip.vision_model
    hidden = picture_tokens(vision, pixel_values)
    own, mask = mask_class_tokens(vision, queries, visible)
    keys, values = [], []
    last = len(vision.encoder.layers) - 1
    blocks = zip(vision.encoder.layers, queries.projections, strict=True)
    for number, (layer, projection) in enumerate(blocks):
        normed = layer.layer_norm1(hidden)
        key, value = keys_and_values(layer.self_attn, normed)
        own_key, own_value = _read_by_masks(queries, number, layer, normed, key, value)
        keys.append(own_key)
        values.append(own_value)
        mixed = _attend_as_masks(layer, projection, own, own_key, own_value, mask)
        if number == last:
            own = finish_block(layer, own, mixed)
            break
        mixed = torch.cat([attend_as_clip(layer, normed, key, value), mixed], dim=2)
        both = finish_block(layer, torch.cat([hidden, own], dim=1), mixed)
        hidden, own = both.split([hidden.shape[1], own.shape[1]], dim=1)
    embeddings = clip.visual_projection(vision.post_layernorm(own))
    return ImageTokens(tuple(keys), tuple(values)), embeddings


def read_class_token(layer: Any, hidden: Tensor) -> Tensor:
    """A block's output for CLIP's class token alone, the one that its last block is asked for.

    The class token is the mask class token of a mask that covers everything, with CLIP's own
    queries. The block's matrix products for all other tokens but their keys and values are saved.

    Args:
        layer: the block.
        hidden: [B,1+P,D], what the block before it gave; row 0 is the class token.

    Returns:
        [B,1,D].
    """
    attention = layer.self_attn
    key, value = keys_and_values(attention, layer.layer_norm1(hidden))
    own = hidden[:, :1]
    return finish_block(
        layer, own, _attend_as_masks(layer, attention.q_proj, own, key, value, None)
    )


def input_size(
    vision: CLIPVisionConfig, frame: tuple[int, int], clip_input: str
) -> tuple[int, int]:
    """(height, width) in pixels at which a tower sees a frame.

    Args:
        vision: the tower's configuration.
        frame: (height, width) of the frame, or of a map in its aspect.
        clip_input: ``stretch``: the tower's own square; ``aspect``: about as many patches in the
            frame's aspect.
    """
    if clip_input == "stretch":
        return vision.image_size, vision.image_size
    patches = vision.image_size // vision.patch_size
    slant = math.sqrt(frame[0] / frame[1])
    rows, columns = (max(1, round(patches * factor)) for factor in (slant, 1 / slant))
    return rows * vision.patch_size, columns * vision.patch_size


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


def picture_tokens(vision: Any, pixel_values: Tensor) -> Tensor:
    """[B,1+P,D]: the class token and the patches of pictures, as the first block takes them."""
    side = vision.config.image_size
    other_size = tuple(pixel_values.shape[-2:]) != (side, side)
    hidden = vision.embeddings(pixel_values, interpolate_pos_encoding=other_size)
    return vision.pre_layrnorm(hidden)


def mask_class_tokens(vision: Any, queries: MaskQueries, visible: Tensor) -> tuple[Tensor, Tensor]:
    """The masks' own tokens [B,Q,D] before the first block, and what they may see [B,1,Q,1+P]."""
    # CLIP's class token is visible to every mask, so an empty mask still has something to read.
    everyone = torch.ones_like(visible[..., :1])
    mask = torch.cat([everyone, visible], dim=-1).unsqueeze(1)
    if mask.is_floating_point():  # in a softmax, the logarithm of a weight is that weight
        mask = mask.log()
    start = vision.pre_layrnorm(vision.embeddings.class_embedding + queries.embedding)
    return start.expand(*visible.shape[:2], -1), mask


def keys_and_values(attention: Any, normed: Tensor) -> tuple[Tensor, Tensor]:
    """A block's keys and values [B,N,1+P,D/N], for everybody to read who has none of his own."""
    heads = attention.num_heads
    return (
        split_heads(attention.k_proj(normed), heads),
        split_heads(attention.v_proj(normed), heads),
    )


def _read_by_masks(
    queries: MaskQueries | None, number: int, layer: Any, normed: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """A block's keys and values as masks read them: made by their own projections, else CLIP's.

    Args:
        queries: whose projections.
        number: of the block.
        layer: the block.
        normed: [B,1+P,D], the picture's tokens as the block's attention takes them.
        key, value: CLIP's own.
    """
    heads = layer.self_attn.num_heads
    if queries is not None and queries.keys is not None:
        key = split_heads(queries.keys[number](normed), heads)
    if queries is not None and queries.values is not None:
        value = split_heads(queries.values[number](normed), heads)
    return key, value


def attend_as_clip(layer: Any, normed: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of the picture's own tokens, all to all, with CLIP's queries: [B,N,1+P,D/N]."""
    query = split_heads(layer.self_attn.q_proj(normed), layer.self_attn.num_heads)
    return F.scaled_dot_product_attention(query, key, value)


def _attend_as_masks(
    layer: Any,
    projection: nn.Module,
    hidden: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Attention of mask class tokens to what they may see, with their own queries: [B,N,Q,D/N]."""
    query = split_heads(projection(layer.layer_norm1(hidden)), layer.self_attn.num_heads)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(key.dtype)
    return F.scaled_dot_product_attention(query.to(key.dtype), key, value, attn_mask=mask)


def _projections(vision: Any) -> nn.ModuleList:
    """A linear layer a block, of the tower's width and precision."""
    width, dtype = vision.config.hidden_size, vision.embeddings.class_embedding.dtype
    return nn.ModuleList(nn.Linear(width, width, dtype=dtype) for _ in vision.encoder.layers)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,T,D] to [B,N,T,D/N]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def finish_block(layer: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
    """What follows attention in a CLIP block: output projection, residual, MLP, residual."""
    hidden = hidden + layer.self_attn.out_proj(mixed.transpose(1, 2).flatten(2))
    return hidden + _mlp(layer.mlp, layer.layer_norm2(hidden))


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """CLIP's MLP; without gradients its quick GELU, x * sigmoid(1.702 x), needs no memory."""
    if torch.is_grad_enabled() or not isinstance(mlp.activation_fn, QuickGELUActivation):
        return mlp(x)
    widened = mlp.fc1(x).mul_(1.702)
    return mlp.fc2(F.silu(widened, inplace=True).div_(1.702))
