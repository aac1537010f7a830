"""The stages of OpenSeg and XPM: what captions, words and pseudo-labels do in a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_runs import stage, steps
from torch import Tensor, nn

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoCaptions
from masqclip.errors import MasqclipError
from masqclip.proposals.base import object_log_scores
from masqclip.training.loop import Trainer
from masqclip.training.settings import LoopSettings
from masqclip.training.stage import batch_losses
from masqclip.training.systems import Ingredients

Make = Callable[..., Any]


def kept(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# OpenSeg


@pytest.fixture
def captioned(given: Ingredients, tiny_scenes: Path, tmp_path: Path) -> Any:
    """OpenSeg with three of eight pictures that have captions alone."""
    data = replace(given, caption_data=CocoCaptions(tiny_scenes))
    return stage(
        "openseg", data, tmp_path / "both", batch_size=8, caption_share=0.4, score_threshold=0.4
    )


def test_pictures_with_captions_alone_take_the_proposers_masks(captioned: Any) -> None:
    batch = captioned.batch(2)
    (group,) = batch["groups"]
    assert group["unannotated"] == [False] * 5 + [True] * 3
    assert all(len(masks) == 0 for masks in group["masks"][5:])
    proposed = captioned.model.propose(group["pixels"], group["inside"])
    scores = object_log_scores(proposed.object_logits).exp()
    count = sum(map(len, group["masks"]))
    prepared, totals = captioned.prepare(batch)
    for row in range(5, 8):
        sure = proposed.mask_logits[row][scores[row] > 0.4] > 0
        assert torch.equal(prepared["groups"][0]["masks"][row], sure)
        count += len(sure)
    assert float(totals["masks"]) == count
    rows = captioned._captioned_rows(2)
    captions = captioned.captions_at(2)
    assert captions[5:] == [captioned.caption_data.captions(row) for row in rows]
    assert len(captions) == len(batch["said"]) == 8


def test_the_masks_of_captioned_pictures_stay_those_of_the_start(captioned: Any) -> None:
    """The encoder that learns is the proposer's: who proposes is a copy of it."""
    batch = captioned.batch(0)
    before = captioned.prepare(captioned.batch(0))[0]["groups"][0]["masks"]
    own = captioned.model.proposer
    steps(captioned, 2)
    assert captioned.model.proposer is own
    after = captioned.prepare(batch)[0]["groups"][0]["masks"]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_a_batch_of_one_keeps_its_caption(
    given: Ingredients, tiny_scenes: Path, tmp_path: Path
) -> None:
    data = replace(given, caption_data=CocoCaptions(tiny_scenes))
    made = stage("openseg", data, tmp_path, batch_size=1)
    batch = made.batch(0)
    assert len(batch["said"]) == 1
    assert batch_losses(made, batch)["loss"].isfinite()


def test_openseg_adds_the_masks_loss(make: Make) -> None:
    made = make("openseg", mask_weight=0.3)
    found = batch_losses(made, made.batch(0))
    torch.testing.assert_close(found["loss"].detach(), found["captions"] + 0.3 * found["masks"])


def test_openseg_reads_every_word_or_those_of_a_list(given: Ingredients, tmp_path: Path) -> None:
    listed = stage("openseg", given, tmp_path / "listed").said
    assert len(listed.embeddings) == 149
    assert listed.of(("a rocket and an apple",)) == sorted(
        Vocabulary.parse("stickers").names.index(name) for name in ("apple", "rocket")
    )
    free = stage("openseg", replace(given, names=None), tmp_path / "free").said
    assert len(free.of(("a rocket and an apple",))) == 2
    empty = replace(given, names=None, captions=dict.fromkeys(given.captions, ("there is a",)))
    with pytest.raises(MasqclipError, match="no word that is no function word"):
        stage("openseg", empty, tmp_path / "empty")


@pytest.mark.parametrize("name", ["openseg", "xpm-captions"])
def test_words_that_no_caption_has(name: str, given: Ingredients, tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="none of 12 captions has a word of the vocabulary"):
        stage(name, replace(given, names=Vocabulary.parse("quark, gluon")), tmp_path)


# XPM


def test_the_students_noise_is_learned_for_a_while(make: Make, tmp_path: Path) -> None:
    made = make("xpm-student", noise_steps=1)
    trainer = Trainer(made, LoopSettings(steps=3, clip_norm=1.0, workers=0), device="cpu")
    levels = [kept(made.model.noise_head), kept(made.model.noise_bias)]
    heads = [kept(made.model.mask_head)]
    with closing(trainer.batches(0)) as batches:
        for step in range(3):
            trainer.step(step, next(batches))
            levels += [kept(made.model.noise_head), kept(made.model.noise_bias)]
            heads.append(kept(made.model.mask_head))

    def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
        return all(torch.equal(value, other[name]) for name, value in one.items())

    for part in (0, 1):  # weights, bias: after none, one, two and three steps
        first, *after = levels[part::2]
        assert not same(first, after[0])
        assert same(after[0], after[1])
        assert same(after[0], after[2])
    assert not same(heads[2], heads[3])


def test_pseudo_labels_are_the_teachers(make: Make) -> None:
    """Whatever the student has become."""
    made = make("xpm-student")
    with torch.no_grad():
        before, totals = made.prepare(made.batch(0))
        made.model.region_head[-1].bias.normal_()
        made.model.mask_head[-1].bias.normal_()
        after, _ = made.prepare(made.batch(0))
    said = sum(len(places) for places in before["said"])
    for one, other in zip(before["groups"], after["groups"], strict=True):
        for ours, theirs in zip(one["pseudo"], other["pseudo"], strict=True):
            assert torch.equal(ours, theirs)
    assert 0 < float(totals["pseudo"]) <= said


def test_the_teacher_learns_names_of_all_regions_and_masks_of_some(make: Make) -> None:
    made = make("xpm-teacher", dice_cost_threshold=0.95)
    batch, totals = made.prepare(made.batch(0))
    (group,) = batch["groups"]
    assert float(totals["shown"]) == (group["shows"] >= 0).sum() > 0
    group["shows"][:, ::2] = -1
    shown, rest = (int((found).sum()) for found in (group["shows"] >= 0, group["shows"] < 0))
    totals = {"shown": torch.tensor(shown), "weight": torch.tensor(shown + 0.2 * rest)}
    with torch.no_grad():
        found = made.model.regions(group["pixels"], group["inside"], group["proposed"])
        losses = made.annotated_losses(found, group, totals)
    names = shapes = weights = 0.0
    count = 0
    for b in range(4):
        small = torch.nn.functional.adaptive_avg_pool2d(group["masks"][b].float(), (16, 16))
        for q in range(10):
            shown = int(group["shows"][b, q])
            logits = torch.cat([found.named[b, q] @ made.words.T, torch.zeros(1)]).log_softmax(0)
            if shown < 0:
                names -= 0.2 * float(logits[-1])
                weights += 0.2
                continue
            names -= float(logits[group["labels"][b][shown]])
            weights, count = weights + 1, count + 1
            shapes += float(
                torch.nn.functional.binary_cross_entropy_with_logits(
                    found.mask_logits[b, q], small[shown]
                )
            )
    assert 0 < count < 40
    assert float(losses["mask"]) == pytest.approx(shapes / count, rel=1e-4)
    assert float(losses["loss"]) == pytest.approx(names / weights + shapes / count, rel=1e-4)


def test_pictures_of_captions_show_some_of_their_cells(make: Make) -> None:
    made = make("xpm-captions", cells=300)  # more than there are
    losses = batch_losses(made, made.batch(0))
    assert losses["loss"].isfinite()
    few = make("xpm-captions", cells=1)
    assert batch_losses(few, few.batch(0))["loss"].isfinite()
