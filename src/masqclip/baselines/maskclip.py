"""MaskCLIP (Ding, Wang, Tu, ICML 2023): mask class tokens whose attention is told of their masks.

A mask class token runs through the frozen CLIP with CLIP's own queries, keys and values, and sees
the patches under its mask, as in MasQCLIP. What is learned stands beside four of the blocks, at a
quarter, half, three quarters and the end of the tower (`RelativeMaskAttention`):

- *Relative mask attention*: how a mask lies in a patch makes a bias of the token's attention to it.
- *Mask residual*: what the token asks of a patch, times what the patch answers, refines the mask
  within it. The blocks that follow see the refined mask.

Training matches masks one to one with the annotations, names included, and nothing scores whether
a mask is an object: its class probability is all. The published model, 24 blocks of width 1024,
learns 5.82 million numbers.

Shapes: B pictures, Q masks, P patches of p x p pixels, S T CLIP's input, D width, N heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from masqclip.clip.masked_vision import (
    attend_as_clip,
    keys_and_values,
    mask_class_tokens,
    split_heads,
)
from masqclip.clip.patches import patch_visibility
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.model_output import Seen
from masqclip.proposals.base import surely_objects
from masqclip.proposals.criterion import (
    CriterionSettings,
    draw_points,
    mask_costs,
    match,
    pair_losses,
    sample_points,
)


class RelativeMaskAttention(nn.Module):
    """What is learned beside one block of CLIP.

    Args:
        width: D.
        heads: N.
        patch: p, in pixels.
    """

    def __init__(self, width: int, heads: int, patch: int) -> None:
        super().__init__()
        self.heads, self.patch = heads, patch
        # The published convolutions: one of a patch's size and stride, and one of 1x1.
        self.shape = nn.Linear(patch * patch, width)
        self.norm = nn.LayerNorm(width)
        self.key = nn.Linear(width, width)
        self.refine = nn.Linear(width, patch * patch)
        for layer in (self.shape, self.key, self.refine):
            nn.init.kaiming_uniform_(layer.weight, a=1)

    def bias(self, masks: Tensor, patches: Tensor) -> Tensor:
        """What is added to the attention of each mask to each patch, [B,N,Q,P].

        Args:
            masks: [B,Q,S,T] logits.
            patches: [B,P,D], normed by the block.
        """
        pixels = masks.tanh().unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)
        shapes = self.shape(pixels.flatten(4).flatten(2, 3).to(patches.dtype))
        query = self.norm(shapes).unflatten(-1, (self.heads, -1))
        key = self.key(patches).unflatten(-1, (self.heads, -1))
        return torch.einsum("bqpnd,bpnd->bnqp", query, key) / math.sqrt(key.shape[-1])

    def residual(self, query: Tensor, key: Tensor, grid: tuple[int, int]) -> Tensor:
        """What is added to the masks, [B,Q,S,T].

        Args:
            query: [B,N,Q,D/N] of the mask class tokens.
            key: [B,N,P,D/N] of the patches.
            grid: (rows, columns) of the patches.
        """
        asked = query.transpose(1, 2).flatten(2) / math.sqrt(query.shape[-1])
        answers = asked.unsqueeze(2) * key.transpose(1, 2).flatten(2).unsqueeze(1)  # [B,Q,P,D]
        pixels = self.refine(answers * torch.sigmoid(1.702 * answers))
        rows = pixels.unflatten(2, grid).unflatten(-1, (self.patch, self.patch))
        return rows.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def places(layers: int) -> tuple[int, ...]:
    """Which of a tower's blocks have relative mask attention, counted from 0; of fewer than four
    blocks, each at most once."""
    return tuple(sorted({math.ceil(layers * part / 4) - 1 for part in range(1, 5)}))


class MaskClipModel(MasQClipModel):
    """MaskCLIP on this package's proposer and CLIP, both frozen."""

    system = "maskclip"
    takes_masks: ClassVar[bool] = False

    def _make_parts(self) -> None:
        tower = self.tower
        if tower.first or tower.prefix != 1 or tower.blocks[-1].reads_itself:
            raise MasqclipError(
                f"MaskCLIP needs a CLIP whose class token goes through all blocks, and one of the "
                f"family {tower.family!r} has none: use the system 'masqclip'"
            )
        sizes = (tower.width, tower.blocks[0].heads, tower.patch_size)
        self.attention = nn.ModuleList(
            RelativeMaskAttention(*sizes) for _ in places(len(tower.blocks))
        )

    @property
    def learned(self) -> nn.Module:
        """The four relative mask attentions."""
        return self.attention

    def see(
        self, pixel_values: Tensor, pixel_mask: Tensor, *, min_object_score: float = 0.0
    ) -> Seen:
        """Refined masks and their embeddings; all take part, as none has an object score."""
        proposals = self.propose(pixel_values, pixel_mask)
        masks, embeddings = self.refine(pixel_values, proposals.mask_logits)
        return Seen(surely_objects(masks[-1]), embeddings)

    def refine(self, pixel_values: Tensor, mask_logits: Tensor) -> tuple[list[Tensor], Tensor]:
        """Read masks and refine them on the way.

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero-padded.
            mask_logits: [B,Q,h,w] over the padded frame.

        Returns:
            The masks' logits [B,Q,S,T] after each relative mask attention, the final ones last;
            and their embeddings [B,Q,E].
        """
        tower = self.tower
        patch = tower.patch_size
        frames = self._clip_input(pixel_values)
        size = (frames.shape[-2], frames.shape[-1])
        grid = (size[0] // patch, size[1] // patch)
        masks = F.interpolate(mask_logits.float(), size=size, mode="bilinear", align_corners=False)
        blocks = tower.blocks
        beside: dict[int, Any] = dict(zip(places(len(blocks)), self.attention, strict=True))
        hidden, turns = tower.start(frames)
        own: Tensor | None = None
        refined: list[Tensor] = []
        for number, block in enumerate(blocks):
            visible = patch_visibility(masks.detach(), image_size=size, patch_size=patch)
            start, seen = mask_class_tokens(tower, self.queries, visible)
            own = start if own is None else own
            read = block.read(hidden)
            key, value = keys_and_values(block, read, turns)
            query = split_heads(block.project("q", block.ask(own)), block.heads)
            told = beside.get(number)
            if told is None:
                mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
            else:
                bias = told.bias(masks, read[:, 1:])
                mixed = attend_with_bias(query, key, value, bias, visible)
                masks = masks + told.residual(query, key[:, :, 1:], grid)
                refined.append(masks)
            own = block.finish(own, mixed)
            if number < len(blocks) - 1:
                hidden = block.finish(hidden, attend_as_clip(block, read, key, value, turns))
        assert own is not None
        return refined, tower.embed(own)


def attend_with_bias(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, visible: Tensor
) -> Tensor:
    """Attention of mask class tokens [B,N,Q,D/N] to CLIP's class token and their masks' patches.

    To a patch it is the mean of CLIP's own logit and of the bias, to the class token CLIP's own.

    Args:
        query: [B,N,Q,D/N].
        key, value: [B,N,1+P,D/N], the class token's first.
        bias: [B,N,Q,P].
        visible: [B,Q,P] bool.
    """
    halved = torch.cat([key[:, :, :1], key[:, :, 1:] / 2], dim=2)
    told = (bias / 2).masked_fill(~visible.unsqueeze(1), -torch.inf)
    told = torch.cat([told.new_zeros(*told.shape[:3], 1), told], dim=-1)
    return F.scaled_dot_product_attention(query, halved, value, attn_mask=told.to(query.dtype))


def maskclip_counts(
    labels: Sequence[Tensor], num_masks: int, settings: CriterionSettings
) -> dict[str, Tensor]:
    """What the means of `maskclip_losses` are taken over; arguments as there.

    Returns:
        ``masks``: annotated masks; ``weight``: of all masks in the cross entropy.
    """
    matched = sum(min(len(found), num_masks) for found in labels)
    weight = matched + settings.no_object_weight * (len(labels) * num_masks - matched)
    device = labels[0].device
    return {
        "masks": torch.tensor(sum(map(len, labels)), dtype=torch.float32, device=device),
        "weight": torch.tensor(weight, dtype=torch.float32, device=device),
    }


def maskclip_losses(
    refined: Sequence[Tensor],
    class_logits: Tensor,
    masks: Sequence[Tensor],
    labels: Sequence[Tensor],
    settings: CriterionSettings,
    *,
    seeds: Sequence[int],
    totals: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Hungarian matching by name and mask; cross entropy of names, BCE and Dice of masks.

    The final masks and names are matched; the masks of every attention are then compared with the
    same annotations.

    Args:
        refined: masks [B,Q,S,T] after each attention, the final ones last.
        class_logits: [B,Q,R] scaled cosines with the words, the background last.
        masks: for each picture its annotated masks [G,H,W] bool; G may be zero.
        labels: for each picture the rows [G] of its annotations' names.
        settings: weights and points; `no_object_weight` is that of the background.
        seeds: of each picture's points.
        totals: `maskclip_counts` of the whole batch.

    Returns:
        ``loss``, which is minimised; ``named``, ``mask``, ``dice``: the final masks', unweighted.
    """
    counts = [len(found) for found in masks]
    targets = pad_sequence(list(masks), batch_first=True)
    rows = pad_sequence(list(labels), batch_first=True)
    if targets.shape[1] == 0:  # a batch without any mask: one of padding, which is never matched
        targets = targets.new_zeros((len(counts), 1, *targets.shape[2:]))
        rows = rows.new_zeros((len(counts), 1))
    chances = [torch.Generator(targets.device).manual_seed(seed) for seed in seeds]
    points = draw_points(chances, [1] * len(counts), settings.num_points)
    with torch.no_grad():
        costs = mask_costs(
            sample_points(refined[-1], points), sample_points(targets.float(), points), settings
        )
        named = class_logits.softmax(-1).gather(
            2, rows.unsqueeze(1).expand(-1, class_logits.shape[1], -1)
        )
        pairs = match(costs - settings.class_weight * named, counts)
    wanted = torch.full_like(class_logits[..., 0], class_logits.shape[-1] - 1, dtype=torch.long)
    wanted[pairs[0], pairs[1]] = rows[pairs[0], pairs[2]]
    weight = class_logits.new_ones(class_logits.shape[-1])
    weight[-1] = settings.no_object_weight
    named_sum = F.cross_entropy(
        class_logits.flatten(0, 1), wanted.flatten(), weight, reduction="sum"
    )
    parts: dict[str, Any] = {"named": named_sum / totals["weight"].clamp(min=1e-6)}
    loss = settings.class_weight * parts["named"]
    num_masks = totals["masks"].clamp(min=1)
    draw = partial(draw_points, chances, pairs[0].bincount(minlength=len(counts)).tolist())
    for layer in refined:
        mask_sum, dice_sum = pair_losses(
            layer[pairs[0], pairs[1]], targets[pairs[0], pairs[2]], draw, settings
        )
        parts["mask"], parts["dice"] = mask_sum / num_masks, dice_sum / num_masks
        loss = loss + settings.mask_weight * parts["mask"] + settings.dice_weight * parts["dice"]
    return {"loss": loss} | {name: value.detach() for name, value in parts.items()}
