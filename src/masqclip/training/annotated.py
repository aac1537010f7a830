"""What the stages that learn names from annotated pictures share: data, frames, words.

Pictures whose frames differ in size never share one: a result does not depend on its batch.

Shapes: B pictures, G annotations, E embedding size, R text rows (classes, background).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from masqclip.clip.category import Category
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.class_lists import read_class_list
from masqclip.data.coco import Sample
from masqclip.data.frames import resized_size
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.data.transforms import resize
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights, quiet_transformers
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import load_proposer
from masqclip.render.overlay import numbering_notes
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import clip_normalisation
from masqclip.training.framing import Frame, augment, draw_mirror, stack, tensors
from masqclip.training.inputs import annotated_pictures, dataset_inputs, dataset_notes, dataset_size
from masqclip.training.sampling import SkippedPictures, batch_rows, picture_seed, read_samples
from masqclip.training.settings import NamedSettings
from masqclip.training.stage import WHOLE, Share, Stage

#: Held-out pictures that an evaluation looks at.
EVALUATED = 200
System = TypeVar("System", bound=MasQClipModel)


class AnnotatedStage(Stage):
    """Trains a system on pictures with masks and categories, whose names are the words.

    Args:
        model: what a system is made of; frozen but for what the stage trains.
        tokenizer: of the CLIP; it is saved with the result.
        dataset: pictures with masks and categories.
        settings: how.
        held_out: pictures to evaluate on, of the same categories.
        sources: digests of what the model was made of, by the names of their options; a run goes on
            with the same only.

    Raises:
        MasqclipError: the dataset holds no picture, keeps no category, or no picture has what there
            is to learn from.
    """

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: CocoMasks,
        settings: NamedSettings,
        *,
        held_out: CocoFiles | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        if len(dataset) == 0 or not dataset.categories.kept:
            raise MasqclipError(
                f"{dataset.folder} has no picture, or no category, to {self.name} on"
            )
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.settings: NamedSettings = settings
        self.dataset, left_out = annotated_pictures(dataset, settings)
        self.held_out = held_out
        self.skipped = SkippedPictures(len(self.dataset))
        self.vocabulary = dataset_vocabulary(dataset)
        numbers = () if held_out is None else numbering_notes(self.vocabulary.names)
        self.notes = (*dataset_notes(dataset, held_out), *left_out, *numbers)
        encoder = TextEncoder(model.clip, tokenizer, cache=False)
        self.text_embeddings = encoder.embed_vocabulary(self.vocabulary)
        self._row = {category: i for i, category in enumerate(sorted(dataset.categories.kept))}
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

    def to(self, device: torch.device) -> None:
        """Move all that runs, and the words."""
        self.network.to(device)
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
                "params": [p for p in self.module.parameters() if p.requires_grad],
                "lr": settings.learning_rate,
                "weight_decay": settings.weight_decay,
            }
        ]

    def read(self, step: int, places: range) -> tuple[list[tuple[int, Sample]], list[str]]:
        """The samples at some places of a step's batch, each with its row in the dataset, and what
        could not be read."""
        settings = self.settings
        rows = batch_rows(self.dataset, settings.batch_size, settings.seed, step)
        return read_samples(self.dataset, [rows[place] for place in places])

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Groups of pictures of one frame size (`group`), with their ``places`` among these
        and seeds of their own, and what could not be read."""
        settings = self.settings
        places = share.of(settings.batch_size)
        samples, skipped = self.read(step, places)
        frames, mirrors = [], []
        for place, (_, sample) in zip(places, samples, strict=True):
            seed = picture_seed(settings.seed, step, place, "frame")
            chance = torch.Generator().manual_seed(seed)
            mirrors.append(draw_mirror(settings, chance))
            frames.append(self.frame(sample, mirrors[-1], chance))
        seeds = [picture_seed(settings.seed, step, place, "points") for place in places]
        members: dict[tuple[int, ...], list[int]] = {}
        for i, (image, _, _) in enumerate(frames):
            members.setdefault(tuple(image.shape), []).append(i)
        groups = [
            self.group([frames[i] for i in numbers], [samples[i][1] for i in numbers])
            | self.beside([(samples[i][0], mirrors[i]) for i in numbers])
            | {"places": numbers, "seeds": [seeds[i] for i in numbers]}
            for numbers in members.values()
        ]
        return {"groups": groups, "skipped": skipped}

    def beside(self, pictures: list[tuple[int, bool]]) -> dict[str, Any]:
        """What else a group of pictures holds, by their rows and whether they are mirrored."""
        return {}

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

    def save(self, folder: Path) -> None:
        """Write the whole model and its tokenizer as a folder to load."""
        with quiet_transformers():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


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


def join_system(
    system: type[System],
    clip: str | Path,
    proposer: str | Path,
    settings: NamedSettings,
    **config: Any,
) -> tuple[System, PreTrainedTokenizerBase]:
    """Load a CLIP and a proposer from their folders and make a system of them, untrained.

    Args:
        system: its model.
        clip, proposer: folders, or names of the Hub.
        settings: how its stage is trained, of which it takes the sizes of pictures.
        config: more of `MasQClipConfig`.

    Raises:
        MasqclipError: one of the folders does not hold what it should.
    """
    with quiet_transformers():
        frozen, tokenizer = load_clip_and_tokenizer(clip)
        proposes = load_proposer(proposer)
    model = system.from_parts(
        frozen,
        proposes,
        clip_input=settings.clip_input,
        shortest_edge=settings.shortest_edge,
        longest_edge=settings.longest_edge,
        **config,
        **clip_normalisation(find_weights(clip, what="CLIP")),
    )
    return model, tokenizer
