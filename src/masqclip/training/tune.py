"""MasQ-Tuning: teach the mask class tokens to name masks (MasQCLIP, sec. 3.3; stage 3).

Everything is frozen but the new query projections and the mask class embedding. A proposal takes
the name of the annotation it agrees with best, if they agree well enough, else "background"; its
embedding is compared with the words, and the loss is a cross-entropy that counts background little.

- The picture's own pass (`encode_image`) runs without gradient: only mask tokens are
  differentiated.
- Annotated masks can be named beside the proposals, or instead of them (`TuneSettings.masks`); then
  no proposer runs.
- Pictures whose frames differ in size never share one: a result does not depend on its batch.
- Which patches a proposal covers and what it is called may come from a `ProposalCache`.

Shapes: B pictures, Q proposals, G annotations, M masks of either kind, P patches, E embedding
size, R text rows (classes, background).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from masqclip.clip.classifier import clip_logits
from masqclip.clip.loading import load_clip_and_tokenizer
from masqclip.clip.masked_vision import MaskQueries, embed_masks
from masqclip.clip.normalisation import clip_normalisation
from masqclip.clip.queries_file import save_queries
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Category, Vocabulary
from masqclip.data.class_lists import read_class_list
from masqclip.data.coco import Sample
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.data.transforms import resize
from masqclip.encoding import resized_size
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights, quiet_transformers
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import load_proposer
from masqclip.segmenter import Segmenter
from masqclip.training.framing import Frame, augment, draw_mirror, stack, tensors
from masqclip.training.inputs import annotated_pictures, dataset_inputs, dataset_notes, dataset_size
from masqclip.training.naming import NOTHING, assign_labels, tuning_loss
from masqclip.training.sampling import SkippedPictures, batch_rows, picture_seed, read_samples
from masqclip.training.settings import TuneSettings
from masqclip.training.sheets import write_overlay_sheet
from masqclip.training.stage import WHOLE, Counts, Share, Stage, to_device

#: Held-out pictures that an evaluation looks at.
_EVALUATED = 200

if TYPE_CHECKING:
    from masqclip.training.proposal_cache import ProposalCache

#: The learned queries alone, beside the model: what turns any copy of the same CLIP into this one.
QUERIES_FILE = "queries.safetensors"


class TuneStage(Stage):
    """Tunes a model's queries on annotated pictures; see the module's text.

    Args:
        model: a proposer and a CLIP, joined; its queries are where training starts.
        tokenizer: of the CLIP; it is saved with the result.
        dataset: pictures with masks and categories; the categories' names are the words.
        settings: how.
        held_out: pictures to evaluate on, of the same categories.
        sources: digests of what the model was made of, by the names of their options; a run goes on
            with the same only.

    Raises:
        MasqclipError: the dataset holds no picture, keeps no category, or no picture has what there
            is to learn from.
    """

    name = "tune"

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: CocoMasks,
        settings: TuneSettings | None = None,
        *,
        held_out: CocoFiles | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        if len(dataset) == 0 or not dataset.categories.kept:
            raise MasqclipError(f"{dataset.folder} has no picture, or no category, to tune on")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.settings = settings or TuneSettings()
        self.dataset, left_out = annotated_pictures(dataset, self.settings)
        self.held_out = held_out
        self.notes = (*dataset_notes(dataset, held_out), *left_out)
        self.skipped = SkippedPictures(len(self.dataset))
        self.vocabulary = dataset_vocabulary(dataset)
        encoder = TextEncoder(model.clip, tokenizer, cache=False)
        self.text_embeddings = encoder.embed_vocabulary(self.vocabulary)
        self._row = {category: i for i, category in enumerate(sorted(dataset.categories.kept))}
        self.module: MaskQueries = model.queries.requires_grad_(True)
        self.cache: ProposalCache | None = None
        self._sources = dict(sources or {})

    @property
    def network(self) -> nn.Module:
        """Proposer, CLIP and queries."""
        return self.model

    @property
    def data(self) -> dict[str, int]:
        """How many pictures and words there are."""
        return dataset_size(self.dataset) | {"words": len(self._row)}

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The data, and what the model was made of."""
        return dataset_inputs(self.dataset, self.held_out) | self._sources

    @property
    def background(self) -> int:
        """The text row of what is nothing annotated: the last."""
        return len(self.text_embeddings) - 1

    def to(self, device: torch.device) -> None:
        """Move the model and the words."""
        self.model.to(device)
        self.text_embeddings = self.text_embeddings.to(device)

    @property
    def remarks(self) -> str:
        """Which pictures were skipped."""
        return self.skipped.summary()

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

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Groups of pictures of one frame size (`group`), and what could not be read."""
        settings = self.settings
        rows = batch_rows(self.dataset, settings.batch_size, settings.seed, step)
        places = share.of(settings.batch_size)
        samples, skipped = read_samples(self.dataset, [rows[place] for place in places])
        frames, mirrors = [], []
        for place, (_, sample) in zip(places, samples, strict=True):
            seed = picture_seed(settings.seed, step, place, "frame")
            chance = torch.Generator().manual_seed(seed)
            mirrors.append(draw_mirror(settings, chance))
            frames.append(self.frame(sample, mirrors[-1], chance))
        members: dict[tuple[int, ...], list[int]] = {}
        for i, (image, _, _) in enumerate(frames):
            members.setdefault(tuple(image.shape), []).append(i)
        groups = []
        for numbers in members.values():
            group = self.group([frames[i] for i in numbers], [samples[i][1] for i in numbers])
            if self.cache is not None:
                group |= self.cache.read([(samples[i][0], mirrors[i]) for i in numbers])
            groups.append(group)
        return {"groups": groups, "skipped": skipped}

    def frame(
        self, sample: Sample, mirror: bool = False, generator: torch.Generator | None = None
    ) -> Frame:
        """A sample's frame, padded to the model's multiple; see `FrameSettings`.

        Without a generator there is no augmentation: the frame is what the model sees in use.
        """
        image, masks = tensors(sample)
        settings = self.settings
        if generator is None:
            settings = replace(settings, augmentation="none")
        if settings.augmentation == "none":
            size = resized_size(image.shape[-2], image.shape[-1], self.model.config)
            image, masks = resize(image, masks, *size)
        chance = generator or torch.Generator()
        augmented = augment(image, masks, settings, chance, mirror=mirror)
        images, framed, inside = stack([augmented], self.model.config.size_divisor)
        return images[0], framed[0], inside[0]

    def group(self, frames: list[Frame], samples: list[Sample]) -> dict[str, Any]:
        """Frames of one size: pixels [B,3,H,W], where pictures are, masks and their text rows.

        Annotations of which a frame shows nothing are left out.
        """
        shown = [masks.flatten(1).any(1) for _, masks, _ in frames]
        rows = [
            torch.tensor([self._row[int(c)] for c in sample.category_ids]).long()
            for sample in samples
        ]
        return {
            "pixels": torch.stack([image for image, _, _ in frames]).float(),
            "inside": torch.stack([inside for _, _, inside in frames]),
            "masks": [masks[some] for (_, masks, _), some in zip(frames, shown, strict=True)],
            "labels": [row[some] for row, some in zip(rows, shown, strict=True)],
        }

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Say which patches each mask covers and what it is to be named, and count the masks."""
        self.skipped.note(batch["skipped"])
        groups, targets, seen = [], [], []
        for group in batch["groups"]:
            visible, wanted = self._masks(group)
            seen += [len(masks) > 0 for masks in group["masks"]]
            groups.append({"pixels": group["pixels"], "visible": visible, "targets": wanted})
            targets.append(wanted.flatten())
        target = torch.cat(targets)
        counted, matched = (target != NOTHING).sum().float(), self._named(target).sum().float()
        counts = {
            "masks": counted,
            "matched": matched,
            "weight": matched + self.settings.background_weight * (counted - matched),
            "pictures": counted.new_tensor(len(seen)),
        }
        return {"groups": groups, "bare": seen.count(False)}, counts

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The classification loss, how many of the masks with a name are named rightly, and
        ``bare``: the share of pictures in whose frame there is nothing annotated."""
        embeddings, targets = [], []
        for group in batch["groups"]:
            with torch.no_grad():
                tokens = self.model.encode_image(group["pixels"])
            found = embed_masks(self.model.clip, self.module, tokens, group["visible"])
            embeddings.append(found.flatten(0, 1))
            targets.append(group["targets"].flatten())
        target = torch.cat(targets)
        scale = self.model.config.logit_scale
        logits = clip_logits(torch.cat(embeddings), self.text_embeddings, logit_scale=scale)
        weight = self.settings.background_weight
        loss = tuning_loss(logits, target, background_weight=weight, total=totals["weight"])
        named = self._named(target)
        right = (logits.argmax(-1) == target) & named
        return {
            "loss": self.settings.loss_weight * loss,
            "named": right.sum() / totals["matched"].clamp(min=1),
            "matched": named.sum() / totals["masks"].clamp(min=1),
            "bare": batch["bare"] / totals["pictures"],
        }

    def _named(self, targets: Tensor) -> Tensor:
        """Which masks are to get a category's name."""
        return (targets != NOTHING) & (targets != self.background)

    def propose(self, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The patches [B,Q,P] that proposals cover, and the text rows [B,Q] they should get."""
        proposals = self.model.propose(group["pixels"], group["inside"])
        targets = [
            assign_labels(
                mask_logits,
                masks,
                labels,
                background=self.background,
                threshold=self.settings.dice_cost_threshold,
                size=self.settings.assign_size,
            )
            for mask_logits, masks, labels in zip(
                proposals.mask_logits, group["masks"], group["labels"], strict=True
            )
        ]
        return self.model.visible_patches(proposals.mask_logits), torch.stack(targets)

    def _masks(self, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The patches [B,M,P] and text rows [B,M] of all masks to name."""
        visible, targets = [], []
        if self.settings.masks != "ground-truth":
            known = "visible" in group
            found = (group["visible"], group["targets"]) if known else self.propose(group)
            visible.append(found[0])
            targets.append(found[1])
        if self.settings.masks != "proposals":
            height, width = group["pixels"].shape[-2:]
            size = (int(height), int(width))
            weights = [
                self.model.patch_weights(masks, size=size, resized=size, frame=size)
                for masks in group["masks"]
            ]
            # Short lists are filled with what is no mask; so is one place where none has any.
            nothing = weights[0].new_zeros(1, weights[0].shape[1])
            visible.append(pad_sequence([*weights, nothing], True)[:-1])
            targets.append(
                pad_sequence(
                    [*group["labels"], group["labels"][0].new_tensor([NOTHING])], True, NOTHING
                )[:-1]
            )
        return torch.cat(visible, dim=1), torch.cat(targets, dim=1)

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """How many of the masks that should have a held-out name are named rightly, and a
        sheet of overlays."""
        if self.held_out is None:
            return {}
        segmenter = Segmenter(self.model, self.tokenizer, cache=False)
        path = folder / f"overlays-{step:08d}.png"
        write_overlay_sheet(segmenter, self.vocabulary, self.held_out, path)
        right = total = 0.0
        for row in range(min(_EVALUATED, len(self.held_out))):
            sample = self.held_out[row]
            group = to_device(self.group([self.frame(sample)], [sample]), self.model.device)
            prepared, counts = self.prepare({"groups": [group], "skipped": []})
            right += float(self.losses(prepared, counts)["named"] * counts["matched"])
            total += float(counts["matched"])
        return {"named": right / max(1.0, total)}

    def save(self, folder: Path) -> None:
        """Write the whole model and its tokenizer as a folder to load, and the queries alone."""
        with quiet_transformers():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_queries(folder / QUERIES_FILE, self.module, self.model.clip.vision_model)


def dataset_vocabulary(dataset: CocoMasks) -> Vocabulary:
    """The kept categories of a dataset in the order of their ids, as words.

    A name that COCO panoptic publishes ("tree-merged") is read as the paper reads it.

    Raises:
        MasqclipError: a category cannot be called what it is called.
    """
    prompts = {entry.name: entry.prompts for entry in read_class_list("coco-panoptic").classes}
    categories = dataset.categories
    try:
        return Vocabulary(
            tuple(
                Category(name, prompts.get(name, ()), categories.is_thing(number))
                for number, name in ((i, categories.names[i]) for i in sorted(categories.kept))
            )
        )
    except MasqclipError as error:
        raise MasqclipError(f"the categories of {dataset.folder}: {error}") from error


def join(
    clip: str | Path, proposer: str | Path, settings: TuneSettings
) -> tuple[MasQClipModel, PreTrainedTokenizerBase]:
    """Load a CLIP and a proposer from their folders and join them, with untuned queries.

    Raises:
        MasqclipError: one of the folders does not hold what it should.
    """
    with quiet_transformers():
        frozen, tokenizer = load_clip_and_tokenizer(clip)
        proposes = load_proposer(proposer)
    model = MasQClipModel.from_parts(
        frozen,
        proposes,
        query_start=settings.query_start,
        clip_input=settings.clip_input,
        shortest_edge=settings.shortest_edge,
        longest_edge=settings.longest_edge,
        **clip_normalisation(find_weights(clip, what="CLIP")),
    )
    return model, tokenizer
