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

How a CLIP computes is its family's business (`masqclip.towers`). Here a tower is blocks that the
picture's tokens go through, and the first of them that mask class tokens take part in.

Shapes: B pictures, Q masks, P patches, T = C + P tokens of a picture, C of which stand for all of
it (one class token, or none), D width, N heads, L blocks that mask class tokens go through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masqclip.towers.tower import Block, Part, Tower, Turns

QueryStart = Literal["clip", "random"]


@dataclass(frozen=True)
class ImageTokens:
    """What a picture's own pass leaves for the masks to read.

    Attributes:
        keys, values: one [B,N,C+P,D/N] tensor a block; the first C rows are not of patches. They
            are CLIP's, or made by the masks' own projections.
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
        tower: the frozen tower whose sizes they take.
        own: which projections are the mask class tokens' own: ``q`` (published), ``k``, ``v``,
            ``qk`` or ``qkv``. Query projections are there always; without ``q`` they are a copy of
            CLIP's that nothing trains.

    Attributes:
        projections: of queries, one a block.
        keys, values: the projections that make what masks read of a picture, one a block; None
            where they read CLIP's.
    """

    def __init__(self, tower: Tower, own: str = "q") -> None:
        super().__init__()
        self.own = own
        self.projections = _projections(tower)
        self.keys = _projections(tower) if "k" in own else None
        self.values = _projections(tower) if "v" in own else None
        self.embedding = nn.Parameter(torch.zeros_like(tower.own_embedding()))

    @torch.no_grad()
    def start(self, tower: Tower, how: QueryStart = "clip") -> None:
        """Set the values that training starts from.

        Args:
            tower: the frozen tower.
            how: ``clip`` copies CLIP's own query projections, so the untuned model is MaskCLIP;
                ``random`` draws them as the published code does, unless they are not to be learned
                (`own`). Either way the embedding starts as CLIP's own (of a class token, its
                position), and own keys and values as CLIP's: nothing was published for these.
        """
        drawn = how == "random" and "q" in self.own
        starts: dict[Part, nn.ModuleList | None]
        starts = {"q": self.projections, "k": self.keys, "v": self.values}
        for part, projections in starts.items():
            if projections is None:
                continue
            for projection, block in zip(projections, mask_blocks(tower), strict=True):
                assert isinstance(projection, nn.Linear)
                if drawn and part == "q":
                    projection.reset_parameters()
                else:
                    weight, bias = block.weights(part)
                    projection.weight.copy_(weight)
                    projection.bias.zero_() if bias is None else projection.bias.copy_(bias)
        self.embedding.copy_(tower.own_embedding())


def mask_blocks(tower: Tower) -> list[Block]:
    """The blocks that mask class tokens go through."""
    return list(tower.blocks[tower.first :])


def encode_image(
    tower: Tower, pixel_values: Tensor, queries: MaskQueries | None = None
) -> ImageTokens:
    """Run CLIP over pictures and keep the keys and values of every block that masks read.

    The last block's own output is never computed: masks read only its keys and values.

    Args:
        tower: that reads pictures.
        pixel_values: [B,3,S,S] at CLIP's size, normalised for CLIP; at any other size, of whole
            patches, positions are interpolated.
        queries: of the masks that are to read them, which may have own keys and values.
    """
    return encode_tokens(tower, *tower.start(pixel_values), queries)


def encode_tokens(
    tower: Tower, hidden: Tensor, turns: Turns | None = None, queries: MaskQueries | None = None
) -> ImageTokens:
    """`encode_image` from the tokens [B,T,D] on that come into the first block."""
    keys, values = [], []
    last = len(tower.blocks) - 1
    for number, block in enumerate(tower.blocks, start=-tower.first):
        read = block.read(hidden)
        key, value = keys_and_values(block, read, turns)
        if number + tower.first < last:
            hidden = block.finish(hidden, attend_as_clip(block, read, key, value, turns))
        if number >= 0:
            key, value = _read_by_masks(queries, number, block, read, key, value, turns)
            keys.append(key)
            values.append(value)
    return ImageTokens(tuple(keys), tuple(values))


def embed_masks(
    tower: Tower,
    queries: MaskQueries | None,
    tokens: ImageTokens,
    visible: Tensor,
    *,
    mask_from: int = 0,
) -> Tensor:
    """Read every mask's content out of an encoded picture.

    Args:
        tower: that encoded it.
        queries: the learned query projections and embedding; None = CLIP's own (MaskCLIP).
        tokens: from `encode_image`.
        visible: [B,Q,P] bool, the patches that each mask covers (`patch_visibility`), or float, how
            much each counts beside the class token's 1 (`mask_coverage.patch_weights`).
        mask_from: the first of the blocks in which masks are masked; in those before they see all.

    Returns:
        [B,Q,E] mask embeddings in the space of the text embeddings, not normalised.
    """
    own, mask = mask_class_tokens(tower, queries, visible)
    for number, block in enumerate(mask_blocks(tower)):
        key, value = tokens.keys[number], tokens.values[number]
        seen = mask if number >= mask_from else everything(mask)
        own = block.finish(own, attend_as_masks(block, queries, number, own, key, value, seen))
    return tower.embed(own)


def encode_and_embed(
    tower: Tower,
    queries: MaskQueries,
    pixel_values: Tensor,
    visible: Tensor,
    *,
    mask_from: int = 0,
) -> tuple[ImageTokens, Tensor]:
    """`encode_image` and `embed_masks`, block by block; the same results.

    What both kinds of tokens share in a block, the output projection and the MLP, is one matrix
    product for both: a hundred mask class tokens alone keep neither a processor nor a GPU busy.

    Args:
        tower, queries, visible, mask_from: as for `embed_masks`.
        pixel_values: as for `encode_image`.
    """
    hidden, turns = tower.start(pixel_values)
    own, mask = mask_class_tokens(tower, queries, visible)
    keys, values = [], []
    last = len(tower.blocks) - 1
    for number, block in enumerate(tower.blocks, start=-tower.first):
        read = block.read(hidden)
        key, value = keys_and_values(block, read, turns)
        if number < 0:
            hidden = block.finish(hidden, attend_as_clip(block, read, key, value, turns))
            continue
        own_key, own_value = _read_by_masks(queries, number, block, read, key, value, turns)
        keys.append(own_key)
        values.append(own_value)
        seen = mask if number >= mask_from else everything(mask)
        mixed = attend_as_masks(block, queries, number, own, own_key, own_value, seen)
        if number + tower.first == last:
            own = block.finish(own, mixed)
            break
        mixed = torch.cat([attend_as_clip(block, read, key, value, turns), mixed], dim=2)
        both = block.finish(torch.cat([hidden, own], dim=1), mixed)
        hidden, own = both.split([hidden.shape[1], own.shape[1]], dim=1)
    return ImageTokens(tuple(keys), tuple(values)), tower.embed(own)


def read_picture(tower: Tower, hidden: Tensor, turns: Turns | None = None) -> Tensor:
    """[B,E]: the tower's own embedding of whole pictures, from their tokens before its last block.

    The last block is asked for one token alone, which is the mask class token of a mask that covers
    everything, with CLIP's own queries: the class token, or the probe of a pooling head. The
    block's matrix products for all other tokens but their keys and values are saved.

    Args:
        tower: that reads pictures.
        hidden: [B,T,D], what the block before the last gave; row 0 is the class token, if any.
        turns: from `Tower.start`.
    """
    block = tower.blocks[-1]
    key, value = keys_and_values(block, block.read(hidden), turns)
    if tower.prefix:
        own = hidden[:, :1]
    else:
        own = tower.own_start(tower.own_embedding()).expand(hidden.shape[0], 1, -1)
    query = split_heads(block.project("q", block.ask(own)), block.heads)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return tower.embed(block.finish(own, mixed))[:, 0]


def mask_class_tokens(
    tower: Tower, queries: MaskQueries | None, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """The masks' own tokens [B,Q,D] before their first block, and what they may see [B,1,Q,T]."""
    # A class token is visible to every mask, so an empty mask still has something to read.
    everyone = torch.ones_like(visible[..., :1]).expand(*visible.shape[:2], tower.prefix)
    mask = torch.cat([everyone, visible], dim=-1).unsqueeze(1)
    if not tower.prefix:
        mask = _never_nothing(mask)
    if mask.is_floating_point():  # in a softmax, the logarithm of a weight is that weight
        mask = mask.log()
    embedding = tower.own_embedding() if queries is None else queries.embedding
    return tower.own_start(embedding).expand(*visible.shape[:2], -1), mask


def _never_nothing(mask: Tensor) -> Tensor:
    """A mask that sees no token at all sees all of them: attention to nothing is no number."""
    return torch.where((mask > 0).any(dim=-1, keepdim=True), mask, torch.ones_like(mask))


def everything(mask: Tensor) -> Tensor:
    """A mask that hides nothing, in place of one that does."""
    return torch.ones_like(mask) if mask.dtype == torch.bool else torch.zeros_like(mask)


def keys_and_values(block: Block, read: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor]:
    """A block's keys and values [B,N,T,D/N], for everybody to read who has none of his own."""
    key = split_heads(block.project("k", read), block.heads)
    return block.turn(key, turns), split_heads(block.project("v", read), block.heads)


def _read_by_masks(
    queries: MaskQueries | None,
    number: int,
    block: Block,
    read: Tensor,
    key: Tensor,
    value: Tensor,
    turns: Turns | None,
) -> tuple[Tensor, Tensor]:
    """A block's keys and values as masks read them: made by their own projections, else CLIP's.

    Args:
        queries: whose projections.
        number: of the block, of those that masks go through.
        block: it.
        read: [B,T,D], the picture's tokens as the block's attention takes them.
        key, value: CLIP's own.
        turns: of the picture's tokens.
    """
    if queries is not None and queries.keys is not None:
        key = block.turn(split_heads(queries.keys[number](read), block.heads), turns)
    if queries is not None and queries.values is not None:
        value = split_heads(queries.values[number](read), block.heads)
    return key, value


def attend_as_clip(
    block: Block, read: Tensor, key: Tensor, value: Tensor, turns: Turns | None
) -> Tensor:
    """Attention of the picture's own tokens, all to all, with CLIP's queries: [B,N,T,D/N]."""
    query = block.turn(split_heads(block.project("q", read), block.heads), turns)
    return F.scaled_dot_product_attention(query, key, value)


def attend_as_masks(
    block: Block,
    queries: MaskQueries | None,
    number: int,
    own: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
) -> Tensor:
    """Attention of mask class tokens to what they may see, with their own queries: [B,N,Q,D/N]."""
    asked = block.ask(own)
    projected = block.project("q", asked) if queries is None else queries.projections[number](asked)
    query = split_heads(projected, block.heads).to(key.dtype)
    if mask.is_floating_point():
        mask = mask.to(key.dtype)
    if block.reads_itself:
        itself = block.read(own)
        at_itself = keys_and_values(block, itself, None)
        at_itself = _read_by_masks(queries, number, block, itself, *at_itself, None)
        return _attend_with_itself(query, key, value, *at_itself, mask)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _attend_with_itself(
    query: Tensor, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor, mask: Tensor
) -> Tensor:
    """Attention in which each mask class token has taken the class token's place.

    Args:
        query, own_key, own_value: [B,N,Q,D/N] of the mask class tokens.
        key, value: [B,N,1+P,D/N] of the picture; row 0, the class token, is read by nobody.
        mask: [B,1,Q,1+P], which patches a mask sees, or the logarithm of how much.
    """
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)
    scale = 1 / math.sqrt(query.shape[-1])
    own = (query * own_key).sum(dim=-1, keepdim=True)
    logits = torch.cat([own, query @ key[:, :, 1:].transpose(-1, -2)], dim=-1) * scale
    weights = (logits + mask).softmax(dim=-1)
    return weights[..., :1] * own_value + weights[..., 1:] @ value[:, :, 1:]


def _projections(tower: Tower) -> nn.ModuleList:
    """A linear layer a block, of the tower's width and precision."""
    width, dtype = tower.width, tower.own_embedding().dtype
    return nn.ModuleList(nn.Linear(width, width, dtype=dtype) for _ in mask_blocks(tower))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,T,D] to [B,N,T,D/N]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
