"""MasQ-Tuning: teach the mask class tokens to name masks (MasQCLIP, sec. 3.3; stage 3).

Everything is frozen but the new query projections and the mask class embedding (`learned.py` has
what may learn instead). A proposal takes the name of the annotation it agrees with best, if they
agree well enough, else "background"; its embedding is compared with the words, and the loss is a
cross-entropy that counts background little.

- The picture's own pass (`encode_image`) runs without gradient, unless what it makes is learned:
  only mask tokens are differentiated.
- Annotated masks can be named beside the proposals, or instead of them (`TuneSettings.masks`); then
  no proposer runs.
- Pictures whose frames differ in size never share one: a result does not depend on its batch.
- Which patches a proposal covers and what it is called may come from a `ProposalCache`.

Shapes: B pictures, Q proposals, G annotations, M masks of either kind, P patches, E embedding
size, R text rows (classes, background).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from masqclip.clip.classifier import clip_logits
from masqclip.clip.masked_vision import ImageTokens, embed_masks
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.segmenter import Segmenter
from masqclip.training.annotated import EVALUATED, AnnotatedStage, join_system
from masqclip.training.learned import choose_learned, own_projections
from masqclip.training.naming import (
    NOTHING,
    assign_labels,
    consistency,
    mixed_names_loss,
    tuning_loss,
)
from masqclip.training.settings import TuneSettings
from masqclip.training.sheets import write_overlay_sheet
from masqclip.training.stage import Counts, to_device

if TYPE_CHECKING:
    from masqclip.training.proposal_cache import ProposalCache

#: The learned queries alone, beside the model: what turns any copy of the same CLIP into this one.
QUERIES_FILE = "queries.safetensors"


class TuneStage(AnnotatedStage):
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
            is to learn from; or the model is of another system, or its masks have own projections
            that would not be learned.
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
        settings = settings or TuneSettings()
        if model.system != MasQClipModel.system:
            raise MasqclipError(f"a model of the system {model.system!r} has no queries to tune")
        super().__init__(model, tokenizer, dataset, settings, held_out=held_out, sources=sources)
        self.settings: TuneSettings = settings
        self.module = choose_learned(model, settings.learns)
        model.config.tuned_names = [*self.vocabulary.names]
        self.cache: ProposalCache | None = None

    @property
    def background(self) -> int:
        """The text row of what is nothing annotated: the last."""
        return len(self.text_embeddings) - 1

    def beside(self, pictures: list[tuple[int, bool]]) -> dict[str, Any]:
        """What the proposer once said of them, where that is kept."""
        return {} if self.cache is None else self.cache.read(pictures)

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
        embeddings, targets, before, mixed = [], [], [], []
        scale = self.model.config.logit_scale
        for group in batch["groups"]:
            with torch.no_grad() if self.settings.learns == "q" else nullcontext():
                tokens = self.model.encode_image(group["pixels"])
            found = self.model.embed_patches(tokens, group["visible"])
            embeddings.append(found.flatten(0, 1))
            targets.append(group["targets"].flatten())
            if self.settings.consistency:
                before.append(self._untuned_answer(tokens, group["visible"]))
            if self.settings.mix_names:
                wanted = group["targets"].where(self._named(group["targets"]), NOTHING)
                mixed.append(mixed_names_loss(found, wanted, self.text_embeddings, scale))
        target = torch.cat(targets)
        logits = clip_logits(torch.cat(embeddings), self.text_embeddings, logit_scale=scale)
        weight = self.settings.background_weight
        loss = tuning_loss(logits, target, background_weight=weight, total=totals["weight"])
        named = self._named(target)
        terms: dict[str, Tensor] = {}
        if before:
            held = consistency(logits, torch.cat(before), target != NOTHING) / totals["masks"]
            loss, terms = loss + self.settings.consistency * held, {"held": held}
        if mixed:
            mixture = torch.stack(mixed).sum() / totals["matched"].clamp(min=1)
            loss, terms = loss + self.settings.mix_names * mixture, terms | {"mixed": mixture}
        right = (logits.argmax(-1) == target) & named
        return {
            "loss": self.settings.loss_weight * loss,
            "named": right.sum() / totals["matched"].clamp(min=1),
            "matched": named.sum() / totals["masks"].clamp(min=1),
            "bare": batch["bare"] / totals["pictures"],
            **terms,
        }

    @torch.no_grad()
    def _untuned_answer(self, tokens: ImageTokens, visible: Tensor) -> Tensor:
        """[B*Q,R]: the logits of masks by CLIP's own queries."""
        found = embed_masks(self.model.tower, None, tokens, visible)
        scale = self.model.config.logit_scale
        return clip_logits(found, self.text_embeddings, logit_scale=scale).flatten(0, 1)

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
        for row in range(min(EVALUATED, len(self.held_out))):
            sample = self.held_out[row]
            group = to_device(self.group([self.frame(sample)], [sample]), self.model.device)
            prepared, counts = self.prepare({"groups": [group], "skipped": []})
            right += float(self.losses(prepared, counts)["named"] * counts["matched"])
            total += float(counts["matched"])
        return {"named": right / max(1.0, total)}

    def save(self, folder: Path) -> None:
        """Write the whole model and its tokenizer as a folder to load, and the queries alone where
        they are all that was learned."""
        super().save(folder)
        if self.settings.learns == "q":
            self.model.save_queries(folder / QUERIES_FILE)


def join(
    clip: str | Path, proposer: str | Path, settings: TuneSettings
) -> tuple[MasQClipModel, PreTrainedTokenizerBase]:
    """Load a CLIP and a proposer from their folders and join them, with untuned queries.

    Raises:
        MasqclipError: one of the folders does not hold what it should.
    """
    return join_system(
        MasQClipModel,
        clip,
        proposer,
        settings,
        query_start=settings.query_start,
        own_projections=own_projections(settings.learns),
    )
