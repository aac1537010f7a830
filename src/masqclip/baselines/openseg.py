"""OpenSeg (Ghiasi et al., ECCV 2022): masks and regions that are grounded in captions.

    frame -> image encoder -> F_s -> queries -> N masks
                          \\-> F_z, pooled under each mask -> N region embeddings x words

No class label is read. The masks learn from annotated masks without names: of every annotation the
best of all masks counts (`best_dice_loss`). The regions learn from captions: a picture's regions
and the words of its own caption agree more than with those of the batch's other captions
(`grounding_loss`). The text tower is frozen. Pictures without masks take part with those of a
teacher.

A pixel's score is the sum of the regions' scores, each as far as its mask reaches. Regions overlap
and are not matched to things one by one, so the system has the task ``semantic`` alone.

Shapes: B pictures, H W the padded frame, h w = H/4 W/4, N queries, D width, E the embedding's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from masqclip.baselines.pixels import finest, map_widths, pixel_module
from masqclip.baselines.sizes import system_sizes
from masqclip.clip.classifier import class_log_probs
from masqclip.devices import full_precision
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.model_output import Seen
from masqclip.proposals.base import surely_objects
from masqclip.result import Task

#: Sizes of its own, as published but for the heads of attention, which are not: (default, largest).
_SIZES = {"width": (640, 4096), "queries": (128, 1000), "layers": (3, 32), "heads": (8, 64)}


class CrossAttention(nn.Module):
    """Queries read a map: attention, then two linear layers, each added to what was there."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        wide = 2 * width
        self.mlp = nn.Sequential(nn.Linear(width, wide), nn.ReLU(), nn.Linear(wide, width))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, cells: Tensor) -> Tensor:
        """Queries [B,N,D] after reading cells [B,P,D]."""
        queries = self.norm(queries + self.attention(queries, cells, cells, need_weights=False)[0])
        found: Tensor = self.last_norm(queries + self.mlp(queries))
        return found


class OpenSegModel(MasQClipModel):
    """OpenSeg on the pixel-level module of this package's proposer and CLIP's words."""

    system = "openseg"
    tasks: ClassVar[tuple[Task, ...]] = ("semantic",)
    takes_masks: ClassVar[bool] = False

    def _make_parts(self) -> None:
        sizes = system_sizes(self.config, _SIZES)
        width, channels = sizes["width"], map_widths(self)[-1]
        if width % sizes["heads"] or width % 2:
            raise MasqclipError(
                f"system_config has width = {width}, which is odd or not a multiple of "
                f"{sizes['heads']} heads"
            )
        self.mask_map = _branch(channels, width, width)
        self.region_map = _branch(channels, width, self.clip.config.projection_dim)
        self.place = Mask2FormerSinePositionEmbedding(width // 2, normalize=True)
        regions = torch.randn(sizes["queries"], width) * width**-0.5
        temperature = torch.tensor([1 / self.config.logit_scale])
        # In a module, as sharded training (FSDP) replaces the parameters of modules.
        self.own = nn.ParameterDict({"regions": regions, "log_temperature": temperature.log()})
        self.attention = nn.ModuleList(
            CrossAttention(width, sizes["heads"]) for _ in range(sizes["layers"])
        )

    @property
    def temperature(self) -> Tensor:
        """What cosines of regions and words are divided by in training, [1]."""
        return self.own["log_temperature"].exp()

    @property
    def learned(self) -> nn.Module:
        """All but CLIP and the part of the proposer that is not read."""
        parts = {
            "encoder": pixel_module(self),
            "mask_map": self.mask_map,
            "region_map": self.region_map,
            "attention": self.attention,
            "own": self.own,
        }
        return nn.ModuleDict(parts)

    def read(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Masks' logits [B,N,h,w] and region embeddings [B,N,E], not normalised.

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero-padded.
            pixel_mask: [B,H,W] bool, true where the picture is.
        """
        features = finest(pixel_module(self), self.normalise(pixel_values, pixel_mask))
        cells = self.mask_map(features)
        cells = cells + self.place(cells.shape, cells.device, cells.dtype, None)
        flat = cells.flatten(2).transpose(1, 2)
        queries = self.own["regions"].expand(len(flat), -1, -1)
        for attention in self.attention:
            queries = attention(queries, flat)
        masks = torch.einsum("bnd,bdhw->bnhw", queries, cells)
        return masks, pool_regions(masks, self.region_map(features))

    def see(
        self, pixel_values: Tensor, pixel_mask: Tensor, *, min_object_score: float = 0.0
    ) -> Seen:
        """Masks and regions; every mask takes part, as none has an object score."""
        masks, regions = self.read(pixel_values, pixel_mask)
        return Seen(surely_objects(masks), regions)

    def classify(
        self, mask_embeddings: Tensor, text_embeddings: Tensor, num_classes: int
    ) -> Tensor:
        """As of MasQCLIP's masks, at the learned temperature, and without the background, which no
        caption names."""
        return class_log_probs(
            mask_embeddings,
            text_embeddings[:-1],
            num_classes=num_classes,
            logit_scale=1 / float(self.temperature.detach()),
        )


def _branch(channels: int, width: int, out: int) -> nn.Sequential:
    """A linear layer and three 3x3 convolutions."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, out, 3, padding=1),
    )


def pool_regions(mask_logits: Tensor, features: Tensor) -> Tensor:
    """Mask pooling: the sum of features [B,E,h,w] under soft masks [B,N,h,w], [B,N,E] float32: half
    precision has no numbers as large as a sum over a frame."""
    with full_precision(features):
        return torch.einsum("bnhw,behw->bne", mask_logits.float().sigmoid(), features.float())


def best_dice_loss(
    mask_logits: Tensor, masks: Sequence[Tensor], *, total: Tensor | None = None
) -> Tensor:
    """One minus the Dice overlap of every annotation with the mask that meets it best, on average.

    Nothing is matched one to one, and a mask that meets no annotation is left alone.

    Args:
        mask_logits: [B,N,h,w].
        masks: for each picture its annotated masks [G,H,W] bool; G may be zero.
        total: how many annotations the whole batch has; these pictures', unless given.
    """
    count = sum(map(len, masks))
    losses = mask_logits.sum() * 0.0
    for logits, found in zip(mask_logits, masks, strict=True):
        if len(found) == 0:
            continue
        probs = logits.sigmoid().flatten(1)
        wanted = F.adaptive_avg_pool2d(found[None].float(), logits.shape[-2:])[0].flatten(1)
        sizes = wanted.sum(1, keepdim=True) + probs.sum(1)
        overlap = 2 * wanted @ probs.T / sizes.clamp(min=1e-6)
        losses = losses + (1 - overlap.amax(dim=1)).sum()
    return losses / (total.clamp(min=1) if total is not None else max(1, count))


def grounding_scores(regions: Tensor, words: Sequence[Tensor], temperature: Tensor) -> Tensor:
    """How well every picture's regions hold every caption's words, [B,C].

    A word asks for the regions that lie nearest: the mean over a caption's words of
    ``sum_i softmax_i(cos(z_i, w) / t) cos(z_i, w)``.

    Args:
        regions: [B,N,E], not normalised.
        words: for each of C captions the embeddings [K,E] of its words, L2-normalised; K may be
            zero, which scores 0.
        temperature: t, one number.
    """
    padded = pad_sequence(list(words), batch_first=True)
    there = pad_sequence([found.new_ones(len(found)) for found in words], batch_first=True)
    cosines = torch.einsum("bne,cke->bnck", F.normalize(regions, dim=-1), padded)
    found = ((cosines / temperature).softmax(dim=1) * cosines).sum(dim=1)
    return (found * there).sum(-1) / there.sum(-1).clamp(min=1)


def grounding_loss(scores: Tensor, temperature: Tensor, own: slice | None = None) -> Tensor:
    """Contrastive cross entropy: which caption is a picture's, and which picture a caption's.

    Args:
        scores: [B,B] of `grounding_scores`, pictures by captions.
        temperature: one number.
        own: the pictures and captions whose losses are summed; all unless given.

    Returns:
        The sum over `own` of the mean of both directions, divided by B.
    """
    logits = scores / temperature
    places = torch.arange(len(logits), device=logits.device)
    mine = own or slice(None)
    pictures = F.cross_entropy(logits[mine], places[mine], reduction="sum")
    captions = F.cross_entropy(logits.T[mine], places[mine], reduction="sum")
    return (pictures + captions) / (2 * len(logits))
