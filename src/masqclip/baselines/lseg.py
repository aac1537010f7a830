"""LSeg+ (Li et al., ICLR 2022, as Ghiasi et al., ECCV 2022, trained it on panoptic COCO).

Every pixel has an embedding, and is named by the words that lie nearest: no masks, no proposals.

    frame -> image encoder -> 1x1 convolution -> pixel embeddings x words -> classes

The encoder and the convolution learn by cross entropy of every annotated pixel; the text tower is
frozen. The inverse temperature is a constant, 1/0.07. There are no instances, so none are claimed:
the system has the task ``semantic`` alone.

Shapes: B pictures, H W the padded frame, h w = H/4 W/4, E the embedding's size, K words.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from masqclip.baselines.pixels import finest, map_widths, pixel_module
from masqclip.clip.classifier import clip_logits
from masqclip.model import MasQClipModel
from masqclip.model_output import Seen
from masqclip.proposals.base import surely_objects
from masqclip.result import Task

#: Of the cosines of pixels and words.
LOGIT_SCALE = 1 / 0.07
#: A pixel that nobody annotated; the loss leaves it out.
VOID = -100


class LSegModel(MasQClipModel):
    """LSeg+ on the pixel-level module of this package's proposer and CLIP's words."""

    system = "lseg"
    tasks: ClassVar[tuple[Task, ...]] = ("semantic",)
    takes_masks: ClassVar[bool] = False
    has_masks: ClassVar[bool] = False

    def _make_parts(self) -> None:
        self.config.logit_scale = LOGIT_SCALE
        self.head = nn.Conv2d(map_widths(self)[-1], self.clip.config.projection_dim, 1)

    @property
    def learned(self) -> nn.Module:
        """The image encoder and its head."""
        return nn.ModuleDict({"encoder": pixel_module(self), "head": self.head})

    def embed_pixels(self, pixel_values: Tensor, pixel_mask: Tensor) -> Tensor:
        """[B,E,h,w] embeddings of frames [B,3,H,W] in 0..255, not normalised."""
        frames = self.normalise(pixel_values, pixel_mask)
        embeddings: Tensor = self.head(finest(pixel_module(self), frames))
        return embeddings

    def see(
        self, pixel_values: Tensor, pixel_mask: Tensor, *, min_object_score: float = 0.0
    ) -> Seen:
        """Pixel embeddings, and no mask."""
        pixels = self.embed_pixels(pixel_values, pixel_mask)
        return Seen(
            surely_objects(pixels[:, :0]),
            pixels.new_zeros(len(pixels), 0, pixels.shape[1]),
            pixel_embeddings=pixels,
        )

    def classify(
        self, mask_embeddings: Tensor, text_embeddings: Tensor, num_classes: int
    ) -> Tensor:
        """As of masks, without the background, which no pixel was taught."""
        return super().classify(mask_embeddings, text_embeddings[:-1], num_classes)


def lseg_loss(pixels: Tensor, words: Tensor, targets: Tensor, *, total: Tensor) -> Tensor:
    """Cross entropy of annotated pixels over the words, at the size of the embeddings.

    Args:
        pixels: [B,E,h,w], not normalised.
        words: [K,E], L2-normalised.
        targets: [B,h,w] int64 places in the words; `VOID` = not annotated.
        total: how many pixels of the whole batch are annotated.
    """
    logits = clip_logits(pixels.flatten(2).transpose(1, 2), words, logit_scale=LOGIT_SCALE)
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=VOID, reduction="sum"
    )
    return losses / total.clamp(min=1)


def class_map(masks: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Annotations of a picture as one map [h,w] of labels, each pixel that of its middle.

    Args:
        masks: [G,H,W] bool; where they overlap, the smaller one counts.
        labels: [G] int64.
        size: (h, w).
    """
    targets = labels.new_full(size, VOID)
    if len(masks) == 0:
        return targets
    small = F.interpolate(masks[None].float(), size=size, mode="nearest-exact")[0].bool()
    for number in masks.flatten(1).sum(1).argsort(descending=True).tolist():
        targets[small[number]] = labels[number]
    return targets
