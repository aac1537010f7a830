"""The teacher: a class-agnostic proposer learns masks from base annotations (MasQCLIP, sec. 3.2).

Mask2Former, or MaskFormer, with one class, "object": every annotated mask, thing or stuff, is one,
and nothing is told of what it shows. What nobody annotated counts as "no object"; undoing that is
distillation's work.

The loss is Mask2Former's own (`criterion.py`), whatever the proposer: Hungarian matching,
cross-entropy, point-wise mask and Dice losses, at every decoder layer.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from masqclip.data.digests import digest_model, digest_tensors
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.data.transforms import normalise
from masqclip.errors import MasqclipError
from masqclip.evaluation.recall import recall
from masqclip.hub import find_weights, quiet_transformers
from masqclip.proposals.adapters import TRAINABLE, load_trainable
from masqclip.proposals.criterion import CriterionSettings, mask_counts, mask_losses
from masqclip.proposals.trainable import TrainableProposer
from masqclip.training.framing import augment, stack, tensors
from masqclip.training.inputs import annotated_pictures, dataset_inputs, dataset_notes, dataset_size
from masqclip.training.optimizers import MUON
from masqclip.training.sampling import SkippedPictures, batch_rows, picture_seed, read_samples
from masqclip.training.settings import TeacherSettings
from masqclip.training.sheets import write_proposal_sheet
from masqclip.training.stage import WHOLE, Counts, Share, Stage

#: What does not decay, as published: norms, embeddings, and Swin's tables of positions.
_STILL = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
_POSITIONS = ("relative_position_bias_table", "position_embeddings")


class TeacherStage(Stage):
    """Trains a proposer; see the module's text.

    Args:
        dataset: pictures with masks; what categories they have does not matter.
        config: the architecture, of a type that is `TRAINABLE`.
        settings: how.
        held_out: pictures with masks to evaluate on.
        start: the folder of a proposer to go on from; its weights are those of `config`.

    Raises:
        MasqclipError: the dataset is empty, no picture has what there is to learn from, or batch
            norms are to be frozen without a backbone that they come with.
    """

    name = "teacher"

    def __init__(
        self,
        dataset: CocoMasks,
        config: PreTrainedConfig,
        settings: TeacherSettings,
        *,
        held_out: CocoFiles | None = None,
        start: str | Path | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise MasqclipError(f"{dataset.folder} holds no picture to train on")
        self.dataset, left_out = annotated_pictures(dataset, settings)
        self.held_out = held_out
        self.notes = (*dataset_notes(dataset, held_out), *left_out)
        self.skipped = SkippedPictures(len(self.dataset))
        self.settings = settings
        self.criterion = CriterionSettings(
            class_weight=settings.class_weight,
            mask_weight=settings.mask_weight,
            dice_weight=settings.dice_weight,
            no_object_weight=settings.no_object_weight,
            num_points=settings.num_points,
        )
        torch.manual_seed(settings.seed)
        self.module: TrainableProposer = TRAINABLE[config.model_type](
            config, freeze_batch_norm=settings.freeze_batch_norm
        ).float()  # whatever the caller's default dtype is
        self._backbone: str | None = None
        self._start = None if start is None else find_weights(start, what="proposer")
        self._load_weights()

    def _load_weights(self) -> None:
        """Start from a proposer, or the backbone from a ResNet's weights, where one is named."""
        if self._start is not None:
            with quiet_transformers():
                before = load_trainable(self._start).float()
            self.module.load_state_dict(before.state_dict())
            return
        if not self.settings.backbone:
            if self.settings.freeze_batch_norm:
                raise MasqclipError(
                    "freeze_batch_norm keeps the batch norms of a trained backbone, and none is "
                    "named: give one, such as backbone=microsoft/resnet-50, or set "
                    "freeze_batch_norm=false"
                )
            return
        with quiet_transformers():
            self.module.load_backbone(self.settings.backbone)
        self._backbone = digest_tensors(self.module.backbone.state_dict())

    @property
    def data(self) -> dict[str, int]:
        """How many pictures there are."""
        return dataset_size(self.dataset)

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The data; the backbone, if there is one."""
        found = dataset_inputs(self.dataset, self.held_out)
        if self._backbone is not None:
            found["backbone"] = self._backbone
        if self._start is not None:
            found["--start"] = digest_model(self._start)
        return found

    @property
    def remarks(self) -> str:
        """Which pictures were skipped."""
        return self.skipped.summary()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """As published: the backbone learns slower; norms and embeddings do not decay, all other
        biases do; what is frozen is in no group."""
        settings = self.settings
        self.module.train(self.module.training)  # what is frozen is so, whatever was said since
        backbone = {id(parameter) for parameter in self.module.backbone.parameters()}
        groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
        for module in self.module.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                still = isinstance(module, _STILL) or name in _POSITIONS
                slow = id(parameter) in backbone
                inner = isinstance(module, nn.Linear) and parameter.ndim == 2 and not slow
                muon = settings.muon_rate > 0 and inner
                groups.setdefault((slow, not still, muon), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": settings.muon_rate
                if muon
                else settings.learning_rate * (settings.backbone_multiplier if slow else 1.0),
                "weight_decay": settings.weight_decay if decays else 0.0,
                MUON: muon,
            }
            for (slow, decays, muon), parameters in groups.items()
        ]

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Normalised frames [B,3,S,S], the masks [G,S,S] in each, and the seeds of their points."""
        settings = self.settings
        rows = batch_rows(self.dataset, settings.batch_size, settings.seed, step)
        places = share.of(settings.batch_size)
        samples, skipped = read_samples(self.dataset, [rows[place] for place in places])
        frames = []
        for place, (_, sample) in zip(places, samples, strict=True):
            seed = picture_seed(settings.seed, step, place, "frame")
            frames.append(augment(*tensors(sample), settings, torch.Generator().manual_seed(seed)))
        pixels, framed, inside = stack(frames)
        # A crop can lose an annotation; an empty mask would be a target nobody can meet.
        masks = [found[found.flatten(1).any(1)] for found in framed]
        return {
            "pixels": normalise(pixels, inside),
            "masks": masks,
            "seeds": [picture_seed(settings.seed, step, place, "points") for place in places],
            "skipped": skipped,
        }

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """The batch as it is, and its masks and pictures counted."""
        self.skipped.note(batch["skipped"])
        masks = batch["masks"]
        counts = mask_counts(masks, self.module.num_queries, self.criterion)
        return batch, {**counts, "pictures": counts["masks"].new_tensor(len(masks))}

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The loss over all decoder layers, the last layer's three parts, and
        ``bare``: the share of pictures in whose frame there is no mask to learn from."""
        layers = self.module.layer_proposals(batch["pixels"])
        with torch.autocast(batch["pixels"].device.type, enabled=False):
            losses = mask_losses(
                layers, batch["masks"], self.criterion, seeds=batch["seeds"], totals=totals
            )
        return losses | {"bare": sum(len(m) == 0 for m in batch["masks"]) / totals["pictures"]}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Recall of the held-out masks, and a sheet of proposals."""
        if self.held_out is None:
            return {}
        write_proposal_sheet(self.module, self.held_out, folder / f"proposals-{step:08d}.png")
        found = recall(self.module, self.held_out)
        return {f"recall {name}": found[name] for name in ("all", "things", "stuff")}

    def save(self, folder: Path) -> None:
        """Write the proposer in transformers' format."""
        with quiet_transformers():
            self.module.save_pretrained(folder)
