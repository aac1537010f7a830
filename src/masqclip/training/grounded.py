"""OpenSeg's stage, and what it shares with XPM's: the words of captions, and pictures told apart.

Every picture of a batch is compared with the caption of every other, so a batch cannot be split
into micro-batches; processes hand one another what they made of their pictures.

Shapes: B pictures, N regions, E the embedding's size.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from masqclip.baselines.openseg import (
    OpenSegModel,
    best_dice_loss,
    grounding_loss,
    grounding_scores,
)
from masqclip.baselines.words import ObjectWords, content_words
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoCaptions, Sample
from masqclip.data.digests import digest_bytes
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.proposals.base import object_log_scores
from masqclip.training.baseline_settings import BaselineSettings, OpenSegSettings
from masqclip.training.baselines import BaselineStage
from masqclip.training.distributed import gather_rows
from masqclip.training.sampling import batch_rows, read_samples, step_indices
from masqclip.training.stage import WHOLE, Counts, Share


class CaptionWords:
    """The words of captions, and their embeddings.

    Args:
        model: whose text tower embeds them.
        tokenizer: of the CLIP.
        names: the object words to look for; every word that is no function word, unless given.
        captions: all that there are, to know the words of.
    """

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: PreTrainedTokenizerBase,
        names: Vocabulary | None,
        captions: Sequence[str],
    ) -> None:
        encoder = TextEncoder(model.clip, tokenizer, cache=False)
        if names is None:
            words = content_words(captions)
            self._places = {word: place for place, word in enumerate(words)}
            self._objects = None
            if not words:
                raise MasqclipError("the captions have no word that is no function word")
            names = Vocabulary.parse(words)
        else:
            self._objects = ObjectWords.of(names)
        self.embeddings = encoder.embed_vocabulary(names)[: len(names)]

    def of(self, captions: Sequence[str]) -> list[int]:
        """The places of the words that a picture's captions have."""
        if self._objects is not None:
            return self._objects.find(captions)
        return [self._places[word] for word in content_words(captions) if word in self._places]


def read_captions(folder: str | Path) -> dict[int, tuple[str, ...]]:
    """The captions of a folder's ``annotations/captions.json``, or of such a file, by picture.

    Raises:
        MasqclipError: there is none, or it is not COCO's.
    """
    path = Path(folder)
    file = path / "annotations/captions.json" if path.is_dir() else path
    if not file.is_file():
        raise MasqclipError(
            f"there are no captions in {folder}: give a folder with annotations/captions.json, or "
            "COCO's file of captions, with --captions"
        )
    found = CocoCaptions(file.parent, annotations=file.name)
    return {int(found.entry(row)["id"]): found.captions(row) for row in range(len(found))}


class GroundedStage(BaselineStage):
    """A stage that reads captions beside, or in place of, the names of masks.

    Args:
        captions: by the ids of the dataset's pictures.
        names: see `CaptionWords`.
        more_captions: of other pictures, whose words are wanted too.

    Other arguments and errors as in `AnnotatedStage`; and no picture has a caption.
    """

    accumulates = False

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: CocoMasks,
        settings: BaselineSettings,
        captions: Mapping[int, tuple[str, ...]],
        *,
        names: Vocabulary | None = None,
        more_captions: Sequence[str] = (),
        held_out: CocoFiles | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(model, tokenizer, dataset, settings, held_out=held_out, sources=sources)
        if self.dataset.endless:
            raise MasqclipError(
                f"{dataset.folder}: {self.name} reads captions of files; write scenes to a folder "
                'with "masqclip data stickers"'
            )
        self.captions = captions
        there = [self._captions_of(row) for row in range(len(self.dataset))]
        if not any(there):
            raise MasqclipError(
                f"none of the {len(self.dataset)} pictures of {dataset.folder} has a caption"
            )
        self._sources |= {
            "--captions": digest_bytes(json.dumps(there).encode()),
            "--words": digest_bytes(repr(names).encode()),
        }
        every = [text for found in there for text in found]
        every += more_captions
        self.said = CaptionWords(model, tokenizer, names, every)
        if not any(self.said.of([text]) for text in every):
            raise MasqclipError(f"none of {len(every)} captions has a word of the vocabulary")

    def _captions_of(self, row: int) -> tuple[str, ...]:
        return self.captions.get(int(self.dataset.entry(row)["id"]), ())

    def to(self, device: torch.device) -> None:
        """Move the model and the words."""
        super().to(device)
        self.said.embeddings = self.said.embeddings.to(device)

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """As of `AnnotatedStage`; ``said``: the words of every caption of the whole batch, and
        ``own``, which of them are this part's."""
        places = share.of(self.settings.batch_size)
        said = [
            torch.tensor(self.said.of(captions), dtype=torch.long)
            for captions in self.captions_at(step)
        ]
        return super().batch(step, share) | {"said": said, "own": (places.start, places.stop)}

    def captions_at(self, step: int) -> list[tuple[str, ...]]:
        """The captions at every place of a step's batch.

        A picture that cannot be read is replaced by another, and keeps its caption here: no process
        knows what the others could read.
        """
        settings = self.settings
        rows = batch_rows(self.dataset, settings.batch_size, settings.seed, step)
        return [self._captions_of(row) for row in rows]

    def word_rows(self, batch: dict[str, Any]) -> list[Tensor]:
        """For every caption of the batch the embeddings [K,E] of its words."""
        return [self.said.embeddings[places] for places in batch["said"]]


def in_order(groups: Sequence[dict[str, Any]], found: Sequence[Tensor]) -> Tensor:
    """What was made of groups of pictures, [n,...] each, in the pictures' own order."""
    places = [place for group in groups for place in group["places"]]
    order = torch.tensor(places).argsort().to(found[0].device)
    return torch.cat(list(found))[order]


class OpenSegStage(GroundedStage):
    """Trains OpenSeg on masks without names and on captions.

    Args:
        caption_data: pictures with captions alone, which take masks from the proposer.

    Other arguments and errors as in `GroundedStage`.
    """

    name = "openseg"
    model: OpenSegModel
    settings: OpenSegSettings

    def __init__(
        self,
        model: OpenSegModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: CocoMasks,
        settings: OpenSegSettings,
        captions: Mapping[int, tuple[str, ...]],
        *,
        names: Vocabulary | None = None,
        caption_data: CocoCaptions | None = None,
        held_out: CocoFiles | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        # The image encoder is the proposer's own, so what proposes for others is a copy.
        self.teacher = copy.deepcopy(model.proposer).eval() if caption_data is not None else None
        self.caption_data = caption_data
        super().__init__(
            model,
            tokenizer,
            dataset,
            settings,
            captions,
            names=names,
            more_captions=caption_data.all_captions() if caption_data is not None else (),
            held_out=held_out,
            sources=sources,
        )
        if self.teacher is not None:
            self.teacher.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The model, and what proposes masks of pictures that have captions alone."""
        if self.teacher is None:
            return self.model
        return nn.ModuleDict({"model": self.model, "teacher": self.teacher})

    @property
    def inputs(self) -> dict[str, str]:
        """As of others; the pictures with captions alone, if there are any."""
        own = (
            {} if self.caption_data is None else {"--caption-data": self.caption_data.fingerprint()}
        )
        return dict(super().inputs) | own

    def _captioned_rows(self, step: int) -> list[int]:
        """Which pictures with captions alone a step has: they take its batch's last places."""
        if self.caption_data is None:
            return []
        settings = self.settings
        wanted = round(settings.caption_share * settings.batch_size)
        count = min(settings.batch_size - 1, max(1, wanted))
        return step_indices(len(self.caption_data), count, settings.seed, step)

    def captions_at(self, step: int) -> list[tuple[str, ...]]:
        """See `GroundedStage`."""
        captions, rows = super().captions_at(step), self._captioned_rows(step)
        if self.caption_data is not None:
            captions[len(captions) - len(rows) :] = [
                self.caption_data.captions(row) for row in rows
            ]
        return captions

    def read(self, step: int, places: range) -> tuple[list[tuple[int, Sample]], list[str]]:
        """See `AnnotatedStage`; pictures with captions alone have the row -1."""
        rows = self._captioned_rows(step)
        first = self.settings.batch_size - len(rows)
        annotated = range(places.start, min(places.stop, first))
        samples, skipped = super().read(step, annotated)
        if self.caption_data is not None:
            mine = [rows[place - first] for place in places if place >= first]
            found, more = read_samples(self.caption_data, mine)
            samples, skipped = samples + [(-1, sample) for _, sample in found], skipped + more
        return samples, skipped

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Give pictures without annotations the teacher's masks; count the masks."""
        self.look_at(batch)
        count = 0
        for group in batch["groups"]:
            if self.teacher is not None:
                bare = [row for row, one in enumerate(group["unannotated"]) if one]
                self._propose(group, bare)
            count += sum(map(len, group["masks"]))
        return batch, {"masks": self.said.embeddings.new_tensor(float(count))}

    def _propose(self, group: dict[str, Any], rows: list[int]) -> None:
        """Put the teacher's surest masks where there are no annotations."""
        if not rows or self.teacher is None:
            return
        own, self.model.proposer = self.model.proposer, self.teacher
        try:
            found = self.model.propose(group["pixels"][rows], group["inside"][rows])
        finally:
            self.model.proposer = own
        scores = object_log_scores(found.object_logits.float()).exp()
        for row, masks, score in zip(rows, found.mask_logits, scores, strict=True):
            group["masks"][row] = masks[score > self.settings.score_threshold] > 0

    def beside(self, pictures: list[tuple[int, bool]]) -> dict[str, Any]:
        """``unannotated``: which of the pictures have captions alone."""
        return {"unannotated": [row < 0 for row, _ in pictures]}

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The captions' loss, and the masks' beside it."""
        regions, dice = [], []
        for group in batch["groups"]:
            masks, found = self.model.read(group["pixels"], group["inside"])
            regions.append(found)
            with torch.autocast(found.device.type, enabled=False):
                dice.append(best_dice_loss(masks.float(), group["masks"], total=totals["masks"]))
        temperature = self.model.temperature
        with torch.autocast(regions[0].device.type, enabled=False):
            every = gather_rows(in_order(batch["groups"], regions).float())
            scores = grounding_scores(every, self.word_rows(batch), temperature)
            own = slice(*batch["own"])
            grounding = grounding_loss(scores, temperature, own)
        places = torch.arange(len(scores), device=scores.device)
        right = (scores.detach().argmax(dim=1) == places)[own].sum() / len(scores)
        masks_loss = torch.stack(dice).sum()
        return {
            "loss": grounding + self.settings.mask_weight * masks_loss,
            "masks": masks_loss.detach(),
            "captions": grounding.detach(),
            "right": right,
        }
