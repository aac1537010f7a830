"""The stages that train MaskCLIP, LSeg+ and OpenSeg; XPM's three are in `xpm.py`.

What is learned, and how it is compared with annotations and captions, stands in `baselines`; here
is what the loop asks for: batches, counts, shares of a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from masqclip.baselines.lseg import VOID, LSegModel, class_map, lseg_loss
from masqclip.baselines.maskclip import MaskClipModel, maskclip_counts, maskclip_losses
from masqclip.clip.classifier import clip_logits
from masqclip.data.coco import Sample
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.errors import MasqclipError
from masqclip.evaluation.semantic import ConfusionMatrix
from masqclip.model import MasQClipModel
from masqclip.proposals.criterion import CriterionSettings
from masqclip.result import Task
from masqclip.segmenter import Segmenter
from masqclip.training.annotated import EVALUATED, AnnotatedStage
from masqclip.training.baseline_settings import BaselineSettings, LSegSettings, MaskClipSettings
from masqclip.training.distributed import is_distributed
from masqclip.training.framing import Frame
from masqclip.training.optimizers import MOMENTUM
from masqclip.training.sheets import write_overlay_sheet
from masqclip.training.stage import Counts


class BaselineStage(AnnotatedStage):
    """Trains a system of `baselines`; arguments and errors as in `AnnotatedStage`."""

    settings: BaselineSettings

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: CocoMasks,
        settings: BaselineSettings,
        *,
        held_out: CocoFiles | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(model, tokenizer, dataset, settings, held_out=held_out, sources=sources)
        self.settings = settings
        self.module: nn.Module = self.learned_parts().requires_grad_(True)

    def learned_parts(self) -> nn.Module:
        """What this stage trains of its system."""
        return self.model.learned

    @property
    def words(self) -> Tensor:
        """[K,E] embeddings of the categories' names."""
        return self.text_embeddings[:-1]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What trains: the image encoder, where it is a part, at its own rate."""
        settings = self.settings
        encoder = {id(p) for p in getattr(self.module, "encoder", nn.Module()).parameters()}
        momentum = {MOMENTUM: settings.momentum} if settings.momentum else {}
        trained = [p for p in self.module.parameters() if p.requires_grad]
        groups = []
        for slow in (False, True):
            members = [p for p in trained if (id(p) in encoder) is slow]
            factor = settings.encoder_multiplier if slow else 1.0
            if members:
                groups.append(
                    {
                        "params": members,
                        "lr": settings.learning_rate * factor,
                        "weight_decay": settings.weight_decay,
                        **momentum,
                    }
                )
        return groups

    def look_at(self, batch: dict[str, Any]) -> None:
        """Note which pictures of a batch could not be read.

        Raises:
            MasqclipError: a batch norm would wait for other processes, once a group of pictures,
                and they may have fewer groups.
        """
        self.skipped.note(batch["skipped"])
        if len(batch["groups"]) < 2 or not is_distributed():
            return
        if any(isinstance(part, nn.BatchNorm2d) for part in self.module.modules()):
            raise MasqclipError(
                f"{self.name}: pictures of several sizes cannot be spread over processes, as batch "
                "norms train on all of a batch: start one process, or --set augmentation=square"
            )

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """mIoU on held-out pictures, of the categories that are trained on, and a sheet."""
        if self.held_out is None:
            return {}
        learning = self.module.training
        segmenter = Segmenter(self.model, self.tokenizer, cache=False)
        path = folder / f"overlays-{step:08d}.png"
        task: Task = "semantic"
        write_overlay_sheet(segmenter, self.vocabulary, self.held_out, path, task=task)
        matrix = ConfusionMatrix(len(self.vocabulary))
        for row in range(min(EVALUATED, len(self.held_out))):
            sample = self.held_out[row]
            height, width = sample.image.shape[:2]
            rows = torch.tensor([self._row.get(int(c), VOID) for c in sample.category_ids])
            truth = class_map(torch.from_numpy(sample.masks), rows.long(), (height, width))
            found = segmenter(sample.image, self.vocabulary, task, min_score=0.0).label_map
            matrix.update(np.asarray(found), truth.numpy(), ignore=VOID)
        self.module.train(learning)
        return {"mIoU": matrix.results()["mIoU"]}


class MaskClipStage(BaselineStage):
    """Trains MaskCLIP's relative mask attention; the proposer and CLIP are frozen."""

    name = "maskclip"
    model: MaskClipModel
    settings: MaskClipSettings

    @property
    def criterion(self) -> CriterionSettings:
        """Weights and points of its loss."""
        settings = self.settings
        return CriterionSettings(
            class_weight=settings.class_weight,
            mask_weight=settings.mask_weight,
            dice_weight=settings.dice_weight,
            no_object_weight=settings.no_object_weight,
            num_points=settings.num_points,
        )

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Propose masks, and count what the means are taken over."""
        self.look_at(batch)
        counts: dict[str, Tensor] = {}
        for group in batch["groups"]:
            proposals = self.model.propose(group["pixels"], group["inside"])
            group["proposed"] = proposals.mask_logits
            found = maskclip_counts(group["labels"], proposals.mask_logits.shape[1], self.criterion)
            counts = {name: counts.get(name, 0) + value for name, value in found.items()}
        return batch, counts

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """MaskCLIP's loss (`maskclip_losses`)."""
        sums: dict[str, Tensor] = {}
        for group in batch["groups"]:
            refined, embeddings = self.model.refine(group["pixels"], group["proposed"])
            logits = clip_logits(
                embeddings, self.text_embeddings, logit_scale=self.model.config.logit_scale
            )
            with torch.autocast(logits.device.type, enabled=False):
                losses = maskclip_losses(
                    [masks.float() for masks in refined],
                    logits,
                    group["masks"],
                    group["labels"],
                    self.criterion,
                    seeds=group["seeds"],
                    totals=totals,
                )
            sums = {name: sums.get(name, 0) + value for name, value in losses.items()}
        return sums


class LSegStage(BaselineStage):
    """Trains LSeg+: the image encoder and its head."""

    name = "lseg"
    model: LSegModel
    settings: LSegSettings

    def group(self, frames: list[Frame], samples: list[Sample]) -> dict[str, Any]:
        """See `AnnotatedStage`; the annotations as one map a picture, at a quarter of the side."""
        found = super().group(frames, samples)
        height, width = found["pixels"].shape[-2:]
        size = (int(height) // 4, int(width) // 4)
        pairs = zip(found.pop("masks"), found.pop("labels"), strict=True)
        return found | {"classes": torch.stack([class_map(*pair, size) for pair in pairs])}

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Count the annotated pixels."""
        self.look_at(batch)
        counts = [(group["classes"] != VOID).sum().float() for group in batch["groups"]]
        return batch, {"pixels": torch.stack(counts).sum()}

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """Cross entropy of pixels, and how many are named rightly."""
        loss, right = [], []
        for group in batch["groups"]:
            pixels = self.model.embed_pixels(group["pixels"], group["inside"])
            loss.append(lseg_loss(pixels, self.words, group["classes"], total=totals["pixels"]))
            unit = F.normalize(pixels.detach().float(), dim=1)
            guess = torch.einsum("behw,ke->bkhw", unit, self.words).argmax(dim=1)
            right.append((guess == group["classes"]).sum())
        return {
            "loss": torch.stack(loss).sum(),
            "named": torch.stack(right).sum() / totals["pixels"].clamp(min=1),
        }
