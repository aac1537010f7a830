"""XPM (Huynh et al., CVPR 2022): cross-modal pseudo-labels, made robust by noise.

Three stages, each a module's training (`training.baselines` runs them one after the other):

1. *Caption pretraining* (OVR-CNN, Zareian et al., CVPR 2021): the image encoder and one linear
   layer, vision to language, learn which words a picture's cells answer to (`caption_losses`).
2. *Teacher*: regions under the proposer's masks learn the base names by that layer, now frozen,
   against a background that is the zero vector; a mask head refines masks whatever they show.
3. *Student*: starts from the teacher, its encoder frozen. For every object word of a caption the
   region that answers best becomes a pseudo-annotation, with the teacher's mask (`pseudo_labels`).
   What masks are unsure of is learned as a level of noise on their logits, and the less sure the
   pseudo-masks of a batch are, the less their names count (`student_losses`).

Beside the published system: proposals are the class-agnostic ones that all systems here share, so
there are no boxes to regress and none to suppress; a region is what the encoder's maps hold under
a mask, in place of a ResNet's last stage over a box; words are embedded by CLIP's frozen text
tower in place of BERT's word pieces; the transformer that masked words trained beside stage 1 is
left out.

Shapes: B pictures, Q masks, H W the padded frame, h w = H/4 W/4, D the pooled width, E the words'.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from masqclip.baselines.pixels import map_widths, pixel_module, pool, pyramid
from masqclip.devices import full_precision
from masqclip.model import MasQClipModel
from masqclip.model_output import Seen
from masqclip.proposals.base import Proposals, surely_objects

#: What products of regions and words are divided by while captions teach.
GROUNDING_SCALE = 10.0
#: Of the background in the cross entropy of names.
BACKGROUND_WEIGHT = 0.2
#: A pseudo-label's name counts as much as this, divided by the mean level of noise.
NAME_TRUST = 0.01


@dataclass(frozen=True)
class Regions:
    """What XPM makes of proposals.

    Attributes:
        named: [B,Q,E], to be compared with words.
        mask_logits: [B,Q,h,w], refined.
        noise: [B,Q,h,w], the deviation of the noise on pseudo-masks' logits.
    """

    named: Tensor
    mask_logits: Tensor
    noise: Tensor


class XpmModel(MasQClipModel):
    """XPM on this package's proposer, which is frozen, an encoder of its own, and CLIP's words."""

    system = "xpm"
    takes_masks: ClassVar[bool] = False

    def _make_parts(self) -> None:
        self.config.logit_scale = 1.0
        # A copy that learns; the proposer's own stays as all systems share it.
        self.encoder = copy.deepcopy(pixel_module(self))
        widths = map_widths(self)
        channels, pooled = widths[-1], sum(widths)
        self.to_words = nn.Linear(pooled, self.clip.config.projection_dim)
        self.region_head = _mlp(pooled, pooled)
        self.mask_head = _mlp(pooled, channels)
        self.noise_head = nn.Linear(pooled, channels)
        # In a module, as sharded training (FSDP) replaces the parameters of modules.
        self.noise_bias = nn.ParameterList([nn.Parameter(torch.ones(1))])
        for head in (self.region_head, self.mask_head):  # at first nothing is changed
            for parameter in head[-1].parameters():
                nn.init.zeros_(parameter)
        nn.init.normal_(self.noise_head.weight, std=0.001)
        nn.init.zeros_(self.noise_head.bias)

    @property
    def learned(self) -> nn.Module:
        """All but CLIP and the proposer; each stage trains a part of it."""
        parts = {
            "encoder": self.encoder,
            "to_words": self.to_words,
            "region_head": self.region_head,
            "mask_head": self.mask_head,
            "noise_head": self.noise_head,
            "noise_bias": self.noise_bias,
        }
        return nn.ModuleDict(parts)

    def cells(self, pixel_values: Tensor, pixel_mask: Tensor) -> Tensor:
        """Cells of frames, at the side of the second coarsest map, in words' space: [B,P,E].

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero-padded.
            pixel_mask: [B,H,W] bool, true where the picture is.
        """
        levels = pyramid(self.encoder, self.normalise(pixel_values, pixel_mask))
        size = levels[1].shape[-2:]
        cells = torch.cat([_at(level, size) for level in levels], dim=1)
        found: Tensor = self.to_words(cells.flatten(2).transpose(1, 2))
        return found

    def regions(self, pixel_values: Tensor, pixel_mask: Tensor, mask_logits: Tensor) -> Regions:
        """What is under the proposer's masks [B,Q,h,w], named and refined."""
        levels = pyramid(self.encoder, self.normalise(pixel_values, pixel_mask))
        pooled = pool(levels, (mask_logits > 0).float())
        pooled = pooled + self.region_head(pooled)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_head(pooled), levels[-1])
        noise = torch.einsum(
            "bqc,bchw->bqhw", self.noise_head(pooled.detach()), levels[-1].detach()
        )
        level = ((noise + self.noise_bias[0]) / 2).exp()
        return Regions(self.to_words(pooled), mask_logits + masks, level)

    def see(
        self, pixel_values: Tensor, pixel_mask: Tensor, *, min_object_score: float = 0.0
    ) -> Seen:
        """Regions under all proposals; none has an object score but its name's."""
        proposals: Proposals = self.propose(pixel_values, pixel_mask)
        found = self.regions(pixel_values, pixel_mask, proposals.mask_logits.float())
        return Seen(surely_objects(found.mask_logits), found.named)

    def classify(
        self, mask_embeddings: Tensor, text_embeddings: Tensor, num_classes: int
    ) -> Tensor:
        """[B,Q,K] log-probabilities of names against a background of zeros."""
        logits = name_logits(mask_embeddings, text_embeddings[:-1])
        return logits.log_softmax(dim=-1)[..., :num_classes]


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _at(level: Tensor, size: torch.Size) -> Tensor:
    """A map at another size: averaged down, or interpolated up."""
    if level.shape[-1] >= size[-1]:
        return F.adaptive_avg_pool2d(level, (size[0], size[1]))
    return F.interpolate(level, size=size, mode="bilinear", align_corners=False)


def name_logits(regions: Tensor, words: Tensor) -> Tensor:
    """Products of regions [...,E] with words [K,E], and 0 for the background: [...,K+1]."""
    with full_precision(regions):
        logits = regions.float() @ words.float().T
    return F.pad(logits, (0, 1))


def caption_losses(
    cells: Tensor, words: Sequence[Tensor], own: slice | None = None
) -> dict[str, Tensor]:
    """Which caption is a picture's, and which picture a caption's, asked from either side.

    With <r, w> the product of a cell and a word over 10: words attend to cells, and a pair of
    picture and caption scores the mean over words of ``sum_r softmax_r<r, w> <r, w>``; and cells
    attend to words likewise. Each score is trained by cross entropy in both directions.

    Args:
        cells: [B,P,E].
        words: for each caption the embeddings [K,E] of its words, one at least.
        own: the pictures whose losses are summed; all unless given.

    Returns:
        ``loss``, the sum over `own` divided by B, and ``caption``, how many find their caption.
    """
    padded = pad_sequence(list(words), batch_first=True)
    there = pad_sequence([w.new_ones(len(w), dtype=torch.bool) for w in words], batch_first=True)
    products = torch.einsum("bpe,cke->bcpk", cells.float(), padded.float()) / GROUNDING_SCALE
    by_words = (products.softmax(dim=2) * products).sum(dim=2)  # [B,C,K]
    by_words = (by_words * there).sum(-1) / there.sum(-1)
    hidden = products.masked_fill(~there[:, None], -torch.inf)
    by_cells = (hidden.softmax(dim=3) * products).sum(dim=3).mean(dim=2)  # [B,C]
    places = torch.arange(len(by_words), device=cells.device)
    mine = own or slice(None)
    loss = torch.stack(
        [
            F.cross_entropy(scores[mine], places[mine], reduction="sum")
            for scores in (by_words, by_words.T, by_cells, by_cells.T)
        ]
    ).sum()
    right = (by_words.argmax(dim=1) == places)[mine].sum()
    return {"loss": loss / len(places), "caption": right / len(places)}


@torch.no_grad()
def pseudo_labels(found: Regions, words: Tensor, said: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of every object word of a caption the one region that answers best.

    Args:
        found: the teacher's.
        words: [K,E] of the object words known.
        said: for each picture the places [W] of the words that its caption has.

    Returns:
        Labels [B,Q]: the word's place, -1 where no word chose the region (of several words that
        choose one, the surest); and the pseudo-masks [B,Q,h,w] bool.
    """
    products = found.named.float() @ words.float().T
    labels = torch.full(products.shape[:2], -1, dtype=torch.long, device=words.device)
    for row, places in enumerate(said):
        if len(places) == 0:
            continue
        scores, best = products[row][:, places].max(dim=0)
        for place in scores.argsort().tolist():  # the surest is written last
            labels[row, best[place]] = places[place]
    return labels, found.mask_logits > 0


def naming_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Weighted cross entropy of regions [...,K+1], summed; label -1 is the background, the last."""
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = BACKGROUND_WEIGHT
    wanted = torch.where(labels < 0, logits.shape[-1] - 1, labels)
    return F.cross_entropy(logits.flatten(0, -2), wanted.flatten(), weight, reduction="sum")


def mask_sum(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross entropy of masks [M,h,w] with wanted ones in 0..1, the mean of each, summed."""
    losses = F.binary_cross_entropy_with_logits(mask_logits, masks, reduction="none")
    return losses.flatten(1).mean(1).sum()


def student_losses(
    found: Regions,
    words: Tensor,
    labels: Tensor,
    masks: Tensor,
    chance: Tensor,
    *,
    total: Tensor,
    noise: Tensor,
) -> Tensor:
    """What pseudo-labels teach.

    Their masks are compared with logits to which noise of the learned level is added, one sample
    (Kendall and Gal, NeurIPS 2017); their names count `NAME_TRUST` divided by the mean level.

    Args:
        found: the student's.
        words: [K,E] of the object words known.
        labels, masks: of `pseudo_labels`.
        chance: [B,Q,h,w] of a standard normal.
        total: how many pseudo-labels the whole batch has.
        noise: the mean level of noise over them, of the whole batch.
    """
    chosen = labels >= 0
    logits = name_logits(found.named, words)[chosen]
    names = naming_sum(logits, labels[chosen]) if len(logits) else found.named.sum() * 0.0
    shaken = found.mask_logits + chance * found.noise
    shapes = mask_sum(shaken[chosen], masks[chosen].float())
    return (NAME_TRUST / noise.detach() * names + shapes) / total.clamp(min=1)
