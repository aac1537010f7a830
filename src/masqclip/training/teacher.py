"""The teacher: a class-agnostic proposer learns masks from base annotations (MasQCLIP, sec. 3.2).

Mask2Former with one class, "object": every annotated mask, thing or stuff, is one, and nothing is
told of what it shows. What nobody annotated counts as "no object"; undoing that is distillation's
work.

The loss is Mask2Former's own (`criterion.py`): Hungarian matching, cross-entropy, point-wise mask
and Dice losses, at every decoder layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig

from masqclip.data.coco import CocoPanoptic, Sample
from masqclip.data.transforms import flip, large_scale_jitter, normalise, pad
from masqclip.errors import MasqclipError
from masqclip.evaluation.recall import recall
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training.criterion import CriterionSettings, mask_counts, mask_losses
from masqclip.training.sampling import picture_seed, step_indices
from masqclip.training.settings import TeacherSettings
from masqclip.training.sheets import write_proposal_sheet
from masqclip.training.stage import WHOLE, Counts, Share, Stage

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


class TeacherStage(Stage):
    """Trains a proposer; see the module's text.

    Args:
        dataset: pictures with masks; what categories they have does not matter.
        config: the architecture.
        settings: how.
        held_out: pictures with masks to evaluate on.

    Raises:
        MasqclipError: the dataset is empty.
    """

    name = "teacher"

    def __init__(
        self,
        dataset: CocoPanoptic,
        config: Mask2FormerConfig,
        settings: TeacherSettings,
        *,
        held_out: CocoPanoptic | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise MasqclipError(f"{dataset.folder} holds no picture to train on")
        self.dataset, self.held_out = dataset, held_out
        self.settings = settings
        self.criterion = CriterionSettings(
            class_weight=settings.class_weight,
            mask_weight=settings.mask_weight,
            dice_weight=settings.dice_weight,
            no_object_weight=settings.no_object_weight,
            num_points=settings.num_points,
        )
        torch.manual_seed(settings.seed)
        self.module: Mask2FormerProposer = Mask2FormerProposer(config)

    @property
    def data(self) -> dict[str, int]:
        """How many pictures there are."""
        return {"pictures": len(self.dataset)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """As published: the backbone learns slower; gains, biases and embeddings do not decay."""
        settings = self.settings
        backbone = {id(parameter) for parameter in self.module.backbone.parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for module in self.module.modules():
            for name, parameter in module.named_parameters(recurse=False):
                still = isinstance(module, (*_NORMS, nn.Embedding)) or name == "bias"
                groups.setdefault((id(parameter) in backbone, not still), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": settings.learning_rate * (settings.backbone_multiplier if slow else 1.0),
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (slow, decays), parameters in groups.items()
        ]

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Normalised frames [B,3,S,S], the masks [G,S,S] in each, and the seeds of their points."""
        settings = self.settings
        rows = step_indices(len(self.dataset), settings.batch_size, settings.seed, step)
        places = share.of(settings.batch_size)
        seeds = [picture_seed(settings.seed, step, place, "frame") for place in places]
        framed = [
            self._frame(self.dataset[rows[place]], torch.Generator().manual_seed(seed))
            for place, seed in zip(places, seeds, strict=True)
        ]
        pixels = torch.stack([image for image, _, _ in framed])
        inside = torch.stack([mask for _, _, mask in framed])
        # A crop can lose an annotation; an empty mask would be a target nobody can meet.
        masks = [found[found.flatten(1).any(1)] for _, found, _ in framed]
        return {
            "pixels": normalise(pixels, inside),
            "masks": masks,
            "seeds": [picture_seed(settings.seed, step, place, "points") for place in places],
        }

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """The batch as it is, and its masks counted."""
        return batch, mask_counts(batch["masks"], self.module.config.num_queries, self.criterion)

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """Mask2Former's loss over all decoder layers, and the last layer's three parts."""
        layers = self.module.layer_proposals(batch["pixels"])
        with torch.autocast(batch["pixels"].device.type, enabled=False):
            return mask_losses(
                layers, batch["masks"], self.criterion, seeds=batch["seeds"], totals=totals
            )

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Recall of the held-out masks, and a sheet of proposals."""
        if self.held_out is None:
            return {}
        write_proposal_sheet(self.module, self.held_out, folder / f"proposals-{step:08d}.png")
        found = recall(self.module, self.held_out)
        return {f"recall {name}": found[name] for name in ("all", "things", "stuff")}

    def save(self, folder: Path) -> None:
        """Write the proposer in transformers' format."""
        self.module.save_pretrained(folder)

    def _frame(self, sample: Sample, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Flip, jitter and pad one sample: image [3,S,S], masks [G,S,S], inside [S,S]."""
        settings = self.settings
        image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
        masks = torch.from_numpy(sample.masks.copy())
        if torch.rand((), generator=generator) < 0.5:
            image, masks = flip(image, masks)
        scales = (settings.min_scale, settings.max_scale)
        if scales == (1.0, 1.0) and max(image.shape[-2:]) == settings.image_size:
            return pad(image, masks, settings.image_size, settings.image_size)
        return large_scale_jitter(image, masks, settings.image_size, scales, generator)
