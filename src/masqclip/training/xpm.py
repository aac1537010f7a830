"""XPM's three stages: captions, a teacher of base names, a student of pseudo-labels.

`systems.train_baseline` runs them one after the other, each from what the one before made.

Shapes: B pictures, Q proposals, h w a quarter of the frame's sides, E the embedding's size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masqclip.baselines.xpm import (
    BACKGROUND_WEIGHT,
    Regions,
    XpmModel,
    caption_losses,
    mask_sum,
    name_logits,
    naming_sum,
    pseudo_labels,
    student_losses,
)
from masqclip.training.baseline_settings import XpmSettings
from masqclip.training.distributed import gather_rows
from masqclip.training.grounded import GroundedStage, in_order
from masqclip.training.naming import assign_labels
from masqclip.training.stage import Counts


class XpmCaptionStage(GroundedStage):
    """Stage 1: the image encoder and the layer to words learn from captions."""

    name = "xpm-captions"
    model: XpmModel
    settings: XpmSettings

    def learned_parts(self) -> nn.Module:
        """The image encoder, and the layer to words."""
        return nn.ModuleDict({"encoder": self.model.encoder, "to_words": self.model.to_words})

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Nothing to count: losses are means over the pictures of a batch."""
        self.look_at(batch)
        return batch, {}

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The contrastive losses of captions (`caption_losses`)."""
        cells = []
        for group in batch["groups"]:
            found = self.model.cells(group["pixels"], group["inside"])
            kept = [
                _some(rows, self.settings.cells, seed)
                for rows, seed in zip(found, group["seeds"], strict=True)
            ]
            cells.append(torch.stack(kept))
        every = gather_rows(in_order(batch["groups"], cells).float())
        words = self.word_rows(batch)
        silent = words[0].new_zeros(1, words[0].shape[1])  # a word that answers to nothing
        said = [found if len(found) else silent for found in words]
        with torch.autocast(every.device.type, enabled=False):
            return caption_losses(every, said, slice(*batch["own"]))


def _some(rows: Tensor, count: int, seed: int) -> Tensor:
    """So many rows of chance, by a picture's own seed; fewer are repeated."""
    chance = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(rows), generator=chance)
    return rows[chosen.repeat(-(-count // len(rows)))[:count].to(rows.device)]


class XpmTeacherStage(GroundedStage):
    """Stage 2: regions under proposals learn the base names, and to refine masks."""

    name = "xpm-teacher"
    accumulates = True  # no picture is compared with another's caption
    model: XpmModel
    settings: XpmSettings

    def learned_parts(self) -> nn.Module:
        """All but the layer to words, and the noise, which only pseudo-masks have."""
        names = ("encoder", "region_head", "mask_head")
        return nn.ModuleDict({name: getattr(self.model, name) for name in names})

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Say which annotation every proposal shows; count proposals and their weights."""
        self.look_at(batch)
        counts = dict.fromkeys(("shown", "weight", "pictures"), 0.0)
        for group in batch["groups"]:
            found = self.model.propose(group["pixels"], group["inside"]).mask_logits.float()
            group["proposed"] = found
            group["shows"] = torch.stack(
                [self._shown(*one) for one in zip(found, group["masks"], strict=True)]
            )
            shown = float((group["shows"] >= 0).sum())
            counts["shown"] += shown
            counts["weight"] += shown + BACKGROUND_WEIGHT * (group["shows"].numel() - shown)
            counts["pictures"] += len(found)
        device = self.text_embeddings.device
        return batch, {name: torch.tensor(value, device=device) for name, value in counts.items()}

    def _shown(self, mask_logits: Tensor, masks: Tensor) -> Tensor:
        """For each of Q proposals the annotation that it shows, -1 for none."""
        settings = self.settings
        return assign_labels(
            mask_logits,
            masks,
            torch.arange(len(masks), device=masks.device),
            background=-1,
            threshold=settings.dice_cost_threshold,
            size=settings.assign_size,
        )

    def annotated_losses(
        self, found: Regions, group: dict[str, Any], totals: Counts
    ) -> dict[str, Tensor]:
        """What annotations teach: names of all regions, masks of those that show one."""
        shows = group["shows"]
        labels = torch.full_like(shows, -1)
        masks, wanted = [found.mask_logits[:0, 0]], [found.mask_logits[:0, 0]]
        size = found.mask_logits.shape[-2:]
        for row, places in enumerate(shows):
            some = places >= 0
            labels[row, some] = group["labels"][row][places[some]]
            if bool(some.any()):
                small = F.adaptive_avg_pool2d(group["masks"][row].float(), (size[0], size[1]))
                masks.append(found.mask_logits[row, some])
                wanted.append(small[places[some]])
        logits = name_logits(found.named, self.words)
        right = ((logits.argmax(-1) == labels) & (labels >= 0)).sum()
        shown = totals["shown"].clamp(min=1)
        named = naming_sum(logits, labels) / totals["weight"].clamp(min=1e-6)
        shapes = mask_sum(torch.cat(masks), torch.cat(wanted)) / shown
        return {
            "loss": named + shapes,
            "mask": shapes.detach(),
            "named": right / shown,
        }

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """Names and masks of annotations."""
        sums: dict[str, Tensor] = {}
        for group in batch["groups"]:
            found = self.model.regions(group["pixels"], group["inside"], group["proposed"])
            with torch.autocast(found.named.device.type, enabled=False):
                losses = self.annotated_losses(found, group, totals)
            sums = {name: sums.get(name, 0) + value for name, value in losses.items()}
        return sums


class XpmStudentStage(XpmTeacherStage):
    """Stage 3: the heads learn from pseudo-labels of captions as well; the encoder is frozen."""

    name = "xpm-student"
    accumulates = False  # the level of noise is that of the whole batch

    def __init__(self, model: XpmModel, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)

    def learned_parts(self) -> nn.Module:
        """The heads, and the level of noise."""
        names = ("region_head", "mask_head", "noise_head", "noise_bias")
        return nn.ModuleDict({name: getattr(self.model, name) for name in names})

    @property
    def network(self) -> nn.Module:
        """Student and teacher."""
        return nn.ModuleDict({"student": self.model, "teacher": self.teacher})

    def batch(self, step: int, *args: Any) -> dict[str, Any]:
        """As of others, with the step's number: the noise is learned for a while only."""
        return super().batch(step, *args) | {"step": step}

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Let the teacher label what captions name."""
        batch, counts = super().prepare(batch)
        start, stop = batch["own"]
        said = batch["said"][start:stop]
        count = torch.zeros((), device=self.text_embeddings.device)
        for group in batch["groups"]:
            found = self.teacher.regions(group["pixels"], group["inside"], group["proposed"])
            own = [said[place] for place in group["places"]]
            group["pseudo"] = pseudo_labels(found, self.said.embeddings, own)
            count += (group["pseudo"][0] >= 0).sum()
        return batch, {**counts, "pseudo": count}

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """What annotations teach, and what pseudo-labels do."""
        steady = 0 < self.settings.noise_steps <= batch["step"]
        found = [
            self.model.regions(group["pixels"], group["inside"], group["proposed"])
            for group in batch["groups"]
        ]
        if steady:
            found = [replace(one, noise=one.noise.detach()) for one in found]
        levels = [
            one.noise[group["pseudo"][0] >= 0].detach().float().mean((1, 2)).sum()
            for one, group in zip(found, batch["groups"], strict=True)
        ]
        level = gather_rows(torch.stack(levels).sum()[None]).sum() / totals["pseudo"].clamp(min=1)
        sums: dict[str, Tensor] = {}
        for one, group in zip(found, batch["groups"], strict=True):
            labels, masks = group["pseudo"]
            chance = torch.stack(
                [
                    torch.randn(one.noise.shape[1:], generator=torch.Generator().manual_seed(seed))
                    for seed in group["seeds"]
                ]
            ).to(one.noise.device)
            with torch.autocast(one.named.device.type, enabled=False):
                losses = self.annotated_losses(one, group, totals)
                pseudo = student_losses(
                    one,
                    self.said.embeddings,
                    labels,
                    masks,
                    chance,
                    total=totals["pseudo"],
                    noise=level.clamp(min=1e-6),
                )
            losses |= {"loss": losses["loss"] + pseudo, "pseudo": pseudo.detach()}
            sums = {name: sums.get(name, 0) + value for name, value in losses.items()}
        start, stop = batch["own"]
        return sums | {"noise": level * (stop - start) / len(batch["said"])}


#: XPM's stages in their order, and the folder of each in that of the run.
STAGES: Mapping[str, tuple[type[GroundedStage], str]] = {
    "xpm-captions": (XpmCaptionStage, "captions"),
    "xpm-teacher": (XpmTeacherStage, "teacher"),
    "xpm-student": (XpmStudentStage, ""),
}
