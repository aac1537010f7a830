"""Masks without a pixel name nothing and are named nothing, wherever they come in.

By the smoothed Dice cost two empty masks are alike: a proposal without a pixel would take the name
of an annotation that a crop has left none of.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.errors import MasqclipError
from masqclip.proposals.base import Proposals
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training.distill import DistillStage, teacher_masks
from masqclip.training.naming import NOTHING, assign_labels
from masqclip.training.proposal_cache import ProposalCache
from masqclip.training.settings import DistillSettings, TeacherSettings, TuneSettings
from masqclip.training.stage import batch_losses
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

BACKGROUND = 9
#: Frames of which most show little of their picture.
JITTER = TuneSettings(
    batch_size=4, image_size=64, assign_size=64, min_scale=3.0, max_scale=8.0, shortest_edge=64
)


def boxes(*spans: tuple[int, int], size: int = 64) -> Tensor:
    masks = torch.zeros(len(spans), size, size, dtype=torch.bool)
    for mask, (first, last) in zip(masks, spans, strict=True):
        mask[:, first:last] = True
    return masks


def logits(masks: Tensor) -> Tensor:
    return torch.where(masks, 5.0, -5.0)


# Which name a mask gets


def test_an_empty_proposal_takes_no_name_of_an_empty_annotation() -> None:
    proposals = logits(boxes((0, 0), (10, 30), (0, 0)))
    annotated, labels = boxes((0, 0), (10, 30)), torch.tensor([3, 5])
    found = assign_labels(proposals, annotated, labels, background=BACKGROUND, size=64)
    assert found.tolist() == [BACKGROUND, 5, BACKGROUND]


def test_an_empty_proposal_takes_no_name_of_a_tiny_annotation() -> None:
    """With nothing and one pixel the smoothed Dice cost is one half; with two sides of one, less
    than any threshold that lets half of a mask pass."""
    one = boxes((0, 0))
    one[0, 5, 5] = True
    labels = torch.tensor([3])
    strict = {"background": BACKGROUND, "size": 64, "threshold": 0.6}
    assert assign_labels(logits(boxes((0, 0))), one, labels, **strict).tolist() == [BACKGROUND]
    assert assign_labels(logits(one), one, labels, **strict).tolist() == [3]


def test_an_annotation_that_the_comparison_loses_names_nobody() -> None:
    one = torch.zeros(1, 640, 640, dtype=torch.bool)
    one[0, 1, 1] = True  # between the pixels of a tenth of the size
    found = assign_labels(
        logits(boxes((0, 0), (0, 64))), one, torch.tensor([3]), background=BACKGROUND, size=64
    )
    assert found.tolist() == [BACKGROUND, BACKGROUND]


def test_masks_of_no_numbers_are_background() -> None:
    nothing = torch.full((1, 64, 64), torch.nan)
    everything = boxes((0, 64))
    found = assign_labels(nothing, everything, torch.tensor([3]), background=BACKGROUND, size=64)
    assert found.tolist() == [BACKGROUND]


# In the stages


@pytest.fixture
def tuning(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> Any:
    def make(**changes: Any) -> TuneStage:
        settings = replace(JITTER, **changes)
        model, tokenizer = join(tiny_clip, tiny_proposer, settings)
        return TuneStage(model, tokenizer, CocoPanoptic(tiny_scenes, keep=is_base), settings)

    return make


def test_jittered_frames_give_no_name_to_an_empty_mask(
    tuning: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the proposals are empty, the others are the annotations themselves."""
    stage = tuning()
    lost = 0

    def propose(group: dict[str, Any]) -> list[Tensor]:
        return [torch.cat([logits(m), torch.full((len(m) + 1, 64, 64), -5.0)]) for m in group]

    def proposer(pixels: Tensor, inside: Tensor) -> Proposals:
        wanted = propose(masks)
        most = max(map(len, wanted))
        empty = torch.full((64, 64), -5.0)
        filled = [torch.cat([w, empty.expand(most - len(w), -1, -1)]) for w in wanted]
        return Proposals(torch.stack(filled), torch.zeros(len(wanted), most, 2))

    monkeypatch.setattr(stage.model, "propose", proposer)
    for step in range(15):
        batch = stage.batch(step)
        (group,) = batch["groups"]
        masks = group["masks"]
        assert all(bool(m.flatten(1).any(1).all()) for m in masks)
        assert [len(m) for m in masks] == [len(row) for row in group["labels"]]
        prepared, counts = stage.prepare(batch)
        (found,) = prepared["groups"]
        named = (found["targets"] != stage.background) & (found["targets"] != NOTHING)
        assert not (named & ~found["visible"].any(-1)).any()
        for row, labels in zip(found["targets"], group["labels"], strict=True):
            # By a threshold of 0.4 no annotation takes another's name for its own mask.
            assert row[: len(labels)].tolist() == labels.tolist()
            assert (row[len(labels) :] == stage.background).all()
        assert counts["matched"] == named.sum()
        lost += sum(map(len, group["labels"]))
    everything = sum(len(stage.dataset[i].category_ids) for i in range(12)) * 5
    assert lost < everything  # the frames did crop some away


def test_annotated_masks_that_see_nothing_are_taught_no_name(tuning: Any) -> None:
    stage = tuning(masks="ground-truth")
    for step in range(15):
        prepared, _ = stage.prepare(stage.batch(step))
        (group,) = prepared["groups"]
        taught = group["targets"] != NOTHING
        assert group["visible"][taught].any(-1).all()
        assert not group["visible"][~taught].any()


def test_thin_annotated_masks_are_taught(tuning: Any) -> None:
    stage = tuning(masks="ground-truth", augmentation="none")
    sample = stage.dataset[0]
    sample.masks[:] = False
    sample.masks[:, :, 7] = True
    group = stage.group([stage.frame(sample)], [sample])
    prepared, _ = stage.prepare({"groups": [group], "skipped": []})
    assert prepared["groups"][0]["visible"].any(-1).all()
    assert len(prepared["groups"][0]["targets"][0]) == len(sample.category_ids)


def test_frames_without_any_annotation_left_train(tuning: Any) -> None:
    for masks in ("proposals", "ground-truth", "both"):
        stage = tuning(masks=masks)
        sample = stage.dataset[0]
        sample.masks[:] = False
        frames = [stage.frame(sample), stage.frame(stage.dataset[1])]
        group = stage.group(frames, [sample, stage.dataset[1]])
        assert len(group["masks"][0]) == len(group["labels"][0]) == 0
        losses = batch_losses(stage, {"groups": [group], "skipped": []})
        assert losses["loss"].isfinite()
        assert losses["bare"] == 0.5  # and such pictures are counted


def test_stored_proposals_name_nothing_by_an_annotation_that_is_lost(
    tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tuning(augmentation="square", image_size=64)
    whole = stage.dataset[0]
    whole.masks[:] = False
    monkeypatch.setattr(type(stage.dataset), "__getitem__", lambda *_: whole)

    def nothing(pixels: Tensor, inside: Tensor) -> Proposals:
        return Proposals(torch.full((len(pixels), 3, 16, 16), -5.0), torch.zeros(len(pixels), 3, 2))

    monkeypatch.setattr(stage.model, "propose", nothing)
    cache = ProposalCache(tmp_path, stage)
    cache.fill(stage)
    assert (cache.read([(0, False), (0, True)])["targets"] == stage.background).all()


def test_what_was_stored_by_another_rule_is_refused(
    tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tuning(augmentation="square")
    monkeypatch.setattr("masqclip.training.proposal_cache._RULES", 1)
    ProposalCache(tmp_path, stage)
    monkeypatch.undo()
    with pytest.raises(MasqclipError, match="another release"):
        ProposalCache(tmp_path, stage)


def test_teacher_and_student_see_no_annotation_without_a_pixel(
    tiny_scenes: Path, tiny_proposer: Path
) -> None:
    changes = {"image_size": 64, "min_scale": 3.0, "max_scale": 8.0, "num_points": 64}
    dataset = CocoPanoptic(tiny_scenes, keep=is_base)
    config = Mask2FormerProposer.from_pretrained(tiny_proposer).config
    teacher = TeacherStage(
        dataset, config, TeacherSettings(**changes, batch_size=4, freeze_batch_norm=False)
    )
    student = DistillStage(
        dataset, tiny_proposer, DistillSettings(**changes, score_threshold=0.0, dice_threshold=2.0)
    )
    for stage in (teacher, student):
        for step in range(6):
            with torch.no_grad():
                prepared, _ = stage.prepare(stage.batch(step))
            assert all(bool(m.flatten(1).any(1).all()) for m in prepared["masks"])


def test_pictures_without_a_mask_to_learn_from_are_counted(
    tiny_scenes: Path, tiny_proposer: Path
) -> None:
    changes = {"image_size": 64, "num_points": 64, "batch_size": 4}
    dataset = CocoPanoptic(tiny_scenes, keep=is_base)
    config = Mask2FormerProposer.from_pretrained(tiny_proposer).config
    settings = TeacherSettings(**changes, freeze_batch_norm=False)
    strict = DistillSettings(**changes, score_threshold=1.0)  # nothing that is found counts
    for stage in (
        TeacherStage(dataset, config, settings),
        DistillStage(dataset, tiny_proposer, strict),
    ):
        batch = stage.batch(0)
        batch["masks"][2] = batch["masks"][2][:0]
        losses = batch_losses(stage, batch)
        assert losses["bare"] == 0.25
        assert losses["loss"].isfinite()


def test_a_teachers_mask_of_no_numbers_is_none(tiny_proposer: Path) -> None:
    teacher = Mask2FormerProposer.from_pretrained(tiny_proposer).eval()

    def broken(_: Tensor) -> Proposals:
        masks = torch.full((1, 2, 16, 16), 5.0)
        masks[0, 0] = torch.nan
        return Proposals(masks, torch.tensor([[[9.0, 0.0], [8.0, 0.0]]]))

    teacher.forward = broken  # type: ignore[method-assign,assignment]
    (found,) = teacher_masks(teacher, torch.zeros(1, 3, 64, 64))
    assert found.query_ids.tolist() == [1]
