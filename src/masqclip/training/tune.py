"""MasQ-Tuning: teach the mask class tokens to name masks (MasQCLIP, sec. 3.3; stage 3).

Everything is frozen but the new query projections and the mask class embedding. A proposal takes
the name of the annotation it agrees with best, if they agree well enough, else "background"; its
embedding is compared with the words, and the loss is a cross-entropy that counts background little.

The picture's own pass (`encode_image`) runs without gradient: only Q tokens are differentiated.

Shapes: B pictures, Q proposals, G annotations, E embedding size, R text rows (classes, background).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from masqclip.clip.classifier import clip_logits
from masqclip.clip.loading import load_clip
from masqclip.clip.masked_vision import MaskQueries
from masqclip.clip.text import TextEncoder
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoPanoptic
from masqclip.data.transforms import flip, pad, resize
from masqclip.encoding import resized_size
from masqclip.errors import MasqclipError
from masqclip.hub import quiet_transformers
from masqclip.model import MasQClipModel
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training.sampling import step_indices
from masqclip.training.settings import TuneSettings


class TuneStage:
    """Tunes a model's queries on annotated pictures; see the module's text.

    Args:
        model: a proposer and a CLIP, joined; its queries are where training starts.
        tokenizer: of the CLIP; it is saved with the result.
        dataset: pictures with masks and categories; the categories' names are the words.
        settings: how.

    Raises:
        MasqclipError: the dataset holds no picture or keeps no category.
    """

    name = "tune"

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: CocoPanoptic,
        settings: TuneSettings | None = None,
    ) -> None:
        kept = sorted(dataset.categories.kept)
        if len(dataset) == 0 or not kept:
            raise MasqclipError(f"{dataset.folder} has no picture, or no category, to tune on")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.dataset = dataset
        self.settings = settings or TuneSettings()
        names = [str(dataset.categories.by_id[i]["name"]) for i in kept]
        encoder = TextEncoder(model.clip, tokenizer, cache=False)
        self.text_embeddings = encoder.embed_vocabulary(Vocabulary.parse(names))
        self._row = {category: i for i, category in enumerate(kept)}
        self.module: MaskQueries = model.queries.requires_grad_(True)

    def to(self, device: torch.device) -> None:
        """Move the model and the words."""
        self.model.to(device)
        self.text_embeddings = self.text_embeddings.to(device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All that trains, in one group, as published (the embedding decays too)."""
        settings = self.settings
        return [
            {
                "params": list(self.module.parameters()),
                "lr": settings.learning_rate,
                "weight_decay": settings.weight_decay,
            }
        ]

    def batch(self, step: int) -> dict[str, Any]:
        """Frames [B,3,H,W] and, for each, masks [G,H,W] and text rows [G]."""
        settings = self.settings
        chance = np.random.default_rng((settings.seed, step))
        rows = step_indices(len(self.dataset), settings.batch_size, settings.seed, step)
        pictures: list[Tensor] = []
        annotated: list[Tensor] = []
        labels: list[Tensor] = []
        for row in rows:
            sample = self.dataset[row]
            image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
            masks = torch.from_numpy(sample.masks.copy())
            height, width = image.shape[1:]
            size = resized_size(height, width, self.model.config)
            image, masks = resize(image, masks, *size)
            if settings.flip and chance.random() < 0.5:
                image, masks = flip(image, masks)
            pictures.append(image)
            annotated.append(masks)
            labels.append(torch.tensor([self._row[int(c)] for c in sample.category_ids]).long())
        divisor = self.model.config.size_divisor
        height, width = (
            -(-max(image.shape[axis] for image in pictures) // divisor) * divisor for axis in (1, 2)
        )
        framed = [
            pad(image, masks, height, width)
            for image, masks in zip(pictures, annotated, strict=True)
        ]
        return {
            "pixels": torch.stack([image for image, _, _ in framed]).float(),
            "inside": torch.stack([inside for _, _, inside in framed]),
            "masks": [masks for _, masks, _ in framed],
            "labels": labels,
        }

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The classification loss, and how many of the matched proposals are named rightly."""
        with torch.no_grad():
            proposals = self.model.propose(batch["pixels"], batch["inside"])
            tokens = self.model.encode_image(batch["pixels"])
        targets = torch.stack(
            [
                assign_labels(
                    mask_logits,
                    masks,
                    labels,
                    background=len(self.text_embeddings) - 1,
                    threshold=self.settings.dice_cost_threshold,
                    size=self.settings.assign_size,
                )
                for mask_logits, masks, labels in zip(
                    proposals.mask_logits, batch["masks"], batch["labels"], strict=True
                )
            ]
        )
        embeddings = self.model.embed_masks(tokens, proposals.mask_logits)
        scale = self.model.config.logit_scale
        logits = clip_logits(embeddings, self.text_embeddings, logit_scale=scale)
        loss = tuning_loss(logits, targets, background_weight=self.settings.background_weight)
        matched = targets < len(self.text_embeddings) - 1
        right = (
            (logits.argmax(-1) == targets)[matched].float().mean() if matched.any() else loss * 0
        )
        return {
            "loss": self.settings.loss_weight * loss,
            "named": right.detach(),
            "matched": matched.float().mean(),
        }

    def save(self, folder: Path) -> None:
        """Write the whole model and its tokenizer as a folder to load."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def assign_labels(
    mask_logits: Tensor,
    masks: Tensor,
    labels: Tensor,
    *,
    background: int,
    threshold: float = 0.4,
    size: int = 336,
) -> Tensor:
    """The text row that each proposal should be named with.

    Both sides are made binary masks of `size` x `size`. A proposal takes the label of the
    annotation with the lowest Dice cost, 1 - 2|A and B| / (|A| + |B|), when that cost is below
    `threshold`; several may take the same one. All others are background.

    Args:
        mask_logits: [Q,h,w] over the frame.
        masks: [G,H,W] bool over the same frame; G may be zero.
        labels: [G] text rows.
        background: the row of the rest.
        threshold: largest cost, exclusive.
        size: side at which masks are compared, in pixels.

    Returns:
        [Q] int64.
    """
    if len(masks) == 0:
        return torch.full((len(mask_logits),), background, device=mask_logits.device)
    predicted = F.interpolate(
        mask_logits[None].float(), size=(size, size), mode="bilinear", align_corners=False
    )[0].flatten(1)
    predicted = (predicted.sigmoid() > 0.5).float()
    annotated = F.interpolate(masks[None].float(), size=(size, size), mode="nearest")[0].flatten(1)
    shared = predicted @ annotated.T
    total = predicted.sum(-1, keepdim=True) + annotated.sum(-1)
    cost = 1 - (2 * shared + 1) / (total + 1)
    best, nearest = cost.min(dim=1)
    return torch.where(best < threshold, labels[nearest], background)


def tuning_loss(logits: Tensor, targets: Tensor, *, background_weight: float = 0.1) -> Tensor:
    """Weighted cross-entropy over classes and background, the last row of the words.

    Args:
        logits: [B,Q,R], scaled cosines.
        targets: [B,Q] rows.
        background_weight: of targets that are the last row; a weighted mean is taken.
    """
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = background_weight
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), weight=weight)


def join(
    clip: str | Path, proposer: str | Path, settings: TuneSettings
) -> tuple[MasQClipModel, PreTrainedTokenizerBase]:
    """Load a CLIP and a proposer from their folders and join them, with untuned queries.

    Raises:
        MasqclipError: one of the folders does not hold what it should.
    """
    with quiet_transformers():
        frozen, proposes = load_clip(clip), Mask2FormerProposer.from_pretrained(proposer)
    model = MasQClipModel.from_parts(
        frozen,
        proposes,
        query_start=settings.query_start,
        shortest_edge=settings.shortest_edge,
        longest_edge=settings.longest_edge,
    )
    return model, load_tokenizer(clip)
