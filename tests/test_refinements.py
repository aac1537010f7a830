"""Ways to read and name masks that are not as published: each by hand, and off by default."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from masqclip.assembly import least_object_score
from masqclip.clip.classifier import class_log_probs, clip_logits, geometric_mean
from masqclip.clip.patches import patch_visibility
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.proposals.base import object_log_scores, tempered
from masqclip.refinements import Refinements
from masqclip.segmenter import Segmenter

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def mini() -> Segmenter:
    """One of its own, as it is changed."""
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prun": 0.1}, "there is no refinement 'prun': it is one of patch_coverage, mask_from"),
        ({"prune": 1.5}, "prune is 1.5; it is a number from 0 to 1"),
        ({"prune": True}, "prune is True; it is a number from 0 to 1"),
        ({"trust": math.nan}, "trust is nan; it is a number from 0 to 1"),
        ({"mask_from_block": 1.0}, "mask_from_block is 1.0; it is a whole number, 0 to 256"),
        ({"mask_from_block": -1}, "mask_from_block is -1; it is a whole number, 0 to 256"),
        ({"patch_coverage": "soft"}, "patch_coverage is 'soft'; it is any or share"),
        ({"synonyms": 1}, "synonyms is '1'; it is mean or best"),
    ],
)
def test_what_is_no_refinement_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(MasqclipError) as refused:
        Refinements.read(given)
    assert str(refused.value).startswith(said)


def test_refinements_are_read_from_words_and_only_the_changed_are_kept() -> None:
    read = Refinements.parse(["prune = 0.05", "mask_from_block=3", "synonyms=best", "trust=0"])
    assert read == Refinements(prune=0.05, mask_from_block=3, synonyms="best")
    assert read.changed == {"prune": 0.05, "mask_from_block": 3, "synonyms": "best"}
    for words, said in (("prune", "sets no refinement"), ("trust=much", "it is a number")):
        with pytest.raises(MasqclipError, match=said):
            Refinements.parse([words])


def test_a_share_of_a_patch_is_what_of_it_is_covered() -> None:
    logits = torch.full((1, 1, 8, 8), -1.0)
    logits[..., :4, :2] = 1.0  # the left half of the upper left patch of 4 pixels
    seen = patch_visibility(logits, image_size=8, patch_size=4, share=True)
    assert seen.flatten().tolist() == [0.5, 0.0, 0.0, 0.0]
    assert patch_visibility(logits, image_size=8, patch_size=4).flatten().tolist() == [
        True, False, False, False,
    ]  # fmt: skip


def test_masks_see_all_before_the_block_from_which_they_are_masked(mini: Segmenter) -> None:
    """From behind the last block on all masks are one; from the first on, they are as published."""
    blocks = len(mini.model.queries.projections)
    encoded = {}
    for first in (0, blocks - 1, blocks):
        mini.refine({"mask_from_block": first})
        encoded[first] = mini.encode(PICTURE).mask_embeddings
    mini.refine()
    torch.testing.assert_close(mini.encode(PICTURE).mask_embeddings, encoded[0], rtol=0, atol=0)
    alike = encoded[blocks] - encoded[blocks][:1]
    assert alike.abs().max() < 1e-4
    assert (encoded[blocks - 1] - encoded[blocks - 1][:1]).abs().max() > 1e-2
    assert (encoded[blocks - 1] - encoded[0]).abs().max() > 1e-2


@torch.no_grad()
def test_both_ways_of_embedding_mask_from_the_same_block(mini: Segmenter) -> None:
    mini.refine({"mask_from_block": 2, "patch_coverage": "share"})
    encoded = mini.encode(PICTURE)
    again = mini.model.embed_masks(encoded.tokens, encoded.mask_logits[None])[0]
    torch.testing.assert_close(again, encoded.mask_embeddings, rtol=1e-4, atol=1e-4)


def test_a_sure_class_takes_from_the_doubt_of_the_object_score() -> None:
    objects = torch.tensor([[0.0, 0.0], [0.0, 0.0], [4.0, 0.0]])  # one half, one half, sure
    classes = torch.tensor([[0.8, 0.1], [0.1, 0.2], [0.5, 0.5]]).log()
    found = tempered(object_log_scores(objects), classes, 0.5).exp()
    nothing = objects.softmax(-1)[:, 1]
    torch.testing.assert_close(found, 1 - nothing * (1 - 0.5 * torch.tensor([0.8, 0.2, 0.5])))
    untouched = tempered(object_log_scores(objects), classes, 0.0)
    torch.testing.assert_close(untouched, object_log_scores(objects))
    assert tempered(object_log_scores(objects), classes[:, :0], 0.5).isfinite().all()


def test_no_proposal_is_left_out_that_a_sure_class_could_save() -> None:
    heard = least_object_score("panoptic", 0.6, trust=0.5)
    assert heard == pytest.approx(0.2)
    score = torch.tensor([heard]).log()
    assert tempered(score, torch.zeros(1, 1), 0.5).exp().item() == pytest.approx(0.6)
    assert least_object_score("panoptic", 0.3, trust=0.5) == 0.0
    assert least_object_score("panoptic", 0.3) == 0.3
    assert least_object_score("instance", 1.0, trust=1.0) == 0.0


def test_names_that_no_mask_of_a_picture_is_take_no_part_there() -> None:
    text = torch.eye(4)  # two names, a distractor, background
    masks = torch.tensor([[[3.0, 0, 0, 0], [3.0, 0, 0, 1.0]], [[0, 3.0, 0, 0], [3.0, 0, 0, 0]]])
    found = class_log_probs(masks, text, num_classes=2, logit_scale=5.0, prune=0.5).exp()
    logits = clip_logits(masks, text, logit_scale=5.0)
    without = torch.cat([logits[0, :, :1], logits[0, :, 2:]], dim=-1).softmax(dim=-1)
    torch.testing.assert_close(found[0, :, 0], without[:, 0])
    assert found[0, :, 1].tolist() == [0.0, 0.0]  # its second name is nowhere
    torch.testing.assert_close(found[1], logits[1].softmax(dim=-1)[:, :2])  # both are somewhere
    whole = class_log_probs(masks, text, num_classes=2, logit_scale=5.0, prune=0.0)
    torch.testing.assert_close(whole, logits.log_softmax(-1)[..., :2])
    assert class_log_probs(masks[:, :0], text, num_classes=2, prune=0.5).shape == (2, 0, 2)


def test_of_several_prompts_the_best_counts(mini: Segmenter) -> None:
    words = Vocabulary.parse({"car": ["car", "a red car"], "snake": []}, things=["car"])
    mean, apart = (mini.text.embed_vocabulary(words, synonyms=how) for how in ("mean", "best"))
    singles = F.normalize(mini.text.embed_strings(["car", "a red car", "snake"]), dim=-1)
    assert mean.ndim == 2
    assert apart.shape == (len(mean), 2, mean.shape[1])
    torch.testing.assert_close(apart[0], singles[:2])
    torch.testing.assert_close(apart[1], singles[2:].expand(2, -1))
    masks = torch.randn(1, 5, mean.shape[1])
    best = clip_logits(masks, singles[:2]).amax(dim=-1)
    torch.testing.assert_close(clip_logits(masks, apart)[..., 0], best)
    one = Vocabulary.parse(["car", "snake"])
    rows = mini.text.embed_vocabulary(one, synonyms="best")
    torch.testing.assert_close(rows, mini.text.embed_vocabulary(one))


def test_a_name_with_examples_has_one_row_whatever_counts(mini: Segmenter) -> None:
    shown = mini.example("car", PICTURE, np.ones((64, 64), bool))
    words = shown.joined(Vocabulary.parse({"snake": ["snake", "a long snake"]}))
    mean, apart = (mini.text.embed_vocabulary(words, synonyms=how) for how in ("mean", "best"))
    row = words.names.index("car")
    torch.testing.assert_close(apart[row], mean[row].expand(2, -1))


def test_two_answers_are_mixed_by_name() -> None:
    tuned = torch.tensor([[0.6, 0.2]]).log()
    own = torch.tensor([[0.1, 0.7]]).log()
    found = geometric_mean(tuned, own, torch.tensor([0.0, 0.5])).exp()
    raw = torch.tensor([[0.6, math.sqrt(0.2 * 0.7)]])
    torch.testing.assert_close(found, raw / raw.sum() * 0.8)  # as probable in all as before
    nothing = geometric_mean(tuned, own, torch.zeros(2))
    torch.testing.assert_close(nothing, tuned)


@torch.no_grad()
def test_clips_own_answer_counts_for_what_tuning_has_not_seen(mini: Segmenter) -> None:
    words = Vocabulary.parse(["car", "snake"])
    rows = mini.text.embed_vocabulary(words)
    encoded = mini.encode(PICTURE)
    _, tuned = encoded.named(mini.model, rows, 2, object_score=False)
    untuned = mini.model.embed_untuned(encoded.tokens, encoded.mask_logits[None])
    own = mini.model.classify(untuned, rows, 2)[0]
    assert (own - tuned).abs().max() > 0.1
    mini.refine({"untuned_unseen": 0.5})
    mini.model.config.tuned_names = ["Car "]
    _, mixed = encoded.named(mini.model, rows, 2, object_score=False, names=words.names)
    torch.testing.assert_close(mixed, geometric_mean(tuned, own, torch.tensor([0.0, 0.5])))


def test_a_refined_model_stays_so_in_its_folder(mini: Segmenter, tmp_path: Path) -> None:
    mini.refine({"trust": 0.5, "synonyms": "best"})
    mini.save_pretrained(tmp_path)
    again = Segmenter.from_pretrained(tmp_path, device="cpu")
    assert again.model.refinements == Refinements(trust=0.5, synonyms="best")
    again.refine()
    assert again.model.config.refinements == {}


def test_other_systems_and_other_projections_are_not_refined(mini: Segmenter) -> None:
    mini.model.config.own_projections = "qk"
    with pytest.raises(MasqclipError, match="need masks that read CLIP's own keys and values"):
        mini.refine({"untuned_seen": 0.4})
    mini.model.__class__ = type("Other", (type(mini.model),), {"system": "xpm"})
    with pytest.raises(MasqclipError, match="a model of the system 'xpm' has no refinements"):
        mini.refine({"prune": 0.1})
